"""Bugs put into the daemon on purpose, one at least for each oracle.

Each is what a plausible mistake in the core would do, made by wrapping one part of it inside the simulation, or the
engine (`seeded_engines`); no file of the daemon is touched. Rule: a bug belongs here when each oracle that it names
must find it within a few seeds; all that are named here are all oracles there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from cosession.errors import Compacted
from cosession.model import Instance
from cosessiond.clock import Clock
from cosessiond.sessions.verdict import ProcessSignal
from cosessiond.store.engine import Conflicted, Delete, EntryCompare, EntryId, Outcome
from cosessiond.store.leases import Deadlines
from cosessiond.store.tickets import Ticket
from simulation import seeded_claims, seeded_mail, seeded_turns
from simulation.daemon import Daemon
from simulation.disk import Wrap
from simulation.seeded_engines import (
    Blind,
    Detaching,
    EarlyList,
    EarlySum,
    Ending,
    Forgetful,
    Greedy,
    Halving,
    Keeping,
    Overruling,
    Sparing,
    Spending,
    Volatile,
    around,
)


@dataclass(frozen=True)
class Bug:
    """One seeded bug, the oracles that must speak, each for itself, and the faults that bring it out.

    `seed` has shown it and is looked at first; when the core has changed so that it does no longer, others are.
    """

    name: str
    oracles: frozenset[str]
    seed: int = 0
    in_daemon: Callable[[Daemon], None] = lambda _: None
    in_engine: Wrap = lambda engine: engine
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def knobs(self) -> dict[str, Any]:
        """What of its runs is not drawn: there are claims and mail only where it says so."""
        return {"claims": False, "mail": False} | self.fixed


def _stale_read(daemon: Daemon) -> None:
    """Memory is published after the answers."""
    store = daemon.store
    publish = store.publish
    late: deque[tuple[Any, ...]] = deque()

    def answers_first(tickets: Any, outcomes: Any, *took: Any) -> None:
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            store._queued.batches -= 1
            ticket.done(outcome)
        store._queued.batches += len(tickets)
        late.append(([replace(ticket, done=lambda _: None) for ticket in tickets], outcomes, *took))
        store.flush()
        daemon.world.later(lambda: daemon.enter("late publication", lambda: publish(*late.popleft())), 10.0)

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


def _silent_loser(daemon: Daemon) -> None:
    """Who loses against a write of the same group hears nothing."""
    store = daemon.store
    publish = store.publish

    def forget(tickets: Any, outcomes: Any, *took: Any) -> None:
        lost = [isinstance(outcome, Conflicted) and outcome.revision > store.revision for outcome in outcomes]
        publish(
            [_deaf(ticket) if gone else ticket for ticket, gone in zip(tickets, lost, strict=True)], outcomes, *took
        )

    store.publish = forget  # type: ignore[method-assign]


def _deaf(ticket: Any) -> Any:
    return replace(ticket, done=lambda _: None) if ticket.batch.origin.request_id else ticket


def _shared_conflict(daemon: Daemon) -> None:
    """One conflict is the answer of its whole group, of which the rest is committed."""
    publish = daemon.store.publish

    def share(tickets: Any, outcomes: Any, *took: Any) -> None:
        conflict = next((each for each in outcomes if isinstance(each, Conflicted)), None)
        if conflict is not None:
            tickets = [replace(ticket, done=partial(_instead, ticket.done, conflict)) for ticket in tickets]
        publish(tickets, outcomes, *took)

    daemon.store.publish = share  # type: ignore[method-assign]


def _instead(done: Callable[[Outcome], None], told: Outcome, happened: Outcome) -> None:  # noqa: ARG001
    done(told)


def _overtaking(daemon: Daemon) -> None:
    """A batch without compares cannot fail, so it goes ahead of what waits."""
    worker = daemon.commits.worker
    take = worker.take

    def ahead(item: Any) -> None:
        if isinstance(item, Ticket) and not item.batch.compares:
            worker._tickets.appendleft(item)
        else:
            take(item)

    worker.take = ahead  # type: ignore[method-assign]


def _late_answer(daemon: Daemon) -> None:
    """What a `get` found is sent a little later, behind answers that are newer."""
    accept = daemon.accept

    def accept_late(link: Any, process: Any) -> None:
        accept(link, process)
        conversation = link.end.conversation
        answer = conversation.answer

        def late(call: Any, result: Any) -> None:
            if call.method == "get":
                daemon.soon("late answer", lambda: (answer(call, result), daemon.core.flush()))
            else:
                answer(call, result)

        conversation.answer = late

    daemon.accept = accept_late  # type: ignore[method-assign]


def _impatient(daemon: Daemon) -> None:
    """A session is suspect when it has missed one heartbeat less than is promised."""
    liveness: Any = daemon.core.registry._liveness
    liveness._policy = replace(liveness._policy, missed_max=liveness._policy.missed_max - 1)


def _no_progress(daemon: Daemon) -> None:
    """An idle watch is never told how far it is, and the log window passes it."""
    daemon.core.watches._report = lambda watcher: None  # type: ignore[method-assign]  # noqa: ARG005


def _kept_watch(daemon: Daemon) -> None:
    """The watches of a connection stay when it is gone."""
    daemon.core.watches.close_sink = lambda sink: None  # type: ignore[method-assign]  # noqa: ARG005


_CROWDED: Final = {"clients": 4, "think_s": 0.01, "duration_s": 1.0, "group_max": 256, "faults": frozenset({"stall"})}
#: Long enough for a turn to end by its time while others wait.
_TURNS: Final = _CROWDED | {"duration_s": 2.5, "faults": frozenset()}
_MAIL: Final[dict[str, Any]] = {"mail": True}
_CLAIMS: Final = {"claims": True, "clients": 4, "think_s": 0.01, "duration_s": 2.5, "faults": frozenset({"stall"})}
_CRASHES: Final = frozenset({"crash", "after_apply", "cut"})

BUGS: Final[tuple[Bug, ...]] = (
    Bug(
        "acknowledge before commit",
        frozenset({"durable"}),
        seed=5,
        in_engine=around(Volatile),
        fixed={"faults": _CRASHES, "window_revisions": 100_000},
    ),
    Bug("blind compare", frozenset({"acknowledged", "unknown"}), seed=1, in_engine=around(Blind)),
    Bug("stale read", frozenset({"linear", "acknowledged"}), seed=0, in_daemon=_stale_read),
    Bug(
        "watch gap",
        frozenset({"watched"}),
        seed=2,
        in_daemon=_watch_gap,
        fixed={"faults": frozenset({"slow"}), "high_water": 1024, "value_bytes": 800, "kernel_bytes": 300},
    ),
    Bug(
        "duplicate on resume",
        frozenset({"watched"}),
        seed=5,
        in_daemon=_duplicate,
        fixed={"faults": frozenset({"cut"}), "window_revisions": 100_000},
    ),
    Bug("early expiry", frozenset({"leases"}), seed=5, in_daemon=_early_expiry),
    Bug("expiry ends what was renewed", frozenset({"leases"}), seed=6, in_daemon=_expiry_race),
    Bug("lost request id", frozenset({"once"}), seed=0, in_engine=around(Forgetful), fixed={"faults": _CRASHES}),
    Bug("ephemeral survivor", frozenset({"ephemerals"}), in_daemon=_survivor),
    Bug(
        "trimmed in silence",
        frozenset({"watched"}),
        seed=3,
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
        seed=5,
        in_daemon=_wall_clock,
        fixed={"faults": frozenset({"wall"})},
    ),
    Bug("half a batch", frozenset({"acknowledged", "unknown"}), seed=6, in_engine=around(Halving)),
    Bug(
        "fooled by a reused pid",
        frozenset({"noticed"}),
        seed=12,
        in_daemon=_any_pid,
        fixed={"faults": frozenset({"kill"}), "kernel_tells": False, "clients": 4, "duration_s": 3.5},
    ),
    Bug(
        "an add from before its group", frozenset({"acknowledged"}), seed=1, in_engine=around(EarlySum), fixed=_CROWDED
    ),
    Bug(
        "an append from before its group",
        frozenset({"acknowledged"}),
        seed=3,
        in_engine=around(EarlyList),
        fixed=_CROWDED,
    ),
    Bug("an add ends the lease", frozenset({"acknowledged"}), seed=0, in_engine=around(Detaching), fixed=_CROWDED),
    Bug("nothing takes a revision", frozenset({"dense"}), seed=5, in_engine=around(Spending)),
    Bug("the loser hears nothing", frozenset({"answered"}), seed=2, in_daemon=_silent_loser),
    Bug("a conflict for the whole group", frozenset({"refused"}), seed=6, in_daemon=_shared_conflict),
    Bug("overtaken in the queue", frozenset({"in order"}), seed=5, in_daemon=_overtaking),
    Bug("a late answer", frozenset({"forward"}), seed=5, in_daemon=_late_answer),
    Bug("suspect too soon", frozenset({"sessions"}), seed=1, in_daemon=_impatient),
    Bug(
        "no progress",
        frozenset({"sound"}),
        seed=1,
        in_daemon=_no_progress,
        fixed={"faults": frozenset(), "window_revisions": 6},
    ),
    Bug("watches of nobody", frozenset({"at rest"}), seed=5, in_daemon=_kept_watch),
    Bug(
        "a turn without end",
        frozenset({"answered"}),
        seed=1,
        in_daemon=seeded_turns.endless,
        fixed=_CROWDED | {"faults": frozenset()},
    ),
    Bug("the turn of nobody", frozenset({"at rest"}), seed=1, in_daemon=seeded_turns.of_nobody),
    Bug(
        "a turn beyond its write", frozenset({"turns"}), seed=1, in_daemon=seeded_turns.beyond_the_write, fixed=_CROWDED
    ),
    Bug(
        "a turn beyond its second", frozenset({"turns"}), seed=3, in_daemon=seeded_turns.beyond_the_second, fixed=_TURNS
    ),
    Bug("a turn beyond its connection", frozenset({"turns"}), seed=6, in_daemon=seeded_turns.beyond_the_connection),
    Bug("turns out of order", frozenset({"turns"}), seed=2, in_daemon=seeded_turns.out_of_order, fixed=_CROWDED),
    Bug("a turn in the way", frozenset({"unhindered"}), seed=13, in_daemon=seeded_turns.in_the_way, fixed=_CROWDED),
    Bug("a turn in line", frozenset({"unhindered"}), in_daemon=seeded_turns.in_line, fixed=_CROWDED),
    Bug("a revert that overrules", frozenset({"acknowledged"}), seed=1, in_engine=around(Overruling), fixed=_CROWDED),
    Bug("purged but for the log", frozenset({"purged"}), seed=2, in_engine=around(Sparing)),
    Bug(
        "ended although put again",
        frozenset({"linear"}),
        seed=1,
        in_engine=around(Ending),
        fixed={"window_revisions": 6},
    ),
    Bug("deleted and kept for ever", frozenset({"linear"}), in_engine=around(Keeping), fixed={"window_revisions": 6}),
    Bug("a claim beside another", frozenset({"exclusive"}), seed=5, in_daemon=seeded_claims.blind, fixed=_CLAIMS),
    Bug("a token of another", frozenset({"tokens"}), seed=1, in_daemon=seeded_claims.of_before, fixed=_CLAIMS),
    Bug("a claim cut short", frozenset({"in time"}), seed=8, in_daemon=seeded_claims.hasty, fixed=_CLAIMS),
    Bug("a fence in memory", frozenset({"fenced"}), seed=5, in_daemon=seeded_claims.from_memory, fixed=_CLAIMS),
    Bug("past those who wait", frozenset({"in line"}), seed=5, in_daemon=seeded_claims.pushing, fixed=_CLAIMS),
    Bug("nobody is woken", frozenset({"sound"}), in_daemon=seeded_claims.sleeping, fixed=_CLAIMS),
    Bug("a letter lost on its way", frozenset({"letters"}), seed=3, in_daemon=seeded_mail.losing, fixed=_MAIL),
    Bug("letters of the dead forgotten", frozenset({"letters"}), in_daemon=seeded_mail.forgetful, fixed=_MAIL),
    Bug("a letter sent twice", frozenset({"letters"}), seed=5, in_daemon=seeded_mail.twice, fixed=_MAIL),
    Bug("a box beyond its bounds", frozenset({"letters"}), seed=3, in_daemon=seeded_mail.overfull, fixed=_MAIL),
    Bug("handed over and not noted", frozenset({"handed"}), in_daemon=seeded_mail.unmarked, fixed=_MAIL),
    Bug("letters by their ids", frozenset({"inbox"}), seed=3, in_daemon=seeded_mail.by_id, fixed=_MAIL),
    Bug("purged more than asked", frozenset({"linear", "durable"}), seed=2, in_engine=around(Greedy)),
)
