"""Bugs put into the daemon on purpose, one for each thing an oracle claims to see.

Each is what a plausible mistake in the core would do, made by wrapping one part of it inside the simulation; no file
of the daemon is touched. Rule: a bug belongs here when some oracle must find it within a few seeds, and the test says
which one did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from cosession.errors import Compacted
from cosession.model import Instance
from cosessiond.clock import Clock
from cosessiond.sessions.verdict import ProcessSignal
from cosessiond.store.engine import Batch, Delete, Engine, EntryCompare, EntryId, Outcome
from cosessiond.store.leases import Deadlines
from cosessiond.store.memory import MemoryEngine
from simulation.daemon import Daemon
from simulation.disk import EPOCH, Wrap


@dataclass(frozen=True)
class Bug:
    """One seeded bug, the oracles of which one must speak, and the faults that bring it out."""

    name: str
    oracles: frozenset[str]
    in_daemon: Callable[[Daemon], None] = lambda _: None
    in_engine: Wrap = lambda engine: engine
    fixed: dict[str, Any] = field(default_factory=dict)


class _Around:
    """An engine around another."""

    def __init__(self, engine: Any) -> None:
        self._inside = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


class _Volatile(_Around):
    """Acknowledges before the commit: the newest group reaches the disk only with the next one."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._window = engine._window
        self._synced: list[Batch] = []
        self._unsynced: list[Batch] = []

    def apply(self, batches: Sequence[Batch]) -> list[Outcome]:
        self._synced += self._unsynced
        self._unsynced = list(batches)
        found: list[Outcome] = self._inside.apply(batches)
        return found

    def power_cut(self) -> None:
        self._inside = MemoryEngine(EPOCH, self._window)
        self._inside.apply(self._synced)
        self._unsynced = []


class _Blind(_Around):
    """Does not look at the compares of writes."""

    def apply(self, batches: Sequence[Batch]) -> list[Outcome]:
        found: list[Outcome] = self._inside.apply([replace(batch, compares=()) for batch in batches])
        return found


class _Forgetful(_Around):
    """Keeps request ids in memory only."""

    def power_cut(self) -> None:
        self._inside._requests.clear()


class _Halving(_Around):
    """Leaves the last write of a larger batch out now and then."""

    count = 0

    def apply(self, batches: Sequence[Batch]) -> list[Outcome]:
        found: list[Outcome] = self._inside.apply([self._half(batch) for batch in batches])
        return found

    def _half(self, batch: Batch) -> Batch:
        if len(batch.then) < 2 or batch.origin.operation != "txn":
            return batch
        self.count += 1
        return batch if self.count % 3 else replace(batch, then=batch.then[:-1])


def _around(kind: Callable[[Any], Any]) -> Wrap:
    def wrap(engine: Engine) -> Engine:
        wrapped: Engine = kind(engine)
        return wrapped

    return wrap


def _stale_read(daemon: Daemon) -> None:
    """Memory is published after the answers."""
    store = daemon.store
    publish = store.publish

    def answers_first(tickets: Any, outcomes: Any) -> None:
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            store._queued.batches -= 1
            ticket.done(outcome)
        store._queued.batches += len(tickets)
        silent = [replace(ticket, done=lambda _: None) for ticket in tickets]
        store.flush()
        daemon.soon("late publication", lambda: publish(silent, outcomes))

    store.publish = answers_first  # type: ignore[method-assign]


def _watch_gap(daemon: Daemon) -> None:
    """A watcher that lagged goes on live, without catching up."""
    hub = daemon.core.watches
    drained = hub.drained

    def skip(sink: Any) -> None:
        for watcher in hub._by_sink.get(sink, {}).values():
            if watcher.state == "lagging":
                watcher.state = "live"
        drained(sink)

    hub.drained = skip  # type: ignore[method-assign]


def _duplicate(daemon: Daemon) -> None:
    """A resumed watch begins one revision too early."""
    hub = daemon.core.watches
    begin = hub.open

    def early(watcher: Any, start_revision: int) -> None:
        begin(watcher, max(start_revision - 1, daemon.store.compact_revision) if start_revision else 0)

    hub.open = early  # type: ignore[method-assign]


def _silent_trim(daemon: Daemon) -> None:
    """A watcher below the window goes on where the log begins now."""
    hub = daemon.core.watches
    replay = hub._replay

    def forgive(watcher: Any, result: Any) -> None:
        if isinstance(result, Compacted):
            watcher.next_revision = daemon.store.compact_revision
            hub._settle(watcher)
        else:
            replay(watcher, result)

    hub._replay = forgive  # type: ignore[method-assign]


def _early_expiry(daemon: Daemon) -> None:
    """Leases last nine tenths of their time."""
    expiry = daemon.core.expiry
    arm = expiry._arm

    def hasty(id: EntryId, revision: int, delay_s: float) -> None:
        arm(id, revision, delay_s * 0.9)

    expiry._arm = hasty  # type: ignore[method-assign]


def _expiry_race(daemon: Daemon) -> None:
    """An expiry compares the create_revision, so that it ends an entry that was renewed just before."""
    expiry, store = daemon.core.expiry, daemon.store

    def expire(id: EntryId, revision: int) -> None:  # noqa: ARG001 - which is the mistake
        entry = store.get(id)
        if entry is not None:
            compare = EntryCompare(id, "create_revision", entry.create_revision)
            store.submit(store.batch(store.origin("expire"), [compare], [Delete(id, "expire")]), lambda _: None)

    expiry._expire = expire  # type: ignore[method-assign]


def _survivor(daemon: Daemon) -> None:
    """The end of a session leaves its ephemeral entries."""
    daemon.core.registry._planner.left_behind = lambda session_id: ([], [])  # type: ignore[method-assign]  # noqa: ARG005


def _wall_clock(daemon: Daemon) -> None:
    """Leases of entries are kept on the wall clock."""
    clock = daemon.world.clock

    class Wall:
        def monotonic(self) -> float:
            return clock.wall_ms() / 1000

        def wall_ms(self) -> int:
            return clock.wall_ms()

    class Timers:
        def call_at(self, when_s: float, action: Callable[[], None]) -> Any:
            return daemon.call_at(daemon.world.now_s + when_s - clock.wall_ms() / 1000, action)

    daemon.core.expiry._deadlines = Deadlines(Wall(), Timers())


def _any_pid(daemon: Daemon) -> None:
    """A process is alive when its pid is taken, by whomever."""
    processes: Any = daemon.core.registry._liveness._processes
    look = processes._look

    def gullible(instance: Instance, clock: Clock) -> ProcessSignal:
        found: ProcessSignal = look(instance, clock)
        return ProcessSignal("alive", found.evidence) if found.kind == "reused" else found

    processes._look = gullible


_CRASHES: Final = frozenset({"crash", "after_apply", "cut"})

BUGS: Final[tuple[Bug, ...]] = (
    Bug(
        "acknowledge before commit",
        frozenset({"durable"}),
        in_engine=_around(_Volatile),
        fixed={"faults": _CRASHES, "window_revisions": 100_000},
    ),
    Bug("blind compare", frozenset({"acknowledged", "unknown"}), in_engine=_around(_Blind)),
    Bug("stale read", frozenset({"linear", "acknowledged"}), in_daemon=_stale_read),
    Bug(
        "watch gap",
        frozenset({"watched"}),
        in_daemon=_watch_gap,
        fixed={"faults": frozenset({"slow"}), "high_water": 1024, "value_bytes": 800, "kernel_bytes": 300},
    ),
    Bug(
        "duplicate on resume",
        frozenset({"watched"}),
        in_daemon=_duplicate,
        fixed={"faults": frozenset({"cut"}), "window_revisions": 100_000},
    ),
    Bug("early expiry", frozenset({"leases"}), in_daemon=_early_expiry),
    Bug("expiry ends what was renewed", frozenset({"leases"}), in_daemon=_expiry_race),
    Bug("lost request id", frozenset({"once"}), in_engine=_around(_Forgetful), fixed={"faults": _CRASHES}),
    Bug("ephemeral survivor", frozenset({"ephemerals"}), in_daemon=_survivor),
    Bug(
        "trimmed in silence",
        frozenset({"watched"}),
        in_daemon=_silent_trim,
        fixed={
            "faults": frozenset({"slow"}),
            "high_water": 1024,
            "value_bytes": 800,
            "kernel_bytes": 300,
            "window_revisions": 6,
        },
    ),
    Bug(
        "leases on the wall clock",
        frozenset({"leases"}),
        in_daemon=_wall_clock,
        fixed={"faults": frozenset({"wall"})},
    ),
    Bug("half a batch", frozenset({"acknowledged", "unknown"}), in_engine=_around(_Halving)),
    Bug(
        "fooled by a reused pid",
        frozenset({"noticed"}),
        in_daemon=_any_pid,
        fixed={"faults": frozenset({"kill"}), "kernel_tells": False, "clients": 4, "duration_s": 3.5},
    ),
)
