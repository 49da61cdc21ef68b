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
from typing import Any, Final

from cosession.messages.limits import (
    AUDIT_GROUP_MAX,
    COMMIT_GROUP_BYTES_MAX,
    COMMIT_GROUP_MAX,
    COMMIT_GROUP_WRITES_MAX,
)
from cosessiond.store import pacing, rationing
from cosessiond.store.engine import (
    BelowWindow,
    Engine,
    StoreBroken,
    StoreDamaged,
    ValuePurged,
)
from cosessiond.store.pacing import Load
from cosessiond.store.record import Attached, Record
from cosessiond.store.room import Room
from cosessiond.store.tickets import Slice, SliceFailed, Subscriber, Ticket, Took
from cosessiond.store.upkeep import Upkeep

#: Questions after a request id that one slice answers: each may be about 128 writes, and hundreds may wait.
ASKED_SLICE: Final = 16


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
        self._upkeep = Upkeep(engine, self._room)
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
        """How far upkeep is behind, as far as it is done at all."""
        return Load() if self._is_idle else self._upkeep.load()

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
            load = self.load()
            slices = pacing.slices(load) + bool(self._slices)  # a read that waits is not taken from upkeep
            if self._cutting and not self._is_idle:  # beside the turns of the others: neither is put off by the other
                self._cut()
                slices = max(1, slices - 1)
            if self._asking and self._asking[0][0] <= self._done:
                self._answer()
                slices = max(1, slices - 1)
            is_first = True
            while slices > 0 and (cost := self._slice(load, slices, is_first=is_first)):
                slices -= cost
                is_first = False
                load = self.load()
            self._share = pacing.share(load)  # now, so that the next group does not wait for the reckoning
            if self._room.wants and not self._tickets and not self._is_idle:
                self._room.hold()
            self._tell_of_room()
            self._stall_s += self._now_s() - began_s
        except StoreBroken as error:
            self.failed = True
            self._deliver(self._subscriber.broken, error)

    def _slice(self, load: Load, slices: int, *, is_first: bool) -> int:
        """A read or some upkeep, in turns; what it counts as, 0 when there is nothing to do in this gap."""
        task = pacing.task(load, waiting=bool(self._tickets))
        if task is not None and not (self._slices and self._tended):
            if task == "move" and self._tickets and not is_first:
                return 0  # the next gap begins with it
            return self._tend(load, task, slices)
        if self._slices:
            self._take_slice(self._slices.popleft())
            self._tended = False
            return 1
        return 0

    def _tend(self, load: Load, task: pacing.Task, slices: int) -> int:
        """One piece of upkeep; what it counts as."""
        if task == "move":
            self._upkeep.move()
            cost = pacing.MOVE_SLICES
        else:
            piece = pacing.piece(load, task, slices)
            self._upkeep.tend(piece)
            cost = sum(piece) // pacing.SLICE_ROWS
        self._tended = True
        engine = self._engine
        self._deliver(self._subscriber.tended, engine.position(), engine.surplus, engine.stored_bytes)
        return cost

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
            self._upkeep.hope()
            self._deliver(self._subscriber.publish, group, outcomes, took)
        if records or notes:
            self._cutting = True
            self._tell_of_audit(len(notes), [record for _, record in records])

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

    def _tell_of_audit(self, settled: int, records: Sequence[Record] = ()) -> None:
        """What goes alone is written with its group or not at all: then nothing has a new id."""
        before, self._span = self._span, self._engine.audit_span()
        dropped = settled if self._span.last == before.last else 0
        if settled or self._span != before:
            self._deliver(self._subscriber.audited, self._span, settled, dropped, records)

    def _take_slice(self, job: Slice) -> None:
        try:
            self._upkeep.hope()
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
