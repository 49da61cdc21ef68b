"""What changed from one value of an entry to the next, in a few words: `step: 2 -> 3, +owner: "otter"`.

Rule: for people only, so what it leaves out it marks; never a value that an object did not change.
"""

from __future__ import annotations

from cosession.cli import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Changes named of one value; then it is said that there are more.
CHANGES_MAX = 12
OLD_CELLS_MAX = 24
#: Values remembered, by their size as JSON.
REMEMBERED_BYTES_MAX = 4 * 1024 * 1024


class Remembered:
    """The last value of each entry seen, the newest of them within bounds."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, int]] = {}
        self._bytes = 0

    def clear(self) -> None:
        """Nothing seen so far counts any more."""
        self._values.clear()
        self._bytes = 0

    def forget(self, key: str) -> None:
        """The entry is gone."""
        self._bytes -= self._values.pop(key, (None, 0))[1]

    def shown(self, key: str, value: Any) -> str:
        """The value for people: what changed of it where an earlier one is known; it is known from now on."""
        whole = render.brief(value)
        known = key in self._values
        before = self._values[key][0] if known else None
        self.forget(key)
        self._values[key] = (value, len(whole))
        self._bytes += len(whole)
        while self._bytes > REMEMBERED_BYTES_MAX:
            self.forget(next(iter(self._values)))
        return (changed(before, value) or whole) if known else whole


def changed(before: Any, after: Any) -> str:
    """What differs, "" where the new value itself says it best."""
    if _is_same(before, after):
        return "(the same value)"
    if isinstance(after, str) or not isinstance(before, type(after)):
        return ""
    if isinstance(after, (dict, list)):
        words: list[str] = []
        for each in _differences("", before, after):
            if len(words) == CHANGES_MAX:
                words.append("...")
                break
            words.append(each)
        return ", ".join(words)
    return f"{render.brief(before)} -> {render.brief(after)}"


def _differences(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        inner = f"{path}." if path else ""
        for name, value in after.items():
            where = f"{inner}{render.escape(name)}"
            if name not in before:
                yield f"+{where}: {render.json_text(value)}"
            elif not _is_same(before[name], value):
                yield from _differences(where, before[name], value)
        yield from (f"-{inner}{render.escape(name)}" for name in before if name not in after)
    elif isinstance(before, list) and isinstance(after, list) and _is_same(before, after[: len(before)]):
        for value in after[len(before) :]:
            yield f"{path or 'list'}: +{render.json_text(value)}"
    else:
        old = render.cut(render.json_text(before), OLD_CELLS_MAX)
        yield f"{path}: {old} -> {render.json_text(after)}" if path else f"{old} -> {render.json_text(after)}"


def _is_same(one: Any, other: Any) -> bool:
    """Equal as JSON, where true is no number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
