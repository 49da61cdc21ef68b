"""The sum of the live row hashes, taken over one pass of the scrub while batches go on being written behind it.

The state hash is the sum over all live rows at one position; a pass takes thousands of slices, and the tables move on
between them. So the sum is always that of the rows up to where the pass is, as they are now: a slice adds what it
passes, and before rows are written that lie there, what they change of the sum is worked out from the rows that they
replace. Behind the last row it is the state hash of the position that the tables have, or a row is missing.

Rule: what the sum is of is in the table; nothing is taken from memory but what is about to be written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from cosessiond.store import reads
from cosessiond.store.behind import Step
from cosessiond.store.engine import Entry, EntryId
from cosessiond.store.schema import UNREADABLE

_MODULUS: Final = 1 << 128


class Sum:
    """Of one pass at a time; without one, or when a page could not be read, it says nothing."""

    def __init__(self) -> None:
        self._at: EntryId | None = None
        self._total = 0

    def begin(self, at: EntryId) -> None:
        """A pass is before the first row, which is behind `at`."""
        self._at, self._total = at, 0

    def passes(self, after: EntryId, hashes: Iterable[object], until: EntryId) -> None:
        """The rows behind `after` up to `until` have these hashes."""
        if self._at == after:
            self._at = until
            self._total += sum(map(_number, hashes))
        else:
            self._at = None  # of another pass

    def differs(self, at: EntryId, state_hash: bytes) -> bool:
        """Whether the pass, which is at its end behind `at`, has come to another sum."""
        return self._at == at and self._total % _MODULUS != int.from_bytes(state_hash)

    def end(self) -> None:
        """No pass is among the rows any more."""
        self._at = None

    def change(self, db: sqlite3.Connection, steps: Iterable[Step]) -> int:
        """What `steps`, which are about to be written, will change of the sum."""
        if self._at is None:
            return 0
        left: dict[EntryId, Entry | None] = {}
        for step in steps:
            left.update(step.entries)
        change = 0
        try:
            for id, entry in left.items():
                if id <= self._at:
                    change += _number(entry.hash if entry else b"") - _number(reads.entry_hash(db, id))
        except UNREADABLE:
            self._at = None
        return change

    def changed(self, change: int) -> None:
        """They are written."""
        self._total += change


def _number(hash: object) -> int:
    """What is no hash counts as no row: the row is told by itself."""
    return int.from_bytes(hash) if isinstance(hash, bytes) else 0
