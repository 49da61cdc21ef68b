"""The shape of an answer, and where two differ in it: which members there are, of which kind, not what they say.

Rule: pure. What differs from run to run (times, revisions, ids) has the same shape; the code of an error is part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: What the shape of something is told by, up to here; below that it counts as equal.
DEPTH_MAX = 32
#: Differences that are told of one answer.
DIFFERENCES_MAX = 20
#: Members whose words are a choice of the protocol, so that another word is another answer.
WORDS = ("code", "kind", "state", "ending", "liveness", "outcome")
#: Members that hold what somebody stored, or maps of numbers that come and go: they may be anything.
FREE = ("value", "counters", "config", "data", "facts")


def differences(was: Any, now: Any) -> list[str]:
    """Where `now` is not of the shape of `was`, each as "PATH: was, is"; at most DIFFERENCES_MAX."""
    found: list[str] = []
    for each in _compare("", was, now, DEPTH_MAX):
        if len(found) == DIFFERENCES_MAX:
            found.append("...")
            break
        found.append(each)
    return found


def _compare(path: str, was: Any, now: Any, depth: int) -> Iterator[str]:
    if kind(was) != kind(now):
        yield f"{path or 'it'}: was {kind(was)}, is {kind(now)}"
    elif not depth:
        return
    elif isinstance(was, dict):
        for name in was:
            where = f"{path}.{name}" if path else name
            if name not in now:
                yield f"{where}: is gone"
            elif name in WORDS and isinstance(was[name], str) and was[name] != now[name]:
                yield f"{where}: was {was[name]!r}, is {now[name]!r}"
            elif name not in FREE:
                yield from _compare(where, was[name], now[name], depth - 1)
        for name in now:
            if name not in was:
                yield f"{path}.{name}: is new" if path else f"{name}: is new"
    elif isinstance(was, list) and was and now:
        yield from _compare(f"{path}[]", was[0], now[0], depth - 1)


def kind(value: Any) -> str:
    """In one word; an integer is a number like any other."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "list" if isinstance(value, list) else "map"
