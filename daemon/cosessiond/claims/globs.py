"""Whether two path globs can name the same file, decided without trying anything twice.

A glob is a path of segments; `*` stands for any characters of one segment, `?` for one, `[a-z]` and `[!a-z]` for one of
a class, and a segment `**` for any number of whole segments. Names that begin with a dot are names like others: a claim
is to protect too much rather than too little. A glob that ends in `/**` names what lies below, not the directory.

Segments and whole paths are the same thing at two scales: sequences of items with gaps in them, cut at the gaps into
chunks (`Sequence`). That makes overlap simple. Where both have a gap, what stands before the first and after the last
is all that can disagree: whatever is between fits one after the other into the gaps. Where one has none, its length is
fixed, and the chunks of the other are placed in it from the left, each as early as it fits, as in matching a wildcard;
what fits is found for all places at once in the bits of one integer (shift-and, Baeza-Yates and Gonnet 1992). There is
no backtracking, and the space is linear in the two globs.

Rule: pure; overlap is symmetric, and exact but for case, which the caller folds where the file system does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

from cosession.errors import InvalidRequest

_LAST: Final = 0x10FFFF
_SLASH: Final = ord("/")
_SHOWN_MAX: Final = 128
#: A class `[...]`, whose first character may be `]`, or one character of any other kind.
_PARTS: Final = re.compile(r"\[(?P<negated>[!^]?)(?P<members>\]?[^\]]*)\]|(?P<one>.)", re.DOTALL)

#: Ranges of code points, ascending and apart: what may stand at one place.
Characters = tuple[tuple[int, int], ...]
Item = TypeVar("Item", bound=Hashable)

ANY: Final[Characters] = ((0, _SLASH - 1), (_SLASH + 1, _LAST))


class Sequence(NamedTuple, Generic[Item]):
    """Items with gaps: one chunk has none, each further chunk follows a gap of any length."""

    chunks: tuple[tuple[Item, ...], ...]


Segment = Sequence[Characters]
Glob = Sequence[Segment]

ANY_SEGMENT: Final[Segment] = Sequence(((ANY,), ()))


@lru_cache(maxsize=4096)
def parse(text: str) -> Glob:
    """The glob in `text`, a relative path of the form that `paths` leaves: no empty segment, no `.`, no `..`.

    Raises InvalidRequest for what is no such path, an open or empty class, and a reversed range. Its length is the
    caller's to bound (TARGET_BYTES_MAX): it bounds what everything here costs.
    """
    names = text.split("/")
    for name in names:
        if name in {"", ".", ".."}:
            raise _wrong(text, f"a segment is {name!r}", "give a path inside the project, relative to its root")
    chunks: list[list[Segment]] = [[]]
    for name, following in zip(names, [*names[1:], None], strict=True):
        if name != "**":
            chunks[-1].append(_segment(name, text))
            continue
        if following is None:
            chunks[-1].append(ANY_SEGMENT)  # what lies below has at least one name more
        chunks.append([])
    return Sequence(tuple(map(tuple, chunks)))


def overlap(one: Glob, other: Glob) -> bool:
    """Whether there is a path that both name."""
    return _meet(one, other, _segments_meet)


def weight(glob: Glob) -> int:
    """How many items it has: comparing two globs takes about the product of theirs. 0 for one plain path, which is
    compared by equality.
    """
    items = [item for chunk in glob.chunks for segment in chunk for part in segment.chunks for item in part]
    return 0 if is_plain(glob) else len(items) + 1


def is_plain(glob: Glob) -> bool:
    """Whether it names exactly one path."""
    if len(glob.chunks) > 1:
        return False
    return all(len(segment.chunks) == 1 and all(map(_is_single, segment.chunks[0])) for segment in glob.chunks[0])


def _segment(name: str, text: str) -> Segment:
    if name == "*":
        return ANY_SEGMENT  # a name has at least one character
    chunks: list[list[Characters]] = [[]]
    for part in _PARTS.finditer(name):
        one = part["one"]
        if one == "*":
            chunks.append([])
        elif one == "?":
            chunks[-1].append(ANY)
        elif one == "[":
            raise _wrong(text, "a class is not closed", "end it with ], or write [[] for the character itself")
        elif one is not None:
            chunks[-1].append(((ord(one), ord(one)),))
        else:
            chunks[-1].append(_class(part["members"], negated=bool(part["negated"]), text=text))
    return Sequence(tuple(map(tuple, chunks)))


def _class(members: str, *, negated: bool, text: str) -> Characters:
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < len(members):
        first = last = members[at]
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            last = members[at + 2]
            at += 2
        if first > last:
            raise _wrong(text, f"the range {first}-{last} is reversed", "write the lower end first")
        ranges.append((ord(first), ord(last)))
        at += 1
    wanted = _complement(_merged(ranges)) if negated else _merged(ranges)
    found = _both(wanted, ANY)  # a class never stands for a slash
    if not found:
        raise _wrong(text, "a class has no characters", "name at least one that is not a slash")
    return found


def _wrong(text: str, why: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f"cannot claim {text[:_SHOWN_MAX]!r}: {why}; {remedy}", data={"glob": text[:_SHOWN_MAX]})


# -------------------------------------------------------------------------------------------------------- characters


def _merged(ranges: list[tuple[int, int]]) -> Characters:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _complement(ranges: Characters) -> Characters:
    left = []
    start = 0
    for low, high in ranges:
        if start < low:
            left.append((start, low - 1))
        start = high + 1
    if start <= _LAST:
        left.append((start, _LAST))
    return tuple(left)


def _both(one: Characters, other: Characters) -> Characters:
    found = []
    i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low <= high:
            found.append((low, high))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def _is_single(characters: Characters) -> bool:
    return len(characters) == 1 and characters[0][0] == characters[0][1]


def _characters_meet(one: Characters, other: Characters) -> bool:
    if len(one) == 1 and len(other) == 1:
        return one[0][0] <= other[0][1] and other[0][0] <= one[0][1]
    return one == other or bool(_both(one, other))


@lru_cache(maxsize=65_536)
def _segments_meet(one: Segment, other: Segment) -> bool:
    return one == other or _meet(one, other, _characters_meet)


# --------------------------------------------------------------------------------------------------------- sequences


def _meet(one: Sequence[Item], other: Sequence[Item], same: Callable[[Item, Item], bool]) -> bool:
    """Whether one sequence of items can be read as both, where `same` says it of two items."""
    if len(one.chunks) == 1 and len(other.chunks) == 1:
        a, b = one.chunks[0], other.chunks[0]
        return len(a) == len(b) and all(map(same, a, b))
    if len(one.chunks) > 1 and len(other.chunks) > 1:
        heads = zip(one.chunks[0], other.chunks[0], strict=False)
        tails = zip(reversed(one.chunks[-1]), reversed(other.chunks[-1]), strict=False)
        return all(same(a, b) for a, b in heads) and all(same(a, b) for a, b in tails)
    if len(one.chunks) == 1:
        return _placed(one.chunks[0], other.chunks, same)
    return _placed(other.chunks[0], one.chunks, same)


def _placed(fixed: tuple[Item, ...], chunks: tuple[tuple[Item, ...], ...], same: Callable[[Item, Item], bool]) -> bool:
    """Whether the chunks can stand in `fixed` in their order: the first at its start, the last at its end."""
    head, *middle, tail = chunks
    if len(head) + len(tail) > len(fixed):
        return False
    end = len(fixed) - len(tail)
    if not all(map(same, head, fixed)) or not all(map(same, tail, fixed[end:])):
        return False
    start = len(head)
    for chunk in middle:
        start = _first_end(chunk, fixed, start, end, same)
        if start < 0:
            return False
    return True


def _first_end(
    chunk: tuple[Item, ...], fixed: tuple[Item, ...], start: int, end: int, same: Callable[[Item, Item], bool]
) -> int:
    """Where the first occurrence of `chunk` in `fixed[start:end]` ends, -1 when there is none."""
    if not chunk:
        return start
    whole = 1 << (len(chunk) - 1)
    places: dict[Item, int] = {}  # of the different items of the chunk
    for k, wanted in enumerate(chunk):
        places[wanted] = places.get(wanted, 0) | 1 << k
    masks: dict[Item, int] = {}
    fits = 0  # bit k: the first k + 1 items of the chunk end here
    for at in range(start, end):
        item = fixed[at]
        if item not in masks:
            masks[item] = sum(mask for wanted, mask in places.items() if same(wanted, item))
        fits = ((fits << 1) | 1) & masks[item]
        if fits & whole:
            return at + 1
    return -1
