"""One run of the daemon without sockets, threads and signals: the core wired as `app.serve` wires it.

The commit thread is a worker whose steps are events; what it delivers reaches the loop later, in order. A kill stops
everything between two events: no callback of this run is ever entered again.

Rule: the wiring is that of `app.serve`; what differs is written here and nowhere else.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cosession.config import Config
from cosession.errors import CosessionError
from cosessiond.clock import TimerHandle, ulid
from cosessiond.metrics import Metrics
from cosessiond.process.configuration import Configuration
from cosessiond.server.assembly import TABLE, Consequences, assemble
from cosessiond.server.assembly import World as Outside
from cosessiond.server.conversation import Conversation
from cosessiond.server.core import Identity
from cosessiond.sessions.identity import Peer
from cosessiond.sessions.ports import Processes
from cosessiond.sessions.probes import probe_process
from cosessiond.sessions.verdict import DiskSignal
from cosessiond.sessions.watching import ProcessWatch
from cosessiond.store import pacing
from cosessiond.store.commit import Worker
from cosessiond.store.engine import Committed, Engine, StoreBroken
from cosessiond.store.leases import Deadlines
from cosessiond.store.record import Record
from cosessiond.store.tickets import Slice, Ticket
from simulation.disk import Disk
from simulation.history import Connection, History, Life
from simulation.knobs import BOOT, UID, Knobs
from simulation.machine import KernelWatch, Machine, Process
from simulation.network import DaemonEnd, Link
from simulation.scheduler import Scheduler

SECRET: Final = b"the secret of the simulation"
#: How long a stopping daemon waits for what is in flight, and looks at it every so often.
DRAIN_S: Final = 1.0
LOOK_S: Final = 0.005


class Died(BaseException):
    """Unwinds a callback of a daemon that stopped in the middle of it, as os._exit does."""


class Daemon:
    """Built, it serves. `seed_bug` may change its parts before anything runs."""

    def __init__(
        self,
        world: Scheduler,
        disk: Disk,
        machine: Machine,
        history: History,
        *,
        on_end: Callable[[], None],
        seed_bug: Callable[[Daemon], None],
    ) -> None:
        self.world = world
        self.disk = disk
        self.history = history
        self.knobs: Knobs = history.knobs
        self.alive = True
        self.accepting = True
        self.links: list[Link] = []
        self._machine = machine
        self._on_end = on_end
        self._soon: deque[Callable[[], object]] = deque()
        self._kernel: KernelWatch | None = None
        self._random = world.stream(f"daemon {disk.life}")
        self._wire(disk.open(), world, seed_bug)

    def _wire(self, engine: Engine, world: Scheduler, seed_bug: Callable[[Daemon], None]) -> None:
        clock, entropy = world.clock, world.entropy
        entries, log = list(engine.entries()), engine.changes(engine.position().compact_revision - 1, 1 << 30, 1 << 30)
        life = Life(self.disk.life, world.now_s, engine.position().revision, entries, log)
        self.history.lives.append(life)
        self.life = life
        world.note(f"daemon {life.number} starts at revision {life.revision}")
        me = Identity(
            daemon_id=ulid(clock, entropy),
            pid=1,
            version="0",
            socket="/nowhere",
            state_directory="/nowhere",
            started_s=world.now_s,
        )
        outside = Outside(
            clock=clock,
            entropy=entropy,
            timers=self,
            processes=self._process_watch,
            disk=lambda: DiskSignal(1 << 40, True, "enough"),
            host="here",
            secret=SECRET,
        )
        consequences = Consequences(
            stop=self.stop, on_bug=lambda error: self._wrong("a handler raised", error), on_broken=self._broken
        )
        self.core = assemble(
            engine,
            me,
            outside,
            consequences,
            configuration=Configuration(Config(limits=self.knobs.limits())),
            metrics=Metrics(),
        )
        self.store = self.core.store
        self.commits = Commits(self, engine)
        self.store.attach(self.commits)
        self.store.listeners.insert(0, self._published)
        seed_bug(self)
        self.enter("start", self._start)

    def _start(self) -> None:
        self.commits.wake()
        self.core.start()

    def _process_watch(self, deadlines: Deadlines) -> Processes:
        if self.knobs.kernel_tells:
            self._kernel = KernelWatch(self._machine, self.enter)
            return self._kernel
        return ProcessWatch(
            self.world.clock,
            deadlines,
            None,
            look=partial(probe_process, boot=BOOT, facts_of=self._machine.facts),
        )

    # -- the loop --------------------------------------------------------------------------------------------------

    def enter(self, what: str, action: Callable[[], object]) -> None:
        """Run a callback on the loop of this daemon, if it lives."""
        if not self.alive:
            return
        try:
            action()
        except Died:
            pass
        except Exception as error:  # noqa: BLE001 - every bug is a finding
            self._wrong(f"uncaught in {what}", error)
            self.kill("a bug")

    def soon(self, what: str, action: Callable[[], object]) -> None:
        """`loop.call_soon_threadsafe`: later, and in the order of the calls."""
        self._soon.append(action)
        self.world.later(lambda: self.enter(what, lambda: self._soon.popleft()()))  # noqa: PLW0108  # looked up then

    def call_at(self, when_s: float, action: Callable[[], None]) -> TimerHandle:
        """`clock.Timers`: as late as a busy loop, or early by the rounding error of one."""
        late_s = -1e-9 if self.knobs.early_timer and self._random.random() < 0.2 else self.world.delay_s()
        return self.world.call_at(max(self.world.now_s, when_s + late_s), lambda: self.enter("timer", action))

    # -- from outside ----------------------------------------------------------------------------------------------

    def accept(self, link: Link, process: Process | None) -> None:
        """A connection from a process of this machine, or (None) from another pid namespace."""
        peer = Peer(process.pid, UID, UID, process.start_time) if process else Peer(0, UID, UID)
        end = DaemonEnd(link, self.enter, self._aborted)
        self.links.append(link)
        end.conversation = Conversation(self.core, TABLE, end, peer)
        self._keep_book(link.number, end.conversation)

    def _keep_book(self, link: int, conversation: Any) -> None:
        """Of when each call is taken and answered, and when the end of the connection is noticed."""
        history, calls, now_s = self.history, self.history.by_wire, lambda: self.world.now_s
        connection = history.connections[link] = Connection(self.life.number)
        dispatch, answer, closed = conversation._dispatch, conversation.answer, conversation.closed

        def taken(call: Any) -> None:
            calls[link, call.id].taken = history.moment(now_s())
            dispatch(call)

        def told(call: Any, result: Any) -> None:
            mine = calls[link, call.id]
            mine.told, mine.outcome = history.moment(now_s()), result
            answer(call, result)

        def over() -> None:
            connection.closed = history.moment(now_s())
            closed()

        conversation._dispatch, conversation.answer, conversation.closed = taken, told, over

    def kill(self, why: str) -> None:
        """SIGKILL."""
        if self.alive:
            self.world.note(f"daemon {self.life.number} dies: {why}")
            self.disk.killed()
            self._end()

    def stop(self) -> None:
        """SIGTERM; see `app._drain`."""
        if not self.core.draining:
            self.world.note(f"daemon {self.life.number} stops")
            self.core.drain()
            self.accepting = False
            self._drain(self.world.now_s + DRAIN_S)

    def _drain(self, deadline_s: float) -> None:
        busy = self.store.queued or any(conversation.in_flight for conversation in self.core.conversations)
        if busy and self.world.now_s < deadline_s:
            self.world.call_after(LOOK_S, lambda: self.enter("drain", lambda: self._drain(deadline_s)))
            return
        leaving = CosessionError("cannot go on: the daemon is shutting down; connect again", code="shutting_down")
        for link in self.links:  # in the order of their making, where the daemon takes that of a set
            if link.end.conversation in self.core.conversations:
                link.end.conversation.leave(leaving)
        self._leave(deadline_s)

    def _leave(self, deadline_s: float) -> None:
        if self.core.conversations and self.world.now_s < deadline_s:
            self.world.call_after(LOOK_S, lambda: self.enter("leave", lambda: self._leave(deadline_s)))
            return
        self.commits.finish()
        self.world.note(f"daemon {self.life.number} has stopped")
        self.disk.closed()
        self._end()

    def _end(self) -> None:
        self.alive = self.accepting = False
        self.life.ended_s = self.world.now_s
        if self._kernel is not None:
            self._kernel.close()
        for link in self.links:
            link.daemon_ends()
        self._on_end()

    def _broken(self, error: StoreBroken) -> None:
        self.kill(str(error))
        raise Died

    def _aborted(self, link: int) -> None:
        self.history.wrong.append(
            f"link {link} was aborted by the daemon although its client reads and sends as it should"
        )

    def _wrong(self, what: str, error: BaseException) -> None:
        self.history.wrong.append(f"{what}: {error!r}\n" + "".join(traceback.format_exception(error)[-4:]))
        self.world.note(f"wrong: {what}: {error!r}")

    def _published(self, outcome: Committed) -> None:
        row = self.history.rows[outcome.revision - 1]
        row.published_s = self.world.now_s
        keys = " ".join(f"{change.kind}:{change.id[2]}" for change in outcome.changes)
        self.world.note(f"published {outcome.revision} {outcome.origin.operation} {keys}")


class Commits:
    """`store.tickets.CommitPath`: the worker takes what is queued, one step at a time, whenever its turn comes."""

    def __init__(self, daemon: Daemon, engine: Engine) -> None:
        self.daemon = daemon
        self._inbox: deque[Ticket | Record | Slice] = deque()
        self._awake = False
        self.worker = Worker(engine, daemon.store, self._deliver)
        self.put_off = 0  # steps in a row without the upkeep that was overdue

    def submit(self, ticket: Ticket) -> None:
        """See `CommitPath`."""
        disk = self.daemon.disk
        disk.submitted_s[id(ticket.batch)] = (ticket.batch, disk.world.now_s)
        self._inbox.append(ticket)
        self.wake()

    def note(self, record: Record) -> None:
        """See `CommitPath`."""
        self._inbox.append(record)
        self.wake()

    def run(self, job: Slice) -> None:
        """See `CommitPath`."""
        self._inbox.append(job)
        self.wake()

    def wake(self) -> None:
        """See that a step comes."""
        if not self._awake:
            self._awake = True
            world = self.daemon.world
            stall_s = 0.0
            if "stall" in self.daemon.knobs.faults and self.daemon._random.random() < 0.01:
                stall_s = self.daemon._random.uniform(0.0, 0.5)
            world.call_after(stall_s + world.delay_s(), lambda: self.daemon.enter("commit thread", self._step))

    def finish(self) -> None:
        """See `CommitThread.close`."""
        self._take()
        while self.worker.has_work:
            self.worker.step()

    def _step(self) -> None:
        self._awake = False
        self._take()
        if self.worker.has_work:
            disk, before = self.daemon.disk, self.daemon.disk.upkeeps
            overdue = pacing.task(self.worker.load(), waiting=True) is not None
            self.worker.step()
            # A step whose commit raised was the last of this life, and ends there: it puts nothing off.
            is_put_off = overdue and disk.upkeeps == before and not self.worker.failed
            self.put_off = self.put_off + 1 if is_put_off else 0
        if self.worker.has_work or self._inbox:
            self.wake()

    def _take(self) -> None:
        while self._inbox:
            self.worker.take(self._inbox.popleft())

    def _deliver(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.daemon.soon("delivery", partial(function, *arguments))
