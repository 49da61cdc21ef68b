"""The SQLite engine: batches made durable in groups, one transaction and one sync each.

The log row is the commit record, and all that a commit writes. `entries`, `versions`, `requests` and the recorded
position are derived from it and written behind, in slices (`store.behind`); a start derives what is missing. The live
entries are also held in memory, as the engine is the only one that ever has the file open: compares never wait for a
read.

Rule: this module and its neighbours `schema`, `tables`, `reads`, `writes`, `behind`, `trimming`, `ended`, `auditing`,
`epochs` alone speak SQL, and every SQLite error leaves them as StoreBroken, or as Refused(disk_full) when it is certain
that nothing was written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from msgspec import DecodeError

from cosession.errors import ConfigError
from cosessiond.store import epochs, logged, marks, past, purging, reads, schema, scrubbing, wal, walcheck
from cosessiond.store.apply import Evaluated, evaluate
from cosessiond.store.auditing import due
from cosessiond.store.continuity import Standing, since_of
from cosessiond.store.copying import Copying
from cosessiond.store.engine import (
    WIDE_OPERATIONS,
    Batch,
    BelowWindow,
    Committed,
    Entry,
    EntryId,
    Moments,
    Outcome,
    Page,
    Position,
    Purged,
    Refused,
    Scrubbed,
    StoreBroken,
    StoreDamaged,
    VersionRow,
    Window,
)
from cosessiond.store.fullness import is_full
from cosessiond.store.hash import ZERO_CHAIN, ZERO_STATE, chain_hash
from cosessiond.store.live import Live
from cosessiond.store.marks import Mark
from cosessiond.store.record import Attached, AuditSpan, KeptRecord, Record
from cosessiond.store.requests import RequestIds
from cosessiond.store.tables import Tables
from cosessiond.store.trimming import Trimming
from cosessiond.store.writes import Group, entry_of, log_body

#: Newest batches whose chain is recomputed at every start: so many, or as many as have so many bytes.
VERIFY_BATCHES: Final = 1_000
VERIFY_BYTES: Final = 4 * 1024 * 1024
#: What is laid out of the WAL at a start: about what it holds when it is checkpointed.
WAL_BYTES: Final = 4 * 1024 * 1024
#: Batches that a start derives from the log at a time.
REPLAY_BATCHES: Final = 256
#: Rows that may be behind while the disk has no room for them; above that, nothing more is committed.
BEHIND_ROWS_MAX: Final = 65_536

T = TypeVar("T")


class SqliteEngine(Tables):
    """The `Engine` over one SQLite file. Open it with `SqliteEngine.open`."""

    name = "sqlite"

    def __init__(self, db: sqlite3.Connection, path: Path, window: Window) -> None:
        super().__init__(db, Path(f"{path}-wal"), window)
        self.moments = Moments()
        self._live = Live()
        self._lost: dict[str, int] = {}  # request ids that the log has and a search does not find, by their revision

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        window: Window,
        new_epoch: Callable[[], str],
        was_used: bool = False,
        mark: Mark | None = None,
    ) -> SqliteEngine:
        """Open or create `directory`/store.db, replay what the log has above the tables, verify, load.

        `was_used`: this directory has held a store, so that an empty file is damage and no beginning. `mark`: how far
        it was; without one, whoever removed the file wants a new store.

        Raises ConfigError (foreign file, newer schema), StoreDamaged, StoreBroken (I/O errors).
        """
        path = directory / "store.db"
        existed = os.path.lexists(path)
        if mark and not existed:
            raise StoreDamaged(
                f"cannot open {path}: it is gone, and held revision {mark.revision}; to begin anew, remove the file "
                "`mark` beside it as well",
                lost=(1, mark.revision),
            )
        torn = walcheck.torn(Path(f"{path}-wal"))
        if torn:
            raise StoreDamaged(f"cannot trust {path}-wal: {torn}")
        db = schema.open_database(path, was_used=was_used)
        try:
            _begin(db, path, new_epoch, was_used=was_used and existed)
            engine = cls(db, path, window)
            engine._load()
            if mark:
                marks.judge(mark, engine.position(), lambda revision: logged.chain_at(db, revision))
            # What was recovered may be in the page cache only, if a sync has failed before: it is written and synced
            # anew before anyone is told of it.
            schema.checkpoint(db)
            wal.lay_out(engine._wal_path, WAL_BYTES)
        except (StoreBroken, ConfigError):
            schema.abandon(db, path)
            raise
        except schema.UNREADABLE as error:
            schema.abandon(db, path)
            raise schema.broken(f"cannot read {path}", error) from error
        return engine

    @classmethod
    def rehearse(cls, path: Path) -> SqliteEngine:
        """What a start on a copy of the store would do and find, without writing anything: a position and entries.

        Raises as `open` does. For a copy of this schema that nobody has open.
        """
        try:
            db = schema.open_copy(path)
            try:
                engine = cls(db, path, Window())
                engine._load(settles=False)
            finally:
                db.close()
        except (sqlite3.Error, DecodeError) as error:
            raise StoreBroken(f"cannot read {path}: {error}") from error
        return engine

    def position(self) -> Position:
        """See `Engine`."""
        m = self._meta
        return Position(m.epoch, m.revision, m.compact_revision, m.chain_hash, m.state_hash)

    def entries(self) -> Iterable[Entry]:
        """See `Engine`. They were verified when the file was opened."""
        return self._live.in_order()

    # -- writing ---------------------------------------------------------------------------------------------------

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """See `Engine`."""
        group, meta = Group(self._live), self._meta.copy()
        outcomes: list[Outcome] = []
        try:
            outcomes += [self._apply_one(batch, group, meta) for batch in batches]
            audit = due(records, outcomes)
            if group.steps and self._behind.rows > BEHIND_ROWS_MAX:
                raise _full()
            if group.steps or audit:
                self._write(group, audit)
        except DecodeError as error:
            raise schema.broken("cannot trust the store: a kept request does not decode", error) from error
        except sqlite3.Error as error:
            if not is_full(error, self._db):
                raise schema.broken("cannot commit", error) from error
            self._requests.rolled_back()
            self._audit.rolled_back()
            self._roll_back()
            return self._refuse_full(batches, outcomes)
        self._adopt(group, meta)
        return outcomes

    def _adopt(self, group: Group, meta: reads.Meta) -> None:
        """A group is in the log."""
        self._meta = meta
        self._requests.logged()
        self._audit.written()
        self._live.adopt(group.entries)
        for step in group.steps:
            self._behind.add(step)

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
            try:
                kept = self._kept(request_id, group, meta)
            except (StoreDamaged, DecodeError) as error:  # one row: all others are written and answered as ever
                return Refused(
                    meta.revision,
                    "damaged",
                    f"cannot tell what became of request {request_id!r}, which was committed before: "
                    f"{_why(error)}; look at the entry, and use a new id",
                )
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
        head = chain_hash(meta.chain_hash, outcome.revision, outcome.time_ms, outcome.origin, outcome.changes)
        self._take(outcome, found.entries, meta, group, head=head, body=log_body(outcome))
        return outcome

    def _take(
        self,
        outcome: Committed,
        entries: list[tuple[EntryId, Entry | None]],
        meta: reads.Meta,
        group: Group,
        *,
        head: bytes,
        body: bytes,
    ) -> None:
        """A batch that changed something becomes part of the group; `meta` moves on to it."""
        meta.revision = meta.applied_revision = outcome.revision
        meta.chain_hash = head
        with_id = bool(outcome.origin.request_id)
        self._requests.committed(meta, outcome.revision, outcome.time_ms, with_id=with_id)
        group.add(outcome, entries, meta, body)

    def _kept(self, request_id: str, group: Group, meta: reads.Meta) -> Committed | None:
        """The outcome kept under a request id, as `repeated`."""
        own = group.requests.get(request_id) or self._behind.kept(request_id)
        if own is not None:
            if own.revision <= meta.forgotten_revision:
                return None
            changes = own.changes
            if own.origin.operation in WIDE_OPERATIONS:
                changes = tuple(map(reads.without_value, changes))
            return Committed(own.revision, own.succeeded, own.time_ms, own.origin, changes, True)
        if self._lost.get(request_id, 0) > meta.forgotten_revision:
            raise StoreDamaged("cannot trust the store: the record of it is missing")
        outcome = reads.request(self._db, request_id)
        if outcome is None or outcome.revision <= meta.forgotten_revision:
            return None
        revision = outcome.revision
        if outcome.origin.operation in WIDE_OPERATIONS:
            return Committed(revision, outcome.succeeded, outcome.time_ms, outcome.origin, outcome.changes, True)
        changes = tuple(
            reads.with_value(
                self._db,
                change,
                revision,
                versions=self._window.versions_in(change.id[0]),
                ended=self._trimming.ended.before(change.id),
                unwritten=group.versions_of(change.id) + self._behind.versions_of(change.id),
                compact_revision=self._meta.compact_revision,
            )
            for change in outcome.changes
        )
        return Committed(revision, outcome.succeeded, outcome.time_ms, outcome.origin, changes, True)

    def _write(self, group: Group, audit: Sequence[Record]) -> None:
        with self._transaction():
            group.write(self._db)
            self._audit.write(audit)
            self.moments.written_s = self.moments.now_s()
        self.moments.synced_s = self.moments.now_s()

    # -- reading ---------------------------------------------------------------------------------------------------

    def changes(self, after: int, rows_max: int, bytes_max: int) -> list[Committed]:
        """See `Engine`."""
        if after + 1 < self._meta.compact_revision:
            raise BelowWindow(self._meta.compact_revision)
        if after >= self._meta.revision:
            return []
        return self._guard(logged.changes, after, rows_max, bytes_max, newest=self._meta.revision)

    def entry_at(self, id: EntryId, revision: int) -> Entry | None:
        """See `Engine`."""
        self._check_window(revision)
        return self._guard(past.entry_at, self._behind, id, revision, self._standing(id))

    def range_at(self, space: str, project: str, *, prefix: str, after: str, limit: int, revision: int) -> Page:
        """See `Engine`."""
        self._check_window(revision)
        place = (space, project)
        return self._guard(
            past.range_at,
            self._behind,
            place,
            prefix=prefix,
            after=after,
            limit=limit,
            revision=revision,
            live=self._live,
            since=since_of(self._meta.revision),
        )

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """See `Engine`."""
        shown, ended = self._window.versions_in(id[0]), self._trimming.ended.before(id)
        return self._guard(
            past.history,
            self._behind,
            id,
            limit=limit,
            before=before,
            shown=shown,
            ended=ended,
            standing=self._standing(id),
        )

    def _standing(self, id: EntryId) -> Standing:
        return Standing(self._live.get(id), since_of(self._meta.revision))

    def _check_window(self, revision: int) -> None:
        if revision < self._meta.compact_revision:
            raise BelowWindow(self._meta.compact_revision)

    def audit_span(self) -> AuditSpan:
        """See `Engine`."""
        return self._audit.span

    def audited(self, *, after: int, before: int, limit: int, newest_first: bool) -> list[KeptRecord]:
        """See `Engine`."""
        return self._guard(
            lambda _: self._audit.read(after=after, before=before, limit=limit, newest_first=newest_first)
        )

    def audit_since(self, time_ms: int) -> int:
        """See `Engine`."""
        return self._guard(lambda _: self._audit.since(time_ms))

    # -- other work ----------------------------------------------------------------------------------------------------

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:
        """See `Engine`. What is behind is derived first: it holds values, and positions from before this."""
        if self._behind and not self.settle(self._behind.rows):
            return None
        live = self._live.get(id)
        before = min(before, live.mod_revision) if live else before
        settled = self._settled.copy()
        done: Purged | None = None

        def purge() -> None:
            nonlocal done
            with self._transaction():
                done = purging.purge(self._db, settled, id, before=before, after=after, rows_max=rows_max)
                reads.write_meta(self._db, settled)

        if not self._unless_full(purge):
            return None
        self._settled, self._meta.log_bytes = settled, settled.log_bytes
        return done

    def erase(self) -> bool:
        """See `Engine`."""
        erased = False

        def erase() -> None:
            nonlocal erased
            erased = purging.erase(self._db)
            wal.lay_out(self._wal_path, WAL_BYTES)

        return self._unless_full(erase) and erased

    def scrub(self, at: Scrubbed, rows_max: int) -> Scrubbed:
        """See `Engine`. What is behind is not looked at: it is not there yet."""
        memory = (self._live, self._behind, self._trimming.ended, self._audit)
        known = scrubbing.Known(self._settled, *memory, self._window, self._lost, self._sum)
        return scrubbing.scrub(self._db, known, at, rows_max)

    def begin_epoch(self, epoch: str, *, known: Iterable[int], time_ms: int) -> Position:
        """Go on in a new epoch, at a revision above all `known`; see `store.epochs`. For a store that nobody uses.

        Raises StoreBroken; then the file is in the old epoch or the new one.
        """
        try:
            while self._behind:
                if not self.settle(self._behind.rows):
                    raise StoreBroken("cannot begin a new epoch: the disk is full; free space and try again")
            group = epochs.begin(self._db, self._meta, self._live, epoch=epoch, known=known, time_ms=time_ms)
        except sqlite3.Error as error:
            raise StoreBroken(f"cannot begin a new epoch: {error}") from error
        self._live.adopt(group.entries)
        self._meta = self._settled = group.steps[-1].meta
        self._requests = RequestIds(self._db, self._window)
        self._trimming = Trimming(self._db, self._window, self._behind)
        return self.position()

    def copy_to(self, path: Path, descriptor: int) -> Copying | None:
        """See `Engine`."""
        return self._guard(Copying, path, descriptor)

    def close(self) -> None:
        """See `Engine`. Settles and checkpoints, so that the next start finds one whole file."""
        try:
            while self._behind and self.settle(self._behind.rows):
                pass
            schema.checkpoint(self._db)
            self._db.close()
            self._wal.close()
        except sqlite3.Error as error:
            raise StoreBroken(f"cannot close the store: {error}") from error

    # -- opening ---------------------------------------------------------------------------------------------------

    def _load(self, *, settles: bool = True) -> None:
        """Verify what the tables hold, then bring them up to the log; without `settles` in memory only."""
        meta = self._meta
        if meta.applied_revision != meta.revision:
            raise StoreDamaged("cannot trust the store: its record of the position disagrees with itself")
        self._lost = logged.verify_chain(self._db, meta, batches_max=VERIFY_BATCHES, bytes_max=VERIFY_BYTES)
        entries = list(reads.entries(self._db))
        self._live = Live(entries)
        state = sum(int.from_bytes(entry.hash) for entry in entries)
        if (state % (1 << 128)).to_bytes(16) != meta.state_hash:
            raise StoreDamaged("cannot trust the store: the live entries do not add up to the recorded state hash")
        while self._replay(settles=settles):
            pass

    def _replay(self, *, settles: bool) -> bool:
        """Derive what follows from the next log rows that the tables have not; False when there are none."""
        meta, group = self._meta.copy(), Group(self._live)
        for outcome, head, body in logged.log_after(self._db, meta.revision, meta.chain_hash, REPLAY_BATCHES):
            entries = [(change.id, entry_of(change, outcome)) for change in outcome.changes]
            meta.applied_position += 1
            self._take(outcome, entries, meta, group, head=head, body=body)
        if not group.steps:
            return False
        self._adopt(group, meta)
        if settles:
            self.settle(self._behind.rows)  # where the disk is full it stays behind, and is derived again next time
        return True


def _why(error: Exception) -> str:
    return str(error).removeprefix("cannot trust the store: ") if isinstance(error, StoreDamaged) else "it is damaged"


def _full() -> sqlite3.OperationalError:
    """What SQLite raises when the disk is full."""
    error = sqlite3.OperationalError("too much is waiting for room on the disk")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def _begin(db: sqlite3.Connection, path: Path, new_epoch: Callable[[], str], *, was_used: bool) -> None:
    """Give a new store its epoch. A store that was used and has no position is damaged, and not new."""
    if db.execute("SELECT count(*) FROM meta").fetchone()[0]:
        return
    if was_used or db.execute("SELECT EXISTS (SELECT 1 FROM log) OR EXISTS (SELECT 1 FROM entries)").fetchone()[0]:
        raise StoreDamaged(f"cannot trust {path}: it was used, and the record of its position is gone")
    reads.write_meta(db, reads.Meta(new_epoch(), 0, 0, 0, 1, ZERO_CHAIN, ZERO_CHAIN, ZERO_STATE, 0, 0, 0))
    # Into the database file at once: who loses the WAL later is still in this epoch, behind what its clients have seen,
    # and not a store begun anew.
    schema.checkpoint(db)
