"""Whether the versions of one entry follow one another without a gap.

SQLite finds a row by pages that no hash covers: where one of them is damaged a search comes back with an older row, or
with none, and says nothing. But within one life of an entry the numbers of its versions are dense, each life begins
with version 1 behind a deletion, and the newest version is what memory has, which was verified at the start. So a row
that a search did not find leaves a gap, wherever it is looked at from.

A store that was salvaged has such gaps, and says so. Its epoch began at a multiple of `EPOCH_STEP`, so that nothing is
held against a row that lies before the last one that the store has passed (`since`).

Rule: pure. It is told rows, never looks for them, and takes a gap for damage only where nothing explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from cosessiond.store.engine import Entry, EntryId, StoreDamaged

#: Epochs begin at multiples of this: far above what a lost tail can have held, and easy to see.
EPOCH_STEP: Final = 1 << 20
#: Above every revision.
REVISION_END: Final = 2**63 - 1


class Link(NamedTuple):
    """What a version says of its place among the others."""

    mod_revision: int
    kind: str
    version: int
    create_revision: int

    @property
    def begins(self) -> bool:
        """Whether the key was absent before it."""
        return self.kind == "put" and self.version == 1

    def follows(self, older: Link) -> bool:
        """Whether `older` is what stood just before it."""
        if self.begins:
            return older.kind != "put"
        is_next = self.kind != "put" or self.version == older.version + 1
        return older.kind == "put" and older.create_revision == self.create_revision and is_next


class Standing(NamedTuple):
    """What is known of an entry besides its rows: what memory has of it (None: absent), and `since`."""

    live: Entry | None
    since: int


def since_of(revision: int) -> int:
    """Where an epoch can have begun last, in a store that stands at `revision`."""
    return revision // EPOCH_STEP * EPOCH_STEP


def check(id: EntryId, rows: Sequence[Link], *, since: int, is_cut: bool) -> None:
    """`rows` are said to be neighbours, newest first, and unless `is_cut` the last one to be the first there was.

    Raises StoreDamaged.
    """
    for newer, older in pairwise(rows):
        if not newer.follows(older) and older.mod_revision >= since:
            raise _gap(id, newer.mod_revision)
    if rows and not is_cut and not rows[-1].begins and rows[-1].create_revision >= since:
        raise _gap(id, rows[-1].mod_revision)


def check_newest(id: EntryId, newest: Link | None, standing: Standing) -> None:
    """`newest` is said to be the newest row there is of an entry. Raises StoreDamaged."""
    live, found = standing.live, newest.mod_revision if newest else 0
    if live is None:
        is_gone = newest is not None and newest.kind == "put" and found >= standing.since
    else:
        is_gone = found != live.mod_revision >= standing.since
    if is_gone:
        raise StoreDamaged(f"cannot trust the store: the newest version of {id[2]!r} is missing")


def _gap(id: EntryId, revision: int) -> StoreDamaged:
    return StoreDamaged(f"cannot trust the store: the version of {id[2]!r} before revision {revision} is missing")
