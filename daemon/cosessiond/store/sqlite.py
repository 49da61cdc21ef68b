"""The SQLite engine: batches made durable in groups, one transaction and one sync each.

The log row is the commit record; `entries`, `versions` and `requests` are derived from it and written in the same
transaction today (`meta.applied_revision` allows writing them behind). The live entries are also held in memory, as
the engine is the only one that ever has the file open: compares never wait for a read.

Rule: this module and its neighbours `schema`, `reads`, `writes`, `trimming` alone speak SQL, and every
SQLite error leaves them as StoreBroken, or as Refused(disk_full) when it is certain that nothing was written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import DecodeError

from cosession.errors import ConfigError
from cosessiond.store import reads, schema, trimming
from cosessiond.store.apply import Evaluated, evaluate
from cosessiond.store.engine import (
    Batch,
    BelowWindow,
    Committed,
    Entry,
    EntryId,
    Outcome,
    Page,
    Position,
    Refused,
    StoreBroken,
    VersionRow,
    Window,
)
from cosessiond.store.hash import ZERO_CHAIN, ZERO_STATE, chain_hash
from cosessiond.store.live import Live
from cosessiond.store.requests import RequestIds
from cosessiond.store.writes import Group, entry_of

#: Newest batches whose chain is recomputed at every start: so many, or as many as have so many bytes.
VERIFY_BATCHES: Final = 1_000
VERIFY_BYTES: Final = 4 * 1024 * 1024

T = TypeVar("T")


class SqliteEngine:
    """The `Engine` over one SQLite file. Open it with `SqliteEngine.open`."""

    name = "sqlite"

    def __init__(self, db: sqlite3.Connection, path: Path, window: Window) -> None:
        self._db = db
        self._wal = f"{path}-wal"
        self._window = window
        self._live = Live()
        self._meta = reads.read_meta(db)
        self._requests = RequestIds(db, window)

    @classmethod
    def open(
        cls, directory: Path, *, window: Window, new_epoch: Callable[[], str], was_used: bool = False
    ) -> SqliteEngine:
        """Open or create `directory`/store.db, replay what the log has above the tables, verify, load.

        `was_used`: this directory has held a store, so that an empty file is damage and no beginning.

        Raises ConfigError (foreign file, newer schema), StoreBroken (damage, I/O errors).
        """
        path = directory / "store.db"
        existed = os.path.lexists(path)  # whoever removed it wants a new one
        db = schema.open_database(path, was_used=was_used)
        try:
            _begin(db, path, new_epoch, was_used=was_used and existed)
            engine = cls(db, path, window)
            engine._load()
            # What was recovered may be in the page cache only, if a sync has failed before: it is written and synced
            # anew before anyone is told of it.
            schema.checkpoint(db)
        except (sqlite3.Error, DecodeError) as error:
            schema.abandon(db, path)
            raise StoreBroken(f"cannot read {path}: {error}") from error
        except (StoreBroken, ConfigError):
            schema.abandon(db, path)
            raise
        return engine

    def position(self) -> Position:
        """See `Engine`."""
        m = self._meta
        return Position(m.epoch, m.revision, m.compact_revision, m.chain_hash, m.state_hash)

    def entries(self) -> Iterable[Entry]:
        """See `Engine`. They were verified when the file was opened."""
        return self._live.in_order()

    # -- writing ---------------------------------------------------------------------------------------------------

    def apply(self, batches: Sequence[Batch]) -> list[Outcome]:
        """See `Engine`."""
        group = Group(self._live)
        meta = self._meta.copy()
        outcomes: list[Outcome] = []
        try:
            outcomes += [self._apply_one(batch, group, meta) for batch in batches]
            if group.log:
                self._write(group, meta)
        except DecodeError as error:
            raise StoreBroken(f"cannot trust the store: a kept request does not decode: {error}") from error
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                raise StoreBroken(f"cannot commit: {error}") from error
            self._roll_back()
            return self._refuse_full(batches, outcomes)
        self._meta = meta  # also when nothing changed: the next group that writes records the position
        self._requests.written()
        self._live.adopt(group.entries)
        return outcomes

    def _refuse_full(self, batches: Sequence[Batch], outcomes: list[Outcome]) -> list[Outcome]:
        """Nothing of the group was written. What had been committed before it is still so answered."""
        revision = self._meta.revision
        full = Refused(revision, "disk_full", "cannot write: the disk is full; free space, writing resumes by itself")
        if len(outcomes) < len(batches):
            return [full] * len(batches)

        def stands(outcome: Outcome) -> bool:
            return isinstance(outcome, Committed) and outcome.repeated and outcome.revision <= revision

        return [outcome if stands(outcome) else full for outcome in outcomes]

    def _apply_one(self, batch: Batch, group: Group, meta: reads.Meta) -> Outcome:
        meta.applied_position += 1
        request_id = batch.origin.request_id
        if request_id:
            kept = self._kept(request_id, group, meta)
            if kept is not None:
                if kept.origin.request_hash != batch.origin.request_hash:
                    return Refused(
                        meta.revision,
                        "request_id_reused",
                        f"cannot write: request id {request_id!r} was used for another request; make a new id",
                    )
                return kept
        found = evaluate(batch, group, meta.revision)
        if not isinstance(found, Evaluated):
            return found
        outcome = found.outcome
        meta.revision = meta.applied_revision = outcome.revision
        meta.chain_hash = chain_hash(
            meta.chain_hash, outcome.revision, outcome.time_ms, outcome.origin, outcome.changes
        )
        group.add(outcome, found.entries, meta)
        self._requests.committed(meta, outcome.revision, outcome.time_ms, with_id=bool(request_id))
        return outcome

    def _kept(self, request_id: str, group: Group, meta: reads.Meta) -> Committed | None:
        """The outcome kept under a request id, as `repeated`."""
        own = group.committed.get(request_id)
        if own is not None:
            if own.revision <= meta.forgotten_revision:
                return None
            return Committed(own.revision, own.succeeded, own.time_ms, own.origin, own.changes, True)
        outcome = reads.request(self._db, request_id)
        if outcome is None or outcome.revision <= meta.forgotten_revision:
            return None
        revision = outcome.revision
        changes = tuple(
            reads.with_value(
                self._db,
                change,
                revision,
                versions=self._window.versions,
                unwritten=group.versions_of(change.id),
                compact_revision=self._meta.compact_revision,
            )
            for change in outcome.changes
        )
        return Committed(revision, outcome.succeeded, outcome.time_ms, outcome.origin, changes, True)

    def _write(self, group: Group, meta: reads.Meta) -> None:
        db = self._db
        if not db.in_transaction:
            db.execute("BEGIN IMMEDIATE")
        group.write_log(db)
        if meta.forgotten_revision != self._meta.forgotten_revision:
            db.execute("DELETE FROM requests WHERE revision <= ?", (meta.forgotten_revision,))
        group.write_derived(db)
        reads.write_meta(db, meta)
        db.execute("COMMIT")

    def _roll_back(self) -> None:
        self._requests.rolled_back()
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StoreBroken(f"cannot roll back: {error}") from error

    # -- reading ---------------------------------------------------------------------------------------------------

    def changes(self, after: int, rows_max: int, bytes_max: int) -> list[Committed]:
        """See `Engine`."""
        if after + 1 < self._meta.compact_revision:
            raise BelowWindow(self._meta.compact_revision)
        return self._guard(reads.changes, after, rows_max, bytes_max)

    def entry_at(self, id: EntryId, revision: int) -> Entry | None:
        """See `Engine`."""
        if revision < self._meta.compact_revision:
            raise BelowWindow(self._meta.compact_revision)
        return self._guard(reads.entry_at, id, revision)

    def range_at(self, space: str, project: str, *, prefix: str, after: str, limit: int, revision: int) -> Page:
        """See `Engine`."""
        if revision < self._meta.compact_revision:
            raise BelowWindow(self._meta.compact_revision)
        return self._guard(reads.range_at, space, project, prefix=prefix, after=after, limit=limit, revision=revision)

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """See `Engine`."""
        return self._guard(reads.history, id, limit, before, self._window.versions)

    def _guard(self, read: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return read(self._db, *arguments, **named)
        except (sqlite3.Error, DecodeError) as error:
            raise StoreBroken(f"cannot read the store: {error}") from error

    # -- upkeep ----------------------------------------------------------------------------------------------------

    def trim(self, rows_max: int) -> int:
        """See `Engine`."""
        meta = self._meta.copy()
        try:
            dropped = trimming.trim(self._db, self._window, meta, rows_max)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                raise StoreBroken(f"cannot trim: {error}") from error
            self._roll_back()
            return 0
        except DecodeError as error:
            raise StoreBroken(f"cannot trim: {error}") from error
        if dropped:
            self._meta = meta
        return dropped

    @property
    def stored_bytes(self) -> int:
        """See `Engine`: of the pages that are not free."""
        return self._guard(reads.used_bytes)

    @property
    def unmoved_bytes(self) -> int:
        """See `Engine`: the size of the WAL."""
        try:
            return os.stat(self._wal).st_size  # noqa: PTH116  # asked after every group; a Path costs three times that
        except FileNotFoundError:
            return 0

    def move(self) -> None:
        """See `Engine`: a checkpoint."""
        schema.checkpoint(self._db)

    def close(self) -> None:
        """See `Engine`. Checkpoints, so that the next start finds one whole file."""
        try:
            schema.checkpoint(self._db)
            self._db.close()
        except sqlite3.Error as error:
            raise StoreBroken(f"cannot close the store: {error}") from error

    def _load(self) -> None:
        reads.verify_chain(self._db, self._meta, batches_max=VERIFY_BATCHES, bytes_max=VERIFY_BYTES)
        self._replay()
        entries = list(reads.entries(self._db))
        self._live = Live(entries)
        state = sum(int.from_bytes(entry.hash) for entry in entries)
        if (state % (1 << 128)).to_bytes(16) != self._meta.state_hash:
            raise StoreBroken("cannot trust the store: the live entries do not add up to the recorded state hash")

    def _replay(self) -> None:
        """Bring the derived tables up to the log, as a format that writes them behind needs at start."""
        if self._meta.applied_revision == self._meta.revision:
            return
        group = Group(Live())
        for outcome in reads.changes(self._db, self._meta.applied_revision, 1 << 62, 1 << 62):
            group.derive(outcome)
            for change in outcome.changes:
                group.entries[change.id] = entry_of(change, outcome)
        self._meta.applied_revision = self._meta.revision
        self._db.execute("BEGIN IMMEDIATE")
        group.write_derived(self._db)
        reads.write_meta(self._db, self._meta)
        self._db.execute("COMMIT")


def _begin(db: sqlite3.Connection, path: Path, new_epoch: Callable[[], str], *, was_used: bool) -> None:
    """Give a new store its epoch. A store that was used and has no position is damaged, and not new."""
    if db.execute("SELECT count(*) FROM meta").fetchone()[0]:
        return
    if was_used or db.execute("SELECT EXISTS (SELECT 1 FROM log) OR EXISTS (SELECT 1 FROM entries)").fetchone()[0]:
        raise StoreBroken(f"cannot trust {path}: it was used, and the record of its position is gone")
    reads.write_meta(db, reads.Meta(new_epoch(), 0, 0, 0, 1, ZERO_CHAIN, ZERO_CHAIN, ZERO_STATE, 0, 0, 0))
    # Into the database file at once: who loses the WAL later is still in this epoch, behind what its clients have seen,
    # and not a store begun anew.
    schema.checkpoint(db)
