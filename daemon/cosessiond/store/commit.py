"""Group commit: the one thread that owns the engine, and what it alternates between.

One commit group (at most 256 batches or 4 MiB, whatever is queued, no timer), then at most one slice of other work: a
paged read, or upkeep (writing what follows from the log, a checkpoint, some trimming; what is most overdue). Upkeep
waits for a moment without writes until it is overdue, and then takes turns with the reads; so nothing starves, and
neither the WAL nor the log outgrows its bound. Outcomes leave the thread only after the engine's `apply` has returned,
which is after its sync.

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

from cosession.messages.limits import COMMIT_GROUP_BYTES_MAX, COMMIT_GROUP_MAX
from cosessiond.store.engine import Batch, BelowWindow, Engine, Outcome, Position, StoreBroken

Done = Callable[[Outcome], None]

#: Committed batches after which trimming is looked at, and rows dropped in one slice of it.
UPKEEP_EVERY: Final = 256
TRIM_ROWS: Final = 256
#: Rows behind the log after which they are written, and rows written in one slice; with this many, writers wait.
SETTLE_ROWS: Final = 256
BEHIND_ROWS_MAX: Final = 2_048
#: WAL bytes after which it is checkpointed; recovery after kill -9 reads at most about twice this.
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
#: Upkeep that is this many times due no longer waits for writers to pause.
OVERDUE_BATCHES: Final = 16
OVERDUE_BYTES: Final = 2


class Ticket(Struct, frozen=True, gc=False):
    """A batch waiting for its outcome."""

    batch: Batch
    done: Done
    size: int  # about what it will leave behind, in bytes


class ReadJob(Struct, frozen=True, gc=False):
    """A paged read: `read` runs on the thread, `done` on the loop with its result or the exception."""

    read: Callable[[Engine], Any]
    done: Callable[[Any], None]


class ReadFailed(Struct, frozen=True):
    """A read met a bug of ours."""

    error: Exception


class Subscriber(Protocol):
    """Who is told, on the loop."""

    def publish(self, tickets: Sequence[Ticket], outcomes: Sequence[Outcome]) -> None:
        """One group is durable."""
        ...

    def tended(self, position: Position, stored_bytes: int) -> None:
        """Upkeep was done: the lower end of the log window may have moved, and this much is in use."""
        ...

    def broken(self, error: StoreBroken) -> None:
        """The engine failed; nothing more will be committed or answered."""
        ...


class CommitPath(Protocol):
    """Where batches and reads go in; the thread here, an inline one in the simulation."""

    def submit(self, ticket: Ticket) -> None:
        """Queue a batch, behind all earlier ones."""
        ...

    def read(self, job: ReadJob) -> None:
        """Queue a read; it sees every batch submitted and committed before it runs."""
        ...


class Worker:
    """What the thread does, one step at a time and without a thread, so that a simulation can take the steps."""

    def __init__(self, engine: Engine, subscriber: Subscriber, deliver: Callable[..., object]) -> None:
        self._engine = engine
        self._subscriber = subscriber
        self._deliver = deliver
        self._tickets: deque[Ticket] = deque()
        self._reads: deque[ReadJob] = deque()
        self._since_upkeep = 0  # batches
        self._unmovable_bytes = 0  # what the last checkpoint left, as the disk was full
        self._unsettled_rows = 0  # the same of the last settling
        self._trimming = True
        self._tended = False
        self.failed = False

    def take(self, item: Ticket | ReadJob) -> None:
        """Accept one piece of work."""
        if isinstance(item, Ticket):
            self._tickets.append(item)
        else:
            self._reads.append(item)

    @property
    def waiting(self) -> int:
        """Batches accepted and not yet committed."""
        return len(self._tickets)

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""
        return not self.failed and bool(self._tickets or self._reads or self._upkeep_due)

    def _upkeep_owed(self, batches: int, times: int) -> bool:
        unmoved = self._engine.unmoved_bytes - self._unmovable_bytes
        return (
            self._since_upkeep >= batches * UPKEEP_EVERY
            or unmoved >= times * CHECKPOINT_BYTES
            or self._rows_behind >= times * SETTLE_ROWS
        )

    @property
    def _rows_behind(self) -> int:
        return self._engine.unsettled_rows - self._unsettled_rows

    @property
    def _upkeep_due(self) -> bool:
        return self._trimming or self._upkeep_owed(1, 1)

    def step(self) -> None:
        """One group, then at most one slice."""
        try:
            if self._tickets:
                self._commit()
            due = self._upkeep_owed(OVERDUE_BATCHES, OVERDUE_BYTES) if self._tickets else self._upkeep_due
            if due and not (self._reads and self._tended):
                self._upkeep()
                self._tended = True
            elif self._reads:
                self._read(self._reads.popleft())
                self._tended = False
        except StoreBroken as error:
            self.failed = True
            self._deliver(self._subscriber.broken, error)

    def _commit(self) -> None:
        group = [self._tickets.popleft()]
        size = group[0].size
        while self._tickets and len(group) < COMMIT_GROUP_MAX:
            size += self._tickets[0].size
            if size > COMMIT_GROUP_BYTES_MAX:
                break
            group.append(self._tickets.popleft())
        outcomes = self._engine.apply([ticket.batch for ticket in group])
        self._since_upkeep += len(group)
        self._deliver(self._subscriber.publish, group, outcomes)
        while self._rows_behind >= BEHIND_ROWS_MAX:
            self._settle()

    def _settle(self) -> None:
        settled = self._engine.settle(SETTLE_ROWS)
        self._unsettled_rows = 0 if settled else self._engine.unsettled_rows

    def _read(self, job: ReadJob) -> None:
        try:
            result: Any = job.read(self._engine)
        except BelowWindow as error:
            result = error
        except StoreBroken:
            raise
        except Exception as error:  # noqa: BLE001  # a bug in one read is that reader's error, nothing is in doubt
            result = ReadFailed(error)
        self._deliver(job.done, result)

    def _upkeep(self) -> None:
        engine = self._engine
        behind = self._rows_behind / SETTLE_ROWS
        unmoved = (engine.unmoved_bytes - self._unmovable_bytes) / CHECKPOINT_BYTES
        if unmoved >= 1 and unmoved >= behind:
            engine.move()
            self._unmovable_bytes = engine.unmoved_bytes
        elif behind >= 1 and behind >= self._since_upkeep / UPKEEP_EVERY:
            self._settle()
        else:
            self._trim()
        self._deliver(self._subscriber.tended, engine.position(), engine.stored_bytes)

    def _trim(self) -> None:
        before = self._engine.position()
        self._trimming = self._engine.trim(TRIM_ROWS) > 0
        # Few when batches are wide: then it stays due.
        dropped = self._engine.position().compact_revision - before.compact_revision
        self._since_upkeep = max(0, self._since_upkeep - dropped) if self._trimming else 0


class CommitThread:
    """The thread around a Worker. `deliver` must be thread-safe (`loop.call_soon_threadsafe`)."""

    def __init__(self, engine: Engine, subscriber: Subscriber, deliver: Callable[..., object]) -> None:
        self._subscriber = subscriber
        self._deliver = deliver
        self._queue: SimpleQueue[Ticket | ReadJob | None] = SimpleQueue()
        self._worker = Worker(engine, subscriber, deliver)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """See `CommitPath`."""
        self._queue.put(ticket)

    def read(self, job: ReadJob) -> None:
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
            if worker.has_work:
                worker.step()
            elif ending:
                return

    def _take(self, item: Ticket | ReadJob | None) -> bool:
        """Pass one item on; True when it is the end."""
        if item is not None:
            self._worker.take(item)
        return item is None
