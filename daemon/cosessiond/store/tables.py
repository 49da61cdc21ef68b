"""What the SQLite engine holds besides the live entries, and its upkeep: all that no commit waits for.

The tables are written behind the log (`store.behind`), trimmed (`store.trimming`, `store.auditing`), and what the WAL
holds is moved into the database; each call is one transaction, with one sync.

Rule: what memory says of the tables moves when a transaction has committed. What finds no room on the disk changes
nothing and says so; every other error leaves as StoreBroken.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from msgspec import DecodeError

from cosessiond.store import behind, reads, schema, wal
from cosessiond.store.auditing import AuditTable
from cosessiond.store.engine import StoreBroken, StoreDamaged, Surplus, Window
from cosessiond.store.fullness import is_full
from cosessiond.store.requests import RequestIds
from cosessiond.store.summing import Sum
from cosessiond.store.trimming import Trimming

T = TypeVar("T")


class Tables:
    """The tables of one database, as far as they are, and what is still to be written or to go."""

    def __init__(self, db: sqlite3.Connection, wal_path: Path, window: Window) -> None:
        self._db = db
        self._wal_path = wal_path
        self._wal = wal.Wal(wal_path)
        self._window = window
        self._behind = behind.Behind()
        self._meta = reads.read_meta(db)
        self._settled = self._meta  # as the tables have it
        self._requests = RequestIds(db, window)
        self._trimming = Trimming(db, window, self._behind)
        self._audit = AuditTable(db, window)
        self._sum = Sum()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        yield  # not in a try: whoever catches the error decides between rolling back and stopping
        self._db.execute("COMMIT")

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreBroken(f"cannot roll back: {error}") from error

    @property
    def unsettled_rows(self) -> int:
        """See `Engine`."""
        return self._behind.rows

    def settle(self, rows_max: int) -> bool:
        """See `Engine`."""
        return not self._behind or self._tend(rows_max, 0) is not None

    @property
    def surplus(self) -> Surplus:
        """See `Engine`."""
        return self._trimming.surplus(self._meta)

    def compact(self, revision: int) -> None:
        """See `Engine`."""
        self._trimming.compact(revision)

    def trim(self, rows_max: int, *, settle_rows: int = 0) -> int:
        """See `Engine`. What follows from a batch is written before its log row goes."""
        if not any(self.surplus):
            return 0
        if self.surplus.of_the_log and self._meta.compact_revision >= self._settled.revision:
            rows = self._behind.rows
            return rows - self._behind.rows if self.settle(max(rows_max, settle_rows)) else 0
        return self._tend(settle_rows, rows_max) or 0

    def _tend(self, settle_rows: int, trim_rows: int) -> int | None:
        """One transaction that settles and trims; how much was trimmed, None when the disk was full."""
        steps = self._behind.first(settle_rows) if settle_rows else []
        change = self._sum.change(self._db, steps)
        meta, settled = self._meta.copy(), (steps[-1].meta if steps else self._settled).copy()
        done = 0

        def tend() -> None:
            nonlocal done
            with self._transaction():
                if steps:
                    behind.write(self._db, steps)
                if trim_rows:
                    done = self._trimming.trim(meta, settled, trim_rows)

        if not self._unless_full(tend):
            return None
        self._sum.changed(change)
        if steps:
            self._behind.written(steps)
            self._requests.written(steps[-1].outcome.revision)
        if trim_rows:
            self._trimming.keep()
            self._behind.trimmed(meta, self._meta.log_bytes - meta.log_bytes)
        self._meta, self._settled = meta, settled
        return done

    def cut(self, rows_max: int) -> int:
        """See `Engine`."""
        done = 0

        def trim() -> None:
            nonlocal done
            done = self._audit.trim(rows_max)

        return done if self._unless_full(trim) else 0

    def _unless_full(self, change: Callable[[], None]) -> bool:
        """Carry out one transaction of upkeep; False when the disk had no room, and nothing was changed."""
        try:
            change()
        except (sqlite3.Error, DecodeError) as error:
            if isinstance(error, DecodeError) or not is_full(error, self._db):
                found = schema.broken("cannot tend the store", error)
                if isinstance(found, StoreDamaged):
                    found.while_writing = True
                raise found from error
            self._roll_back()
            return False
        except StoreDamaged as error:
            error.while_writing = True
            raise
        return True

    @property
    def stored_bytes(self) -> int:
        """See `Engine`: of the pages that are not free."""
        return self._guard(reads.used_bytes)

    @property
    def unmoved_bytes(self) -> int:
        """See `Engine`: what the WAL holds."""
        return self._wal.bytes()

    def move(self) -> None:
        """See `Engine`: a checkpoint, after which the WAL is written from its start again."""
        if schema.checkpoint_in_place(self._db):
            self._wal.moved()

    def _guard(self, read: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return read(self._db, *arguments, **named)
        except (sqlite3.Error, DecodeError) as error:
            raise schema.broken("cannot read the store", error) from error
