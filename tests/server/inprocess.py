"""The daemon without sockets, threads and time: its core and conversations in a virtual world, over the memory engine
or another.

Rule: wired by the daemon's own `assemble`. What touches the machine is left out: nobody is registered, no process is
watched, and the peer of every connection is unknown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cosession.config import Config
from cosession.messages.limits import LIMITS, Limits
from cosessiond.backups.vault import Vault
from cosessiond.metrics import Metrics
from cosessiond.process.configuration import Configuration
from cosessiond.server import assembly
from cosessiond.server.assembly import TABLE, Consequences, assemble
from cosessiond.server.conversation import Conversation
from cosessiond.server.core import Identity
from cosessiond.sessions.verdict import DiskSignal, ProcessSignal
from cosessiond.sessions.watching import OnDeath, Watching
from cosessiond.store.commit import Worker
from cosessiond.store.engine import Engine, StoreBroken, Window
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.record import Record
from cosessiond.store.revisions import Store
from cosessiond.store.tickets import Slice, Ticket
from rawclient import Answer, take_answer
from virtual import World


class Commits:
    """`cosessiond.store.tickets.CommitPath` without a thread: a lane of the world."""

    def __init__(self, engine: Engine, store: Store, world: World) -> None:
        self._world = world
        self._worker = Worker(engine, store, self._deliver)
        self._stalled = False

    def submit(self, ticket: Ticket) -> None:
        """See `CommitPath`."""
        self._take(ticket)

    def note(self, record: Record) -> None:
        """See `CommitPath`."""
        self._take(record)

    def run(self, job: Slice) -> None:
        """See `CommitPath`."""
        self._take(job)

    def stall(self, *, stalled: bool) -> None:
        """Let nothing be committed or read, as a slow disk does; or go on."""
        self._stalled = stalled
        self._world.call_soon(self._work, lane="store")

    def _take(self, item: Ticket | Record | Slice) -> None:
        self._worker.take(item)
        self._world.call_soon(self._work, lane="store")

    def _work(self) -> None:
        while self._worker.has_work and not self._stalled:
            self._worker.step()

    def _deliver(self, function: Callable[..., object], *arguments: object) -> None:
        self._world.call_soon(partial(_call, function, arguments), lane="delivered")


def _call(function: Callable[..., object], arguments: Sequence[object]) -> None:
    function(*arguments)


class Nobody:
    """`cosessiond.sessions.ports.Processes` of a machine without processes."""

    def look(self, instance: Any) -> ProcessSignal:
        """Not called: nobody is registered."""
        raise NotImplementedError

    def watch(self, instance: Any, on_death: OnDeath) -> Watching:
        """Not called: nobody is registered."""
        raise NotImplementedError


class Inside:
    """One core. `connect` gives connections, `world` moves them."""

    def __init__(
        self,
        limits: Limits = LIMITS,
        *,
        seed: int = 0,
        config: Config | None = None,
        engine: Engine | None = None,
        vault: Vault | None = None,
    ) -> None:
        self.world = World(seed)
        self.bugs: list[Exception] = []
        self.stopped: list[bool] = []
        self.configuration = Configuration(config or Config(limits=limits), load=lambda: self.told or Config())
        self.told = config  # what the file of the configuration says
        engine = engine or MemoryEngine(
            "E",
            Window(
                log_revisions=limits.log_window_revisions,
                log_bytes=limits.log_window_bytes,
                request_ids=limits.request_ids_max,
                request_id_ms=limits.request_id_s * 1000,
            ),
        )
        self.core = assemble(
            engine,
            Identity(daemon_id="D", pid=1, version="0", socket="s", state_directory="d", started_s=0.0),
            assembly.World(
                clock=self.world.clock,
                entropy=self.world.entropy,
                timers=self.world,
                processes=lambda _: Nobody(),
                disk=lambda: DiskSignal(10**9, enough=True),
                host="h",
                secret=bytes(32),
                vault=vault,
            ),
            Consequences(stop=lambda: self.stopped.append(True), on_bug=self.bugs.append, on_broken=_broken),
            configuration=self.configuration,
            metrics=Metrics(),
        )
        self.commits = Commits(engine, self.core.store, self.world)
        self.core.store.attach(self.commits)
        self.core.start()

    def connect(self, _encoding: str = "", *, piece_bytes: int = 1 << 30) -> Line:
        """A connection whose bytes arrive at most `piece_bytes` at a time."""
        return Line(self, piece_bytes)


def _broken(error: StoreBroken) -> None:
    raise error


class Line:
    """One connection as its peer sees it; a `scripting.Channel`."""

    def __init__(self, inside: Inside, piece_bytes: int) -> None:
        self._world = inside.world
        self._piece_bytes = piece_bytes
        self._arriving: deque[Callable[[], None]] = deque()
        self._lost = False
        self.transport = Transport(self._arrive_soon)
        self.conversation = Conversation(inside.core, TABLE, self.transport, None)

    def send(self, data: bytes) -> None:
        """See `scripting.Channel`."""
        for start in range(0, len(data), self._piece_bytes):
            self._arriving.append(partial(self.conversation.received, data[start : start + self._piece_bytes]))
        self._arrive_soon()

    def half_close(self) -> None:
        """See `scripting.Channel`."""
        self._arriving.append(self.conversation.received_eof)
        self._arrive_soon()

    def collect(self, count: int | None, *, to_end: bool) -> tuple[list[Answer], bool]:
        """See `scripting.Channel`. Time passes only while something is missing, from one thing that is due to the
        next."""
        answers: list[Answer] = []
        while True:
            self._world.run_until_idle()
            while (found := take_answer(self.transport.sent)) is not None:
                answers.append(found)
            ended = self.transport.closed
            missing = not ended and (to_end or (count is not None and len(answers) < count))
            due_s = self._world.next_timer_s()
            if not missing or due_s is None:
                assert not self.transport.sent, f"half a frame: {bytes(self.transport.sent[:100])!r}"
                return answers, ended
            self._world.advance(due_s - self._world.clock.monotonic())

    def _arrive_soon(self) -> None:
        self._world.call_soon(self._arrive, lane=id(self))

    def _arrive(self) -> None:
        while self._arriving and not self.transport.paused and not self.transport.closed:
            self._arriving.popleft()()
        if self.transport.closed and not self._lost:
            self._lost = True
            self.conversation.closed()


class Transport:
    """`cosessiond.server.conversation.Transport` of a peer that reads at once."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.sent = bytearray()
        self.paused = False
        self.closed = False

    def send(self, data: bytes) -> None:
        """See the protocol."""
        assert not self.closed, "nothing is sent after the close"
        self.sent += data

    def unsent(self) -> int:
        """See the protocol."""
        return 0

    def pause(self, *, paused: bool) -> None:
        """See the protocol."""
        self.paused = paused
        self._changed()

    def close(self) -> None:
        """See the protocol."""
        if not self.closed:
            self.closed = True
            self._changed()

    def hung_up(self) -> bool:
        """See `conversation.Transport`; here the end of a connection is always told."""
        return False

    def abort(self) -> None:
        """See the protocol."""
        self.close()
