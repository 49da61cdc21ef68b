"""Dropping what the two retentions no longer ask for, a bounded amount of work at a time.

The oldest batch goes in three steps. First, for each entry that it changed, the versions before it that are not among
the newest: nobody can ask for them once the window begins at this batch, which it does already. Then its log row, so
that the window begins at the next one; and in the same transaction the history of each key that it deleted and that was
not put again by then (`store.ended`). So a slice may end before any batch, and in the first step anywhere, and after a
crash the same batch is simply looked at again.

Work is counted in rows, and a page of a value as one more, since SQLite writes zeros over every page it frees.

Rule: a read at `compact_revision` or above gives the same answer before and after, and so does `history` while that
does not move.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cosessiond.store import reads
from cosessiond.store.behind import Behind
from cosessiond.store.ended import PAGE_BYTES, Ended
from cosessiond.store.engine import Surplus, Window

_OLDEST: Final = "SELECT revision, body, hash FROM log WHERE revision >= ? ORDER BY revision LIMIT ?"
_DROP_LOG: Final = "DELETE FROM log WHERE revision < ?"


class Trimming:
    """What is to go, and how far the oldest batch has been dealt with."""

    def __init__(self, db: sqlite3.Connection, window: Window, behind: Behind) -> None:
        self._db = db
        self._window = window
        self.ended = Ended(db, behind, window)
        self._floor = 0  # batches below are asked to go although the window has room for them
        self._looked = self._next = (0, 0)  # of the changes of this revision, so many need no second look

    def compact(self, revision: int) -> None:
        """See `Engine.compact`."""
        self._floor = max(self._floor, revision)

    def surplus(self, meta: reads.Meta) -> Surplus:
        """See `Engine.surplus`."""
        kept = meta.revision - meta.compact_revision + 1
        if kept <= 1:  # the newest batch always stays
            return Surplus(ended=self.ended.left)
        return Surplus(
            max(0, kept - self._window.log_revisions),
            max(0, meta.log_bytes - self._window.log_bytes),
            max(0, min(self._floor, meta.revision) - meta.compact_revision),
            self.ended.left,
        )

    def trim(self, meta: reads.Meta, settled: reads.Meta, rows_max: int) -> int:
        """About `rows_max` rows of work in the transaction of the caller, who says `keep` when that has committed;
        returns how much was done.

        Moves both positions on, that of the store and that of the tables, which is recorded; its batch stays.
        """
        self.ended.begin()
        done = self.ended.drop(rows_max)
        self._next = self._looked
        if done < rows_max and self.surplus(meta).of_the_log:
            dropped, self._next = self._drop_batches(meta, settled, rows_max - done)
            done += dropped
        if done < rows_max:
            done += self.ended.sweep(meta.compact_revision, rows_max - done)
        return max(done, 1)

    def keep(self) -> None:
        """What was trimmed last is gone for good."""
        self.ended.keep()
        self._looked = self._next

    def _drop_batches(self, meta: reads.Meta, settled: reads.Meta, rows_max: int) -> tuple[int, tuple[int, int]]:
        """The oldest batches; how much work that was, and how far the last one was looked at."""
        db = self._db
        begin = meta.compact_revision
        assert begin < settled.revision, "what follows from a batch is written before it goes"
        revision, looked = self._looked
        done = 0
        for revision, body, digest in db.execute(_OLDEST, (begin, rows_max)):  # it stays where this ends
            changes = reads.decode_body(revision, body).changes
            looked = looked if revision == self._looked[0] else 0
            while looked < len(changes) and done < rows_max:
                rows, is_last = self.ended.drop_surplus(changes[looked].id, revision, rows_max - done)
                done += rows + 1
                looked += is_last
            pages = len(body) // PAGE_BYTES
            deleted = [change.id for change in changes if change.kind != "put"]
            if looked < len(changes) or (done and done + pages + len(deleted) > rows_max):
                break
            done += pages
            for id in deleted:
                done += self.ended.end(id, revision, rows_max - done)
            for each in (meta, settled):
                each.compact_revision, each.anchor_hash = revision + 1, digest
                each.log_bytes -= len(body)
            if done >= rows_max or revision + 1 >= settled.revision or not self.surplus(meta).of_the_log:
                break
        if meta.compact_revision > begin:
            db.execute(_DROP_LOG, (meta.compact_revision,))
            reads.write_meta(db, settled)
        return done, (revision, looked)
