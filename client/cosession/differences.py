"""What differs between two JSON values, as changes that make the one into the other.

A change is (op, path, old, new): op is `add`, `remove` or `replace`, path a JSON pointer (RFC 6901), old and new the
values, None where there is none. Carried out in order they are a JSON patch (RFC 6902) that makes `old` into `new`.

Objects are compared by member, lists by index, after what they begin and end with alike was set aside: so elements that
were put in or taken out at one place show as just that, and those behind it as unchanged. When two such places lie
apart, what is between them is compared by index as well. Everything else is one value and is replaced whole.

Rule: pure, over JSON data; light, since the command line uses it too. 1 and 1.0 and true are three values.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal

    Op = Literal["add", "remove", "replace"]
    Changed = tuple[Op, str, Any, Any]


class Absent:
    """No value at all, which is not null. `ABSENT` is the only one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


def difference(old: Any, new: Any) -> list[Changed]:
    """The changes from `old` to `new`; either may be ABSENT."""
    return list(_changes("", old, new))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON data; the order of members does not count."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def member(path: str, name: str) -> str:
    """The pointer to a member of what `path` points to."""
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"


def element(path: str, index: int) -> str:
    """The pointer to an element of what `path` points to."""
    return f"{path}/{index}"


def alike(old: list[Any], new: list[Any]) -> tuple[int, int]:
    """How many elements two lists begin with alike, and how many of the others they end with alike."""
    most = min(len(old), len(new))
    begin = 0
    while begin < most and same(old[begin], new[begin]):
        begin += 1
    end = 0
    while end < most - begin and same(old[-1 - end], new[-1 - end]):
        end += 1
    return begin, end


def _changes(path: str, old: Any, new: Any) -> Iterator[Changed]:
    if old is ABSENT or new is ABSENT:
        if new is not ABSENT:
            yield "add", path, None, new
        elif old is not ABSENT:
            yield "remove", path, old, None
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _changes(member(path, name), old.get(name, ABSENT), new.get(name, ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_changes(path, old, new)
    elif not same(old, new):
        yield "replace", path, old, new


def _list_changes(path: str, old: list[Any], new: list[Any]) -> Iterator[Changed]:
    begin, end = alike(old, new)
    old_end, new_end = len(old) - end, len(new) - end
    paired = min(old_end, new_end)
    for index in range(begin, paired):
        yield from _changes(element(path, index), old[index], new[index])
    for index in reversed(range(paired, old_end)):  # from the end, so that each index is still right
        yield "remove", element(path, index), old[index], None
    for index in range(paired, new_end):
        yield "add", element(path, index), None, new[index]
