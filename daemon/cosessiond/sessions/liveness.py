"""Liveness of the live sessions: signs of life, deadlines, deaths, and the moves between states that follow.

Each live session has one deadline, the silence at which its verdict may change next. A sign of life only notes the
moment: the deadline is moved when it comes up, so a heartbeat costs one attribute. A look gathers the evidence, asks
the pure verdict, and proposes a move when the record says something else. One move per session is under way at a
time; a sign of life that comes meanwhile waits for its outcome, and after each outcome there is a new look. So
events may come in any order or twice, and whatever was missed is repaired by the next look.

Rule: it changes records only through `commit`, and judges only through `verdict`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from cosession.errors import CosessionError
from cosession.model import Instance, Session
from cosessiond.clock import Clock
from cosessiond.sessions.ports import Processes
from cosessiond.sessions.records import Plan, is_live, moved
from cosessiond.sessions.verdict import (
    OVER,
    CheckpointSignal,
    DiskSignal,
    Evidence,
    Policy,
    ProcessSignal,
    next_silence_s,
)
from cosessiond.sessions.view import View
from cosessiond.sessions.watching import DeathNotice, Watching
from cosessiond.store.leases import Deadlines

#: After a move that the store refused (full disk, overload) it is tried again this much later.
RETRY_S: Final = 1.0
#: How soon to look again after a change. Also: a deadline that comes up a rounding error early must not come up again
#: at the same moment.
STEP_S: Final = 0.001
#: A session whose verdict no silence can change is looked at this often all the same, in case a notice was missed.
RECHECK_S: Final = 600.0

Then = Callable[[], None]
#: Turns the record that a move wants into a plan: compares, the record, what ends with it; under an operation's name.
PlanFor = Callable[[str, Session], Plan]
#: Proposes a plan in the name of a session ("": of the daemon); the last argument gets the record or the error.
Commit = Callable[[str, Callable[[], Plan], Callable[[Session | CosessionError], None]], None]


class _Tracked:
    """What memory knows about one live session. `deaths`: instances that are over but still in the record."""

    def __init__(self, heard_s: float) -> None:
        self.heard_s = heard_s
        self.watching: dict[Instance, Watching] = {}
        self.deaths: dict[Instance, DeathNotice] = {}
        self.moving = False
        self.waiting: list[Then] = []


class Liveness:
    """Follows every live session of a `View`."""

    def __init__(
        self,
        view: View,
        *,
        clock: Clock,
        deadlines: Deadlines,
        processes: Processes,
        disk: Callable[[], DiskSignal],
        checkpoint: Callable[[Session], CheckpointSignal],
        policy: Policy,
        commit: Commit,
        plan_for: PlanFor,
    ) -> None:
        self._view = view
        self._clock = clock
        self._deadlines = deadlines
        self._processes = processes
        self._disk = disk
        self._checkpoint = checkpoint
        self._policy = policy
        self._commit = commit
        self._plan_for = plan_for
        self._tracked: dict[str, _Tracked] = {}

    def begin(self, session: Session) -> None:
        """Judge a live session again at daemon start: dead ones end, the others have their full time again."""
        tracked = self._tracked[session.id] = _Tracked(self._clock.monotonic() - self._assumed_silence_s(session))
        for instance in session.instances:
            signal = self._processes.look(instance)
            if signal.kind in OVER:
                found = ProcessSignal(signal.kind, f"found dead at daemon start: {signal.evidence}", signal.cost_ms)
                tracked.deaths[instance] = DeathNotice(instance, self._clock.monotonic(), found)
        self.follow(session)
        self.look(session.id)

    def follow(self, session: Session) -> None:
        """The record changed: watch exactly its instances while it is live, and nothing of it after."""
        if not is_live(session):
            self.forget(session.id)
            return
        tracked = self._tracked.get(session.id)
        if tracked is None:
            tracked = self._tracked[session.id] = _Tracked(self._clock.monotonic())
        for instance in [i for i in tracked.watching if i not in session.instances]:
            tracked.watching.pop(instance).cancel()
        for instance in [i for i in tracked.deaths if i not in session.instances]:
            del tracked.deaths[instance]
        for instance in session.instances:
            if instance not in tracked.watching and instance not in tracked.deaths:
                on_death = partial(self._died, session.id)
                tracked.watching[instance] = self._processes.watch(instance, on_death)
        self._deadlines.after(("session", session.id), STEP_S, partial(self.look, session.id))

    def forget(self, id: str) -> None:
        """The session ended: nothing watches or wakes for it any more."""
        tracked = self._tracked.pop(id, None)
        self._deadlines.cancel(("session", id))
        if tracked:
            for watching in tracked.watching.values():
                watching.cancel()
            self._release(tracked)

    def heard(self, id: str, then: Then | None = None) -> None:
        """A sign of life of a live session; an idle or suspect one becomes active by it.

        `then` is called when the record says so, or cannot: at once when there is nothing to write.
        """
        tracked = self._tracked.get(id)
        if tracked:
            tracked.heard_s = self._clock.monotonic()
            held = self._view.live(id)
            if not tracked.moving and held and held.session.state != "active":
                self.look(id)
        if then and tracked and tracked.moving:
            tracked.waiting.append(then)
        elif then:
            then()

    def silent_s(self, id: str) -> float | None:
        """Seconds since the last sign of life of a live session, None for any other."""
        tracked = self._tracked.get(id)
        return self._clock.monotonic() - tracked.heard_s if tracked else None

    def evidence(self, session: Session, silent_s: float) -> Evidence:
        """All five layers of a session as they are now; a death that was noticed is not looked at again."""
        tracked = self._tracked.get(session.id)
        deaths = tracked.deaths if tracked else {}
        signals = [deaths[i].signal if i in deaths else self._processes.look(i) for i in session.instances]
        return Evidence(
            state=session.state,
            processes=tuple(signals),
            heartbeat_s=session.heartbeat_s,
            silent_s=silent_s,
            checkpoint=self._checkpoint(session),
            disk=self._disk(),
            closed=session.closed_at > 0,
            superseded_by=session.replaced_by,
        )

    def look(self, id: str) -> None:
        """Judge a live session now and propose the move its verdict asks for, unless one is under way."""
        tracked, held = self._tracked.get(id), self._view.live(id)
        if tracked is None or held is None or tracked.moving:
            return
        target = self._target(held.session, tracked)
        if target is None:
            self._arm(held.session, tracked)
            return
        tracked.moving = True
        self._commit("", partial(self._plan, id), partial(self._moved, id, tracked))

    def _plan(self, id: str) -> Plan:
        tracked, held = self._tracked.get(id), self._view.get(id)
        if held is None:
            raise CosessionError(f"cannot move session {id}: its record is gone", code="not_found")
        target = self._target(held.session, tracked) if tracked else None
        if target is None:
            return Plan(held.session)
        operation = "instance_over" if target.state == held.session.state else target.state
        return self._plan_for(f"session.{operation}", target)

    def _target(self, session: Session, tracked: _Tracked) -> Session | None:
        now_s = self._clock.monotonic()
        evidence = self.evidence(session, now_s - tracked.heard_s)
        for instance, signal in zip(session.instances, evidence.processes, strict=True):
            if signal.kind in OVER and instance not in tracked.deaths:
                tracked.deaths[instance] = DeathNotice(instance, now_s, signal)
        noticed_s = max((notice.noticed_s for notice in tracked.deaths.values()), default=now_s)
        detected_ms = (now_s - noticed_s) * 1000.0
        return moved(session, evidence, self._policy, self._clock.wall_ms() / 1000.0, detected_ms=detected_ms)

    def _moved(self, id: str, tracked: _Tracked, outcome: Session | CosessionError) -> None:
        tracked.moving = False
        if self._tracked.get(id) is not tracked:
            self._release(tracked)
        elif isinstance(outcome, CosessionError):
            self._deadlines.after(("session", id), RETRY_S, partial(self.look, id))
            self._release(tracked)
        else:
            self.look(id)
            if not tracked.moving:
                self._release(tracked)

    def _died(self, id: str, notice: DeathNotice) -> None:
        tracked = self._tracked.get(id)
        if tracked:
            tracked.deaths[notice.instance] = notice
            self.look(id)

    def _arm(self, session: Session, tracked: _Tracked) -> None:
        """Set the deadline for the next moment at which the verdict may change by time alone, or must be checked."""
        now_s = self._clock.monotonic()
        alive = [ProcessSignal("alive" if i.judgeable else "not_judgeable") for i in session.instances]
        known = Evidence(
            state=session.state,
            processes=tuple(alive),
            heartbeat_s=session.heartbeat_s,
            silent_s=now_s - tracked.heard_s,
        )
        silence_s = next_silence_s(known, self._policy)
        when_s = now_s + RECHECK_S if silence_s is None else max(tracked.heard_s + silence_s, now_s + STEP_S)
        self._deadlines.set(("session", session.id), when_s, partial(self.look, session.id))

    def _assumed_silence_s(self, session: Session) -> float:
        """How silent a session is taken to be at daemon start: its state stands, and its time begins anew."""
        if session.state == "active":
            return 0.0
        promised_s = self._policy.missed_max * session.heartbeat_s
        return (promised_s or self._policy.idle_after_s) + STEP_S

    @staticmethod
    def _release(tracked: _Tracked) -> None:
        waiting, tracked.waiting = tracked.waiting, []
        for then in waiting:
            then()
