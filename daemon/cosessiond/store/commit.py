"""Group commit: the one thread that owns the engine, and what it alternates between.

One commit group (at most 256 batches, 512 writes or 1 MiB, whatever is queued, no timer; with it at most 256 records of
the audit that go alone), then slices of other work: who asks whether a request was committed is answered, a few at a
time; paged reads and upkeep take turns, so that nothing starves. `store.pacing` says how many slices, what kind of
upkeep, and how large the next group may be, so that neither the WAL nor the log nor a wait outgrows its bound. Outcomes
leave the thread only after the engine's `apply` has returned, which is after its sync.

Rule: the thread touches the engine and nothing else; everything else is told through `deliver`, on the loop, in the
order in which it happened here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Protocol

from msgspec import Struct

from cosession.messages.limits import (
    AUDIT_GROUP_MAX,
    COMMIT_GROUP_BYTES_MAX,
    COMMIT_GROUP_MAX,
    COMMIT_GROUP_WRITES_MAX,
)
from cosessiond.store import pacing, rationing
from cosessiond.store.engine import (
    Batch,
    BelowWindow,
    Engine,
    Outcome,
    Position,
    StoreBroken,
    StoreDamaged,
    Surplus,
    ValuePurged,
)
from cosessiond.store.pacing import Load
from cosessiond.store.record import Attached, AuditSpan, Record
from cosessiond.store.room import Report, Room

Done = Callable[[Outcome], None]
#: Questions after a request id that one slice answers: each may be about 128 writes, and hundreds may wait.
ASKED_SLICE: Final = 16


class Ticket(Struct, frozen=True, gc=False):
    """A batch waiting for its outcome, and the audit records that are written with it.

    `asks`: it writes nothing, and only asks what became of its request id.
    """

    batch: Batch
    done: Done
    size: int  # about what it will leave behind, in bytes
    records: tuple[Record, ...] = ()
    asks: bool = False

    @property
    def writes(self) -> int:
        """Of the branch that has more."""
        return max(len(self.batch.then), len(self.batch.otherwise))


class Slice(Struct, frozen=True, gc=False):
    """A bounded piece of other work (a page of a read, a part of a purge): `run` runs on the thread, `done` on the loop
    with its result or the exception.
    """

    run: Callable[[Engine], Any]
    done: Callable[[Any], None]


class SliceFailed(Struct, frozen=True):
    """A slice met a bug of ours."""

    error: Exception


class Took(Struct, frozen=True, gc=False):
    """One group on the thread, by its clock: when it was taken, written, durable (0.0: it wrote nothing) and done; and
    of how many batches it was.
    """

    taken_s: float
    written_s: float
    synced_s: float
    done_s: float
    batches: int


class Subscriber(Protocol):
    """Who is told, on the loop."""

    def publish(self, tickets: Sequence[Ticket], outcomes: Sequence[Outcome], took: Took | None = None) -> None:
        """One group is durable; `took` says when, where a clock was given."""
        ...

    def tended(self, position: Position, surplus: Surplus, stored_bytes: int) -> None:
        """Upkeep was done: the lower end of the log window may have moved, so much is still to be trimmed, and so
        much is in use.
        """
        ...

    def stalled(self, stall_s: float) -> None:
        """What is committed next has waited so long for upkeep."""
        ...

    def audited(self, span: AuditSpan, settled: int, dropped: int) -> None:
        """The audit has moved. Of `settled` records that went alone, `dropped` found no room on the disk."""
        ...

    def roomed(self, report: Report) -> None:
        """There is room on the disk again or no more, or another part of the reserve is held."""
        ...

    def broken(self, error: StoreBroken) -> None:
        """The engine failed; nothing more will be committed or answered."""
        ...


class CommitPath(Protocol):
    """Where batches and slices go in; the thread here, an inline one in the simulation."""

    def submit(self, ticket: Ticket) -> None:
        """Queue a batch, behind all earlier ones."""
        ...

    def note(self, record: Record) -> None:
        """Queue an audit record that goes alone."""
        ...

    def run(self, job: Slice) -> None:
        """Queue a slice; it sees every batch submitted and committed before it runs."""
        ...


class Worker:
    """What the thread does, one step at a time and without a thread, so that a simulation can take the steps.

    `is_idle`: no upkeep at all, since the disk is not to be written.
    """

    def __init__(
        self,
        engine: Engine,
        subscriber: Subscriber,
        deliver: Callable[..., object],
        room: Room | None = None,
        now_s: Callable[[], float] = lambda: 0.0,
        *,
        is_idle: bool = False,
    ) -> None:
        self._now_s = now_s
        engine.moments.now_s = now_s
        self._stall_s = 0.0  # spent on other work since the last group
        self._engine = engine
        self._is_idle = is_idle
        self._subscriber = subscriber
        self._deliver = deliver
        self._room = room or Room()
        self._tickets: deque[Ticket] = deque()
        self._taken = self._done = 0  # tickets, of those that write
        self._asking: deque[tuple[int, Ticket]] = deque()  # with how many had been taken before
        self._notes: deque[Record] = deque()
        self._slices: deque[Slice] = deque()
        self._span = engine.audit_span()
        self._cutting = True  # there may be more in the audit than is to be kept
        # What holds up no commit: what could not be done for want of room, and what was to be trimmed at the start.
        self._spared = Load(surplus_batches=engine.surplus.batches, surplus_bytes=engine.surplus.bytes)
        self._hopeless = False  # the last trimming found no room
        self._trimming = False  # begun and not done
        self._share = 1.0  # of a full group that the next one may be
        self._tended = False
        self.failed = False

    def take(self, item: Ticket | Record | Slice) -> None:
        """Accept one piece of work."""
        if isinstance(item, Ticket) and item.asks:
            self._asking.append((self._taken, item))
        elif isinstance(item, Ticket):
            self._taken += 1
            self._tickets.append(item)
        elif isinstance(item, Record):
            self._notes.append(item)
        else:
            self._slices.append(item)

    @property
    def waiting(self) -> int:
        """Batches accepted and not yet committed."""
        return len(self._tickets)

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return self.has_requests or (
            not (self.failed or self._is_idle)
            and bool(self._cutting or self._room.wants or pacing.task(self.load(), waiting=False))
        )

    @property
    def has_requests(self) -> bool:
        """Whether somebody waits for an answer; upkeep alone keeps nobody from ending."""
        return not self.failed and bool(self._tickets or self._asking or self._notes or self._slices)

    def load(self) -> Load:
        """How far upkeep is behind."""
        engine = self._engine
        batches, size, asked, ended = engine.surplus
        rows, unmoved = engine.unsettled_rows, engine.unmoved_bytes
        was = self._spared
        spared = self._spared = Load(
            min(was.unsettled_rows, rows),
            min(was.unmoved_bytes, unmoved),
            min(was.surplus_batches, batches),
            min(was.surplus_bytes, size),
        )
        return Load(
            rows - spared.unsettled_rows,
            unmoved - spared.unmoved_bytes,
            batches - spared.surplus_batches,
            size - spared.surplus_bytes,
            is_asked=not self._hopeless and any((asked, ended, spared.surplus_batches, spared.surplus_bytes)),
            is_unfinished=self._trimming and any(engine.surplus),
        )

    def step(self) -> None:
        """One group, then slices."""
        try:
            if not self._tickets:
                self._stall_s = 0.0  # nobody waits
            if (self._tickets or self._notes) and self._share:
                if self._stall_s:
                    self._deliver(self._subscriber.stalled, self._stall_s)
                self._commit(self._share)
                self._stall_s = 0.0
            began_s = self._now_s()
            load = Load() if self._is_idle else self.load()
            slices = pacing.slices(load)
            if self._cutting and not self._is_idle:  # beside the turns of the others: neither is put off by the other
                self._cut()
                slices = max(1, slices - 1)
            if self._asking and self._asking[0][0] <= self._done:
                self._answer()
                slices = max(1, slices - 1)
            while slices > 0 and (cost := self._slice(load)):
                slices -= cost
                load = Load() if self._is_idle else self.load()
            self._share = pacing.share(load)  # now, so that the next group does not wait for the reckoning
            if self._room.wants and not self._tickets and not self._is_idle:
                self._room.hold()
            self._tell_of_room()
            self._stall_s += self._now_s() - began_s
        except StoreBroken as error:
            self.failed = True
            self._deliver(self._subscriber.broken, error)

    def _slice(self, load: Load) -> int:
        """A read or some upkeep, in turns; what it counts as, 0 when there is nothing to do."""
        task = pacing.task(load, waiting=bool(self._tickets))
        if task is not None and not (self._slices and self._tended):
            self._tend(task)
            self._tended = True
            return pacing.MOVE_SLICES if task == "move" else 1
        if self._slices:
            self._take_slice(self._slices.popleft())
            self._tended = False
            return 1
        return 0

    def _commit(self, share: float) -> None:
        group: list[Ticket] = []
        size = writes = 0
        while self._tickets and len(group) < share * COMMIT_GROUP_MAX:
            size += self._tickets[0].size
            writes += self._tickets[0].writes
            if group and (size > share * COMMIT_GROUP_BYTES_MAX or writes > share * COMMIT_GROUP_WRITES_MAX):
                break
            group.append(self._tickets.popleft())
        records: list[Attached] = [(index, each) for index, ticket in enumerate(group) for each in ticket.records]
        notes = [self._notes.popleft() for _ in range(min(len(self._notes), AUDIT_GROUP_MAX))]
        records += ((None, note) for note in notes)
        moments = self._engine.moments
        moments.written_s = moments.synced_s = 0.0
        taken_s = self._now_s()
        outcomes = rationing.apply(self._engine, self._room, [ticket.batch for ticket in group], records)
        took = Took(taken_s, moments.written_s, moments.synced_s, self._now_s(), len(group))
        self._tell_of_room()  # first, so that whoever is refused finds it said
        if group:
            self._done += len(group)
            self._hopeless = False  # there may be room again: what is asked to go is tried once more
            self._deliver(self._subscriber.publish, group, outcomes, took)
        if records or notes:
            self._cutting = True
            self._tell_of_audit(len(notes))

    def _tell_of_room(self) -> None:
        if (report := self._room.news()) is not None:
            self._deliver(self._subscriber.roomed, report)

    def _answer(self) -> None:
        """A slice of those who ask after a request id. What had been taken before they asked is committed, or not, by
        now; what writes waits for none of them.
        """
        group: list[Ticket] = []
        while self._asking and len(group) < ASKED_SLICE and self._asking[0][0] <= self._done:
            group.append(self._asking.popleft()[1])
        self._deliver(self._subscriber.publish, group, self._engine.apply([ticket.batch for ticket in group]))

    def _tell_of_audit(self, settled: int) -> None:
        """What goes alone is written with its group or not at all: then nothing has a new id."""
        before, self._span = self._span, self._engine.audit_span()
        dropped = settled if self._span.last == before.last else 0
        if settled or self._span != before:
            self._deliver(self._subscriber.audited, self._span, settled, dropped)

    def _take_slice(self, job: Slice) -> None:
        try:
            self._hopeless = False  # it may have asked for something to go
            result: Any = job.run(self._engine)
        except (BelowWindow, ValuePurged) as error:
            result = error
        except StoreDamaged as error:
            if error.while_writing:
                raise
            result = error.with_traceback(None)  # its frames would keep a statement open, and the database locked
        except StoreBroken:
            raise
        except Exception as error:  # noqa: BLE001  # a bug in one slice is its asker's error, nothing is in doubt
            result = SliceFailed(error)
        self._deliver(job.done, result)

    def _cut(self) -> None:
        """One slice of dropping what the audit no longer keeps."""
        self._cutting = self._engine.cut(pacing.SLICE_ROWS) > 0
        self._tell_of_audit(0)

    def _tend(self, task: pacing.Task) -> None:
        """One slice of upkeep. What there is no room for on the disk is left alone until as much again has gathered."""
        engine = self._engine
        if task == "settle":
            done = rationing.tend(self._room, lambda: engine.settle(pacing.SLICE_ROWS))
            self._spared = self._spared._replace(unsettled_rows=0 if done else engine.unsettled_rows)
        elif task == "move":
            rationing.tend(self._room, lambda: _move(engine))
            self._spared = self._spared._replace(unmoved_bytes=engine.unmoved_bytes)
        else:
            self._trimming = engine.trim(pacing.SLICE_ROWS) > 0
            self._hopeless = not self._trimming and any(engine.surplus)
            if self._hopeless:
                left = engine.surplus
                self._spared = self._spared._replace(surplus_batches=left.batches, surplus_bytes=left.bytes)
        self._deliver(self._subscriber.tended, engine.position(), engine.surplus, engine.stored_bytes)


def _move(engine: Engine) -> bool:
    before = engine.unmoved_bytes
    engine.move()
    return engine.unmoved_bytes < before


class CommitThread:
    """The thread around a Worker. `deliver` must be thread-safe (`loop.call_soon_threadsafe`)."""

    def __init__(
        self,
        engine: Engine,
        subscriber: Subscriber,
        deliver: Callable[..., object],
        room: Room | None = None,
        now_s: Callable[[], float] = lambda: 0.0,
        *,
        is_idle: bool = False,
    ) -> None:
        self._subscriber = subscriber
        self._deliver = deliver
        self._queue: SimpleQueue[Ticket | Record | Slice | None] = SimpleQueue()
        self._worker = Worker(engine, subscriber, deliver, room, now_s, is_idle=is_idle)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """See `CommitPath`."""
        self._queue.put(ticket)

    def note(self, record: Record) -> None:
        """See `CommitPath`."""
        self._queue.put(record)

    def run(self, job: Slice) -> None:
        """See `CommitPath`."""
        self._queue.put(job)

    def close(self) -> None:
        """Finish what was submitted, then end the thread. The engine is the caller's again afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  # a bug: waiting writers must not hang for ever
            self._deliver(self._subscriber.broken, StoreBroken(f"cannot go on: {type(error).__name__}: {error}"))

    def _work(self) -> None:
        worker = self._worker
        ending = False
        while True:
            if not ending and not worker.has_work:
                ending = self._take(self._queue.get())  # blocks: an idle daemon does not wake
            while not ending and not self._queue.empty():
                ending = self._take(self._queue.get())
            if worker.has_requests or (worker.has_work and not ending):
                worker.step()
            elif ending:
                return

    def _take(self, item: Ticket | Record | Slice | None) -> bool:
        """Pass one item on; True when it is the end."""
        if item is not None:
            self._worker.take(item)
        return item is None
