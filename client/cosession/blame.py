"""Who wrote each part of a value: for each leaf, the newest version that changed it.

A leaf is what has no parts: a scalar, or an empty object or list. The versions are gone through from the oldest to the
newest, and each marks what it changed; so a merge, an addition or a put that repeats most of what was there marks
only what is different. Lists are compared as in `differences`: elements keep their mark when others are put in before.

Rule: pure, over JSON data; light, since the command line uses it too. What the oldest kept version may have found
there already is marked by nobody, unless that version began the entry; and so is what follows a version whose value was
purged.
"""

from __future__ import annotations

from cosession.differences import alike, element, member, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

#: A mark of a leaf is the number of a version, UNKNOWN before the oldest; of an object or list the marks of its parts.
UNKNOWN = -1
#: A version whose value nobody can compare with any more.
PURGED = "purged"


def attributed(kinds: Sequence[str], values: Sequence[Any], numbers: Sequence[int]) -> list[tuple[str, Any, int]]:
    """(path, value, index of the version or UNKNOWN) of every leaf of the newest of these versions, newest first.

    `kinds`: see `kind_of`; `numbers`: counted within one life of the entry. Empty when the newest is an
    end or there is none.
    """
    value: Any = None
    marks: Any = None
    alive = hidden = False
    for index in reversed(range(len(values))):
        if kinds[index] != "put":
            alive, hidden = False, kinds[index] == PURGED
        elif alive:
            marks = _marked(value, marks, values[index], index)
            value = values[index]
        else:
            value = values[index]
            is_older = hidden or (index == len(values) - 1 and numbers[index] > 1)
            marks = _all_marked(value, UNKNOWN if is_older else index)
            alive = True
    return list(_leaves("", value, marks)) if alive else []


def kind_of(kind: str, *, purged: bool) -> str:
    """What a version is for `attributed`: "put", PURGED, or the kind of an end."""
    return PURGED if purged else kind


def below(path: str, prefix: str) -> bool:
    """Whether `path` points to `prefix` or a part of it."""
    return path == prefix or path.startswith(prefix + "/")


def _marked(old: Any, marks: Any, new: Any, mark: int) -> Any:
    """The marks of `new`, which version `mark` made of `old`."""
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        return {
            name: _marked(old[name], marks[name], value, mark) if name in old else _all_marked(value, mark)
            for name, value in new.items()
        }
    if isinstance(old, list) and isinstance(new, list) and old and new:
        begin, end = alike(old, new)
        found = list(marks[:begin])
        for index in range(begin, len(new) - end):
            is_paired = index < len(old) - end
            found.append(
                _marked(old[index], marks[index], new[index], mark) if is_paired else _all_marked(new[index], mark)
            )
        return [*found, *marks[len(old) - end :]]
    return marks if same(old, new) else _all_marked(new, mark)


def _all_marked(value: Any, mark: int) -> Any:
    if isinstance(value, dict) and value:
        return {name: _all_marked(part, mark) for name, part in value.items()}
    if isinstance(value, list) and value:
        return [_all_marked(part, mark) for part in value]
    return mark


def _leaves(path: str, value: Any, marks: Any) -> Iterator[tuple[str, Any, int]]:
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(member(path, name), part, marks[name])
    elif isinstance(value, list) and value:
        for index, part in enumerate(value):
            yield from _leaves(element(path, index), part, marks[index])
    else:
        yield path, value, marks
