"""The store that all others use: admission, memory at one published revision, and the way in and out of commits.

A write: admission here, the commit queue, one group, `publish`: memory, then listeners (leases, sessions), then
watchers, then the answer. A read: memory, at once. So a read never shows what is not durable, and whoever was
answered finds its write in every later read and watch.

Rule: memory changes in `publish` and nowhere else; nothing here knows sockets or SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from cosession.errors import Compacted, Conflict, CosessionError, Overloaded
from cosession.messages.limits import (
    AUDIT_QUEUE_MAX,
    COMMIT_QUEUE_MAX,
    DECIDE_ATTEMPTS_MAX,
    READ_QUEUE_MAX,
    Limits,
)
from cosessiond.clock import Clock
from cosessiond.metrics import Metrics
from cosessiond.store.engine import (
    BATCH_FORMAT,
    Applied,
    Batch,
    BelowWindow,
    Committed,
    Compare,
    Conflicted,
    Engine,
    Entry,
    EntryId,
    Origin,
    Outcome,
    Position,
    Refused,
    StoreBroken,
    StoreDamaged,
    Surplus,
    ValuePurged,
    Write,
)
from cosessiond.store.index import Index
from cosessiond.store.queued import Queued
from cosessiond.store.quota import Quota, batch_bytes
from cosessiond.store.record import AuditSpan, Record
from cosessiond.store.room import Report
from cosessiond.store.snapshot import Snapshots
from cosessiond.store.stalls import Stalls
from cosessiond.store.tickets import CommitPath, Slice, SliceFailed, Ticket, Took

#: What a proposal ends as: the commit, None when there was nothing to write, or why it could not be.
Result = Committed | CosessionError | None


class Store:
    """The one store of a daemon. `attach` gives it the commit path before first use."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
        host: str,
        on_broken: Callable[[StoreBroken], None],
        on_bug: Callable[[Exception], None],
    ) -> None:
        position = engine.position()
        self.epoch: Final = position.epoch
        self.engine_name: Final = engine.name
        self.revision = position.revision
        self.compact_revision = position.compact_revision
        self.database_bytes = engine.stored_bytes  # as of the last upkeep
        self.surplus_batches = engine.surplus.batches  # the same
        self.surplus_bytes = engine.surplus.bytes
        self.read_only = ""  # why nothing is written, "" when all may be
        self.stalls = Stalls()
        self.index = Index(engine.entries())
        self.snapshots = Snapshots(self.index)
        self.listeners: list[Callable[[Committed], None]] = []
        self.flush: Callable[[], None] = lambda: None
        self.on_read: Callable[[], None] = lambda: None  # a place in the read queue has become free
        self.audit = engine.audit_span()
        self.records_of: Callable[[Batch], tuple[Record, ...]] = lambda _: ()  # what the audit says of a batch
        self.on_damage: Callable[[str, str], None] = lambda *_: None  # where damage was met, and what
        self.on_audit: Callable[[Sequence[Record]], None] = lambda _: None  # the audit has new ones, these or of these
        self.on_room: Callable[[Report], None] = lambda _: None  # there is room on the disk again, or no more
        self._clock = clock
        self._metrics = metrics
        self._host = host
        self._on_broken = on_broken
        self._on_bug = on_bug
        self._commits: CommitPath | None = None
        self._queued = Queued()
        self._quota = Quota(limits, metrics)
        self._reading = 0
        self._compacting: list[tuple[int, Callable[[], None]]] = []  # the revisions asked for, and who waits for each
        self._noted = 0
        self.took: Took | None = None  # of the group that is being published

    def attach(self, commits: CommitPath) -> None:
        """Where batches and reads go from now on."""
        self._commits = commits

    def configure(self, limits: Limits) -> None:
        """Other limits from now on, for what is submitted from now on."""
        self._quota.limits = limits

    # -- reading memory --------------------------------------------------------------------------------------------

    def get(self, id: EntryId) -> Entry | None:
        """The live entry at `revision`, None when absent."""
        return self.index.get(id)

    def scan(self, space: str, project: str, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """Live entries under `prefix` with key > `after`, in key order."""
        return self.index.scan(space, project, prefix, after)

    def owned(self, session: str) -> list[EntryId]:
        """The ephemeral entries of a session."""
        return self.index.owned(session)

    def may_own(self, session: str) -> list[EntryId]:
        """The entries that become ephemeral of a session if what is queued succeeds."""
        return self._queued.ephemeral_of(session)

    @property
    def queued(self) -> int:
        """Batches submitted and not yet published."""
        return self._queued.batches

    @property
    def queued_bytes(self) -> int:
        """About what they will leave behind."""
        return self._queued.bytes

    @property
    def reading(self) -> int:
        """Reads that have a place in the read queue."""
        return self._reading

    @property
    def noted(self) -> int:
        """Audit records that go alone and are not written yet."""
        return self._noted

    # -- writing ---------------------------------------------------------------------------------------------------

    def origin(
        self,
        operation: str,
        session: str = "",
        *,
        request_id: str = "",
        request_hash: bytes = b"",
        instance: str = "",
    ) -> Origin:
        """The origin of a batch proposed on this host."""
        return Origin(self._host, session, instance, operation, request_id, request_hash)

    def batch(
        self, origin: Origin, compares: Sequence[Compare], then: Sequence[Write], otherwise: Sequence[Write] = ()
    ) -> Batch:
        """A batch of format 1, proposed now."""
        return Batch(BATCH_FORMAT, self._clock.wall_ms(), origin, tuple(compares), tuple(then), tuple(otherwise))

    def submit(self, batch: Batch, done: Callable[[Outcome], None], *, asks: bool = False) -> None:
        """Queue a batch; `done` gets its outcome on the loop, after the publication of its group. See `Ticket.asks`.

        Raises Overloaded when the queue is full, CosessionError store_full or quota_exceeded, see `store.quota`, or
        read_only.
        """
        assert self._commits is not None, "attach comes first"
        if self.read_only:
            raise CosessionError(f"cannot write: {self.read_only}", code="read_only")
        size = batch_bytes(batch, self.index)
        self._quota.admit(batch, size, self.index, self._queued, self.database_bytes)
        self._queued.add(batch, size)
        self._metrics.level("commit_queue", self._queued.batches, COMMIT_QUEUE_MAX)
        self._commits.submit(Ticket(batch, done, size, () if asks else self.records_of(batch), asks))

    def note(self, record: Record) -> None:
        """Queue an audit record that goes alone; dropped, and counted, when too many wait."""
        assert self._commits is not None, "attach comes first"
        if self.read_only:
            self._metrics.count("audit.dropped")
            return
        if self._noted >= AUDIT_QUEUE_MAX:
            self._metrics.hit("audit_queue")
            return
        self._noted += 1
        self._metrics.level("audit_queue", self._noted, AUDIT_QUEUE_MAX)
        self._commits.note(record)

    def propose(self, decide: Callable[[], Batch | None], done: Callable[[Result], None]) -> None:
        """Decide from memory, submit, and decide again when a compare failed; at most 8 times, then Overloaded.

        `decide` returns a batch, None when there is nothing to write, or raises CosessionError for `done`.
        """
        self._attempt(decide, done, DECIDE_ATTEMPTS_MAX)

    def _attempt(self, decide: Callable[[], Batch | None], done: Callable[[Result], None], left: int) -> None:
        def settle(outcome: Outcome) -> None:
            if isinstance(outcome, Conflicted):
                self._attempt(decide, done, left - 1)
            elif isinstance(outcome, Refused):
                done(CosessionError(outcome.message, code=outcome.code))
            else:
                done(outcome)

        if left == 0:
            self._metrics.hit("decide_attempts")
            done(Overloaded(f"cannot decide: {DECIDE_ATTEMPTS_MAX} attempts met other writers; try again in a moment"))
            return
        try:
            batch = decide()
            if batch is not None:
                self.submit(batch, settle)
                return
        except CosessionError as error:
            done(error)
            return
        done(None)

    # -- reading the engine ----------------------------------------------------------------------------------------

    def run(
        self,
        run: Callable[[Engine], Any],
        done: Callable[[Any | CosessionError], None],
        *,
        has_place: bool = False,
    ) -> None:
        """Run a slice on the store's thread; `done` gets its result, or Compacted, or `internal` for a bug.

        `has_place`: it is bounded otherwise, cannot be refused any more, and takes none of the places of reads: whoever
        goes on in `done` finds its own free again. Raises Overloaded.
        """
        assert self._commits is not None, "attach comes first"
        if self._reading >= READ_QUEUE_MAX and not has_place:
            self._metrics.hit("read_queue")
            raise Overloaded(f"cannot read: {READ_QUEUE_MAX} reads are waiting; try again in a moment")

        def settle(result: Any) -> None:
            self._reading -= not has_place
            if isinstance(result, SliceFailed):
                why = f"cannot go on: the daemon has a bug ({type(result.error).__name__}); its log has the details"
                self._on_bug(result.error)
                done(CosessionError(why, code="internal"))
            elif isinstance(result, ValuePurged):
                done(self.purged(*result.args))
            elif isinstance(result, StoreDamaged):
                self.on_damage("read", str(result))
                done(CosessionError(f"{result}; nothing of it is shown; run: cosession doctor", code="damaged"))
            else:
                done(self.compacted() if isinstance(result, BelowWindow) else result)
            self.on_read()
            self.flush()

        self._reading += not has_place
        self._commits.run(Slice(run, settle))

    def compact(self, revision: int, done: Callable[[], None]) -> None:
        """Have the log trimmed up to `revision`, at most the present one; `done` when it is. Raises Overloaded."""
        if revision <= self.compact_revision:
            done()
            return
        self.run(lambda engine: engine.compact(revision), lambda _: None)
        self._compacting.append((revision, done))

    def compacted(self) -> Compacted:
        """The error for a revision below the log window."""
        return Compacted(
            f"cannot read below revision {self.compact_revision}: older batches are no longer kept; "
            f"ask for {self.compact_revision} or later, for what is there now, or `history`",
            data={"compact_revision": self.compact_revision},
        )

    def purged(self, id: EntryId, revision: int) -> Compacted:
        """The error for a version whose value was purged."""
        return Compacted(
            f"cannot read {id[2]!r} as of revision {revision}: that value was purged; ask for a later revision",
            data={"compact_revision": self.compact_revision, "purged_key": id[2], "purged_revision": revision},
        )

    # -- from the commit thread, on the loop -----------------------------------------------------------------------

    def publish(self, tickets: Sequence[Ticket], outcomes: Sequence[Outcome], took: Took | None = None) -> None:
        """One group is durable: memory, listeners and watchers, then each answer, all in commit order."""
        self.took = took
        if took is not None:
            self._metrics.took("commit", took.done_s - took.taken_s)
            if took.synced_s:
                self._metrics.took("fsync", took.synced_s - took.written_s)
        for outcome in outcomes:
            if isinstance(outcome, Committed) and outcome.changes and not outcome.repeated:
                self._publish_one(outcome)
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            if isinstance(outcome, Refused) and outcome.code == "damaged":
                self.on_damage("read", outcome.message.partition("; ")[0])
            self._queued.remove(ticket.batch, ticket.size)
            ticket.done(outcome)
        self.took = None
        self.flush()

    def stalled(self, stall_s: float) -> None:
        """See `tickets.Subscriber`."""
        self.stalls.add(stall_s)

    def tended(self, position: Position, surplus: Surplus, stored_bytes: int) -> None:
        """See `tickets.Subscriber`."""
        self.compact_revision = position.compact_revision
        self.surplus_batches = surplus.batches + surplus.asked
        self.surplus_bytes = surplus.bytes
        self.database_bytes = stored_bytes
        done = [each for each in self._compacting if each[0] <= self.compact_revision]
        self._compacting = [each for each in self._compacting if each[0] > self.compact_revision]
        for _, answer in done:
            answer()
        if done:
            self.flush()
        self._metrics.level("database_bytes", stored_bytes, self._quota.limits.database_bytes_max)

    def audited(self, span: AuditSpan, settled: int, dropped: int, records: Sequence[Record]) -> None:
        """See `tickets.Subscriber`."""
        self._noted -= settled
        if dropped:
            self._metrics.count("audit.dropped", dropped)
        grown, self.audit = span.last > self.audit.last, span
        if grown:
            self.on_audit(records)
            self.flush()

    def roomed(self, report: Report) -> None:
        """See `tickets.Subscriber`."""
        self.on_room(report)

    def broken(self, error: StoreBroken) -> None:
        """See `tickets.Subscriber`."""
        self._on_broken(error)

    def _publish_one(self, outcome: Committed) -> None:
        assert outcome.revision == self.revision + 1, "revisions are dense"
        self.revision = outcome.revision
        for change in outcome.changes:
            before = self.index.get(change.id) if self.snapshots else None
            if before is not None:
                self.snapshots.keep(change.id, before)
            if change.kind == "put":
                self.index.put(_entry(change, outcome))
            else:
                self.index.remove(change.id)
        for listener in self.listeners:
            listener(outcome)


def _entry(change: Applied, outcome: Committed) -> Entry:
    """The entry as memory keeps it; its hash is the engine's business."""
    return Entry(
        change.id,
        change.value,
        change.version,
        change.create_revision,
        outcome.revision,
        outcome.time_ms,
        outcome.origin.session,
        change.ttl_ms,
        change.owner,
        b"",
    )


def conflict_of(outcome: Conflicted, public: Callable[[Entry | None], Any]) -> Conflict:
    """The error a failed compare is answered with; `public` renders the entry that stood in the way."""
    current = outcome.current
    what = f"it is at revision {current.mod_revision}" if current else "it does not exist"
    return Conflict(
        f"cannot write: the entry is not as expected, {what}; read it again and decide anew",
        data={"current": public(current), "compare": outcome.compare},
    )
