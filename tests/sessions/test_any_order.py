"""Anything in any order: random registrations, signs of life, closes, deaths, conflicts, full disks, restarts and time.

Each seed is one run in the virtual world. When everything has come to rest, what must always hold is checked; and the
checks are checked: a registry with a seeded bug must fail them within a few seeds.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosession.model import TERMINAL_STATES
from cosessiond.sessions import liveness, planning, registry
from cosessiond.sessions.planning import SessionLimits
from cosessiond.sessions.records import decode
from cosessiond.store.engine import RangeCompare, Refused

SEEDS = 60
STEPS = 250
IDS = [f"s{number}" for number in range(8)]


class Run:
    """One random run of a rig, and everything that was asked in it."""

    def __init__(self, rig):
        self.rig = rig
        self.random = rig.world.random
        self.asked = []
        self.starts = 1
        self.full = False
        rig.world._late_s = self.random.choice((0.0, 0.5))
        apply = rig.engine.apply
        rig.engine.apply = lambda batches, records=(): self.refuse(batches) if self.full else apply(batches, records)
        self.actions = [
            *[self.register] * 6,
            *[self.close, self.heartbeat] * 2,
            *[self.activity, self.kill, self.put, self.compete, self.pass_time] * 2,
            self.hold,
            self.fill_disk,
            self.forget_notices,
        ]

    def refuse(self, batches):
        return [Refused(self.rig.engine.position().revision, "disk_full", "cannot write: full") for _ in batches]

    def step(self):
        if self.random.random() < 0.01:
            self.restart()
        else:
            self.random.choice(self.actions)(self.random.choice(IDS), self.random.randrange(10, 16))

    def register(self, id, pid):
        processes = self.rig.processes
        self.starts += 1
        instance = processes.start(pid, processes.living.get(pid) or self.starts)
        replaces = self.random.choice(("", "", *IDS))
        if self.random.random() < 0.1:
            instance = replace(instance, judgeable=False)
        self.asked.append(
            self.rig.begin_register(
                instance,
                may_replace=lambda _: None,
                id=id,
                heartbeat_s=self.random.choice((0, 1, 20)),
                replaces="" if replaces == id else replaces,
            )
        )

    def close(self, id, _pid):
        self.asked.append(self.rig.ask(self.rig.registry.close, id, ""))

    def heartbeat(self, id, _pid):
        self.asked.append(self.rig.ask(self.rig.registry.heartbeat, id))

    def activity(self, id, _pid):
        self.rig.registry.activity(id)

    def kill(self, _id, pid):
        self.rig.processes.kill(pid)

    def put(self, id, pid):
        if self.rig.registry.view.live(id):
            self.rig.put(f"{id}/{pid % 3}", owner=id)

    def compete(self, id, _pid):
        if self.rig.registry.view.get(id):
            self.rig.compete(id)

    def pass_time(self, _id, _pid):
        self.rig.world.advance(self.random.choice((0.01, 1, 4, 70, 400)))

    def hold(self, _id, _pid):
        self.rig.commits.hold = not self.rig.commits.hold
        if not self.rig.commits.hold:
            self.rig.commits.release()

    def fill_disk(self, _id, _pid):
        self.full = not self.full

    def forget_notices(self, _id, _pid):
        self.rig.processes.deaf = not self.rig.processes.deaf

    def restart(self):
        self.rig.restart()
        self.asked.clear()  # their connections are gone

    def come_to_rest(self):
        rig = self.rig
        self.full = rig.processes.deaf = False
        if rig.commits.hold:
            self.hold("", 0)
        rig.world.advance(liveness.RECHECK_S + 1)  # every session has been looked at by then


def violations(rig, asked):
    """What does not hold, in words."""
    try:
        rig.check()
    except AssertionError as error:
        yield f"memory differs from the store: {error}"
    if any(len(answer) != 1 for answer in asked):
        yield "an operation was not answered exactly once"
    for session in rig.registry.view.live_sessions():
        kinds = {rig.processes.look(instance).kind for instance in session.instances}
        if not kinds <= {"alive", "not_judgeable"}:
            yield f"{session.id} is {session.state} with a process that is {kinds}"
        silent_s = rig.registry._liveness.silent_s(session.id)
        due_s = 3 * session.heartbeat_s or 300
        late_s = rig.world._late_s + 0.1
        if session.state == "active" and silent_s > due_s + late_s:
            yield f"{session.id} is active, silent for {silent_s} s"
        if session.state != "active" and silent_s < due_s:
            yield f"{session.id} is {session.state}, silent for {silent_s} s"
        if rig.heartbeat(session.id) != "active":
            yield f"{session.id} is not active after a heartbeat"
    for id in IDS:
        yield from unstuck(rig, id)


def unstuck(rig, id):
    """Whether an ended session came back by anything but a registration, or ended twice."""
    before = None
    for committed in rig.history:
        operation = committed.origin.operation
        for change in committed.changes:
            if change.id != ("$sessions", "global", id) or operation == "test":
                continue
            state = decode(change.id, change.value).state if change.kind == "put" else None
            if before in TERMINAL_STATES and state is not None and (operation, state) != ("session.register", "active"):
                yield f"{id} went from {before} to {state} by {operation}"
            before = state


def run(make_rig, seed):
    rig = make_rig(seed, limits=SessionLimits(live_max=12, ended_kept=6, instances_max=3))
    going = Run(rig)
    for _ in range(STEPS):
        going.step()
    going.come_to_rest()
    return rig, list(violations(rig, going.asked))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_anything_in_any_order(make_rig, seed):
    _, found = run(make_rig, seed)
    assert found == []


def test_the_same_seed_is_the_same_run(make_rig):
    first, second = (run(make_rig, 42)[0] for _ in range(2))
    assert first.world.digest == second.world.digest
    assert first.engine.position() == second.engine.position()


def no_compare(monkeypatch):
    monkeypatch.setattr(planning, "as_read", lambda id, _: RangeCompare("$sessions", "global", id, 2**60))


def deaths_are_forgotten(monkeypatch):
    monkeypatch.setattr(liveness.Liveness, "_died", lambda *_: None)
    monkeypatch.setattr(liveness, "STEP_S", 1e6)


def refusals_are_final(monkeypatch):
    monkeypatch.setattr(liveness, "RETRY_S", 1e6)


def nothing_is_swept(monkeypatch):
    monkeypatch.setattr(registry.Registry, "_sweep", lambda *_: None)


def a_heartbeat_does_not_wake(monkeypatch):
    def heard(self, id, then=None):
        tracked = self._tracked.get(id)
        if tracked:
            tracked.heard_s = self._clock.monotonic()
        if then:
            then()

    monkeypatch.setattr(liveness.Liveness, "heard", heard)


def waiting_is_forgotten(monkeypatch):
    monkeypatch.setattr(liveness.Liveness, "_release", lambda *_: None)


def the_ended_come_back(monkeypatch):
    original = liveness.moved

    def moved(old, evidence, policy, now_s, *, detected_ms=0.0):
        if old.state == "crashed":
            return replace(old, state="active")
        return original(old, evidence, policy, now_s, detected_ms=detected_ms)

    monkeypatch.setattr(liveness, "moved", moved)
    monkeypatch.setattr(liveness.Liveness, "forget", lambda *_: None)


@pytest.mark.parametrize(
    "bug",
    [
        no_compare,
        deaths_are_forgotten,
        refusals_are_final,
        nothing_is_swept,
        a_heartbeat_does_not_wake,
        waiting_is_forgotten,
        the_ended_come_back,
    ],
    ids=lambda bug: bug.__name__,
)
def test_a_seeded_bug_is_found(make_rig, monkeypatch, bug):
    bug(monkeypatch)
    for seed in range(SEEDS):
        try:
            _, found = run(make_rig, seed)
        except (AssertionError, CosessionError):
            return
        if found:
            return
    pytest.fail("no seed found it")
