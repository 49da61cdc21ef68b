"""Dropping what the two retentions no longer ask for, a bounded amount of work at a time.

The oldest batch goes in two steps. First, for each entry that it changed, the versions before it that are not among the
newest: nobody can ask for them once the window begins at this batch, which it does already. Then its log row, and the
window begins at the next one. So a slice may end anywhere, and after a crash the same batch is simply looked at again.

Work is counted in rows, and a page of a value as one more, since SQLite writes zeros over every page it frees.

Rule: a read at `compact_revision` or above gives the same answer before and after, and so does `history`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cosessiond.store import reads
from cosessiond.store.engine import EntryId, Surplus, Window

#: What frees about as much as a small row costs.
PAGE_BYTES: Final = 4096

_OLDEST: Final = "SELECT revision, body, hash FROM log WHERE revision >= ? ORDER BY revision LIMIT ?"
_DROP_LOG: Final = "DELETE FROM log WHERE revision < ?"
_OF: Final = "FROM versions WHERE space = ?1 AND project = ?2 AND key = ?3"
_SURPLUS_VERSIONS: Final = (
    f"SELECT rowid, length(value) {_OF} AND mod_revision < ?4 AND mod_revision <"  # of constants
    f" (SELECT mod_revision {_OF} ORDER BY mod_revision DESC LIMIT 1 OFFSET ?5) ORDER BY mod_revision LIMIT ?6"
)
_DROP_VERSION: Final = "DELETE FROM versions WHERE rowid = ?"


class Trimming:
    """What is to go, and how far the oldest batch has been dealt with."""

    def __init__(self, db: sqlite3.Connection, window: Window) -> None:
        self._db = db
        self._window = window
        self._floor = 0  # batches below are asked to go although the window has room for them
        self._looked = (0, 0)  # of the changes of this revision, so many need no second look

    def compact(self, revision: int) -> None:
        """See `Engine.compact`."""
        self._floor = max(self._floor, revision)

    def surplus(self, meta: reads.Meta) -> Surplus:
        """See `Engine.surplus`."""
        kept = meta.revision - meta.compact_revision + 1
        if kept <= 1:  # the newest batch always stays
            return Surplus(0, 0, 0)
        return Surplus(
            max(0, kept - self._window.log_revisions),
            max(0, meta.log_bytes - self._window.log_bytes),
            max(0, min(self._floor, meta.revision) - meta.compact_revision),
        )

    def trim(self, meta: reads.Meta, settled: reads.Meta, rows_max: int) -> int:
        """One transaction of about `rows_max` rows of work; returns how much was done.

        Moves both positions on, that of the store and that of the tables, which is recorded; its batch stays.
        """
        db = self._db
        begin = meta.compact_revision
        assert begin < settled.revision, "what follows from a batch is written before it goes"
        revision, looked = self._looked
        done = 0
        db.execute("BEGIN IMMEDIATE")
        for revision, body, digest in db.execute(_OLDEST, (begin, rows_max)):  # it stays where this ends
            ids = [change.id for change in reads.decode_body(revision, body).changes]
            looked = looked if revision == self._looked[0] else 0
            while looked < len(ids) and done < rows_max:
                rows, is_last = self._drop_versions(ids[looked], revision, rows_max - done)
                done += rows
                looked += is_last
            pages = len(body) // PAGE_BYTES
            if looked < len(ids) or (done and done + pages > rows_max):
                break
            done += pages
            for each in (meta, settled):
                each.compact_revision, each.anchor_hash = revision + 1, digest
                each.log_bytes -= len(body)
            if done >= rows_max or revision + 1 >= settled.revision or not any(self.surplus(meta)):
                break
        if meta.compact_revision > begin:
            db.execute(_DROP_LOG, (meta.compact_revision,))
            reads.write_meta(db, settled)
        db.execute("COMMIT")
        self._looked = (revision, looked)
        return max(done, 1)

    def _drop_versions(self, id: EntryId, revision: int, rows_max: int) -> tuple[int, bool]:
        """Of the versions before `revision`, those that are not among the newest; how many rows of work that was, the
        look among them, and whether none is left.
        """
        done, deleted = 1, 0
        bounds = (*id, revision, self._window.versions - 1, rows_max)
        surplus = self._db.execute(_SURPLUS_VERSIONS, bounds).fetchall()
        for rowid, value_bytes in surplus:
            if done > rows_max:
                break
            self._db.execute(_DROP_VERSION, (rowid,))
            deleted += 1
            done += 1 + value_bytes // PAGE_BYTES
        return done, deleted == len(surplus) < rows_max
