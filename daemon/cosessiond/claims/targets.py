"""What can be claimed: files by path or glob in one worktree, names of a project, names of the machine.

Rule: pure; a target is text that the client has resolved, and here it is only read. Targets of different kinds never
overlap, nor do paths of different worktrees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

from cosession.errors import InvalidRequest, TooLarge
from cosession.messages.limits import CLAIM_TARGETS_MAX, TARGET_BYTES_MAX, TEXT_BYTES_MAX
from cosessiond.claims.globs import Glob, overlap, parse, weight

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHOWN_MAX: Final = 128
#: Pairs of overlapping targets that an answer shows, and the work of looking for more than the first.
PAIRS_MAX: Final = 8
PAIRS_COST: Final = 1_024

Kind = Literal["path", "name", "machine"]
KINDS: Final[tuple[Kind, ...]] = ("path", "name", "machine")


class Target(NamedTuple):
    """One target as it was sent, and read. `glob` is None unless it is a path; `weight` is what comparing it costs."""

    text: str
    kind: Kind
    glob: Glob | None
    weight: int


class Targets(NamedTuple):
    """All targets of one claim; `worktree` is "" when none is a path. `weight` is the sum of theirs."""

    worktree: str
    each: tuple[Target, ...]
    weight: int

    @property
    def on_machine(self) -> bool:
        """Whether they are of the machine and so of no project."""
        return self.each[0].kind == "machine"


def read(texts: Sequence[str], worktree: str) -> Targets:
    """The targets in `texts`. Raises InvalidRequest and TooLarge."""
    if not texts:
        raise InvalidRequest("cannot claim nothing: name at least one target")
    if len(texts) > CLAIM_TARGETS_MAX:
        raise TooLarge(
            f"cannot claim {len(texts)} targets at once: the limit is {CLAIM_TARGETS_MAX}; use fewer, wider globs",
            data={"size": len(texts), "limit": CLAIM_TARGETS_MAX},
        )
    each = tuple(_read_one(text) for text in dict.fromkeys(texts))
    kinds = {target.kind for target in each}
    if "machine" in kinds and len(kinds) > 1:
        raise InvalidRequest("cannot claim these together: names of the machine belong to no project; use two claims")
    if "path" not in kinds:
        worktree = ""
    elif not worktree.startswith("/") or len(worktree.encode()) > TEXT_BYTES_MAX or _CONTROL.search(worktree):
        raise InvalidRequest("cannot claim a path: `worktree` must be the absolute path of its root; name it")
    return Targets(worktree, each, sum(target.weight for target in each))


#: Two targets, one of each claim.
Pair = tuple[str, str]


def pairs(one: Targets, other: Targets, first: Pair) -> list[Pair]:
    """The pairs of targets that overlap, at most PAIRS_MAX; only the `first`, which is known, where more is costly."""
    if cost(one, other) > PAIRS_COST:
        return [first]
    found = (pair for _, pair in compared(one, other) if pair is not None)
    return list(islice(found, PAIRS_MAX))


def compared(one: Targets, other: Targets) -> Iterator[tuple[int, Pair | None]]:
    """Each target of the one with each of the other: about how many steps that took, and the pair if it overlaps."""
    beside = one.worktree == other.worktree
    for a in one.each:
        for b in other.each:
            steps = 1 + a.weight * b.weight // 16 if beside else 1
            yield steps, (a.text, b.text) if _meet(a, b, beside) else None


def meet(one: Targets, other: Targets) -> bool:
    """Whether any target of the one overlaps any of the other."""
    return any(pair is not None for _, pair in compared(one, other))


def cost(one: Targets, other: Targets) -> int:
    """About how many steps comparing all of them takes at most."""
    if one.worktree != other.worktree:
        return len(one.each) * len(other.each)
    return len(one.each) * len(other.each) + one.weight * other.weight // 16


def _meet(a: Target, b: Target, beside: bool) -> bool:  # noqa: FBT001 - a fact, worked out once
    if a.kind != b.kind:
        return False
    if a.glob is None or b.glob is None:
        return a.text == b.text
    return beside and overlap(a.glob, b.glob)


def _read_one(text: str) -> Target:
    kind, colon, name = text.partition(":")
    shown = repr(text[:_SHOWN_MAX])
    if not colon or kind not in KINDS:
        raise InvalidRequest(f"cannot claim {shown}: a target begins with {', '.join(f'{each}:' for each in KINDS)}")
    if not name or _CONTROL.search(name):
        raise InvalidRequest(f"cannot claim {shown}: what follows {kind}: must be printable text; name it")
    size = len(name.encode())
    if size > TARGET_BYTES_MAX:
        raise TooLarge(
            f"cannot claim {shown}: it has {size} bytes, the limit is {TARGET_BYTES_MAX}; shorten it",
            data={"size": size, "limit": TARGET_BYTES_MAX},
        )
    if kind != "path":
        return Target(text, "name" if kind == "name" else "machine", None, 0)
    glob = parse(name)
    return Target(text, "path", glob, weight(glob))
