"""A crash that is only played: who allows it, that all goes the real way, and that it is told apart from a real one."""

from __future__ import annotations

import pytest

from cosession.errors import CosessionError
from cosessiond.audit.batches import records_of
from cosessiond.audit.records import shown
from cosessiond.sessions import drills
from cosessiond.sessions.verdict import ProcessSignal
from cosessiond.store.record import KeptRecord


def simulate(rig, text):
    return rig.wait(rig.ask(rig.registry.simulate_crash, text))


def refused(rig, text):
    with pytest.raises(CosessionError) as caught:
        simulate(rig, text)
    assert str(caught.value).startswith("cannot ")
    return caught.value.code


def session(rig, id, pid, **fields):
    instance = rig.processes.start(pid)
    rig.register(instance, id=id, **fields)
    return instance


def test_a_drill_ends_a_session_as_a_crash_does_but_for_its_marks(rig):
    for id, pid in (("drilled", 10), ("crashed", 11)):
        session(rig, id, pid, heartbeat_s=20, drills=True)
        rig.put(f"of/{id}", owner=id)
    rig.processes.kill(11)
    rig.world.run_until_idle()
    real, played = rig.record("crashed"), simulate(rig, "drilled")
    assert (played.state, played.reason, played.instances) == ("crashed", real.reason, rig.record("drilled").instances)
    assert [line.partition(":")[0] for line in played.evidence] == [line.partition(":")[0] for line in real.evidence]
    assert (real.drilled, played.drilled) == (False, True)
    assert played.evidence[0].startswith(
        "process: drill: counts as over for a drill; in truth pid 10 (start 1) is alive"
    )
    assert rig.keys() == [], "what was ephemeral went with both"
    rig.check()
    found = rig.registry.explain("drilled")
    assert (found.verdict.liveness, found.layers[0].signal) == ("alive", "alive"), "its process lives on"
    assert found.rule == played.reason


def test_the_audit_tells_a_drill_from_a_crash(rig):
    session(rig, "s1", 10, drills=True)
    seen = []
    submit = rig.store.submit
    rig.store.submit = lambda batch, done: (seen.append(records_of(batch, rig.store.get)), submit(batch, done))
    simulate(rig, "s1")
    ((record,),) = seen
    told = shown(KeptRecord(1, record))
    assert (told.operation, told.outcome) == ("session.simulate_crash", "crashed")
    assert told.facts["drill"] is True
    assert told.facts["evidence"][0] == "process drill"


def test_only_what_allows_it_and_lives(rig):
    session(rig, "plain", 10)
    session(rig, "ready", 11, drills=True, name="otter")
    assert refused(rig, "plain") == "not_allowed"
    assert rig.state("plain") == "active"
    assert refused(rig, "nobody") == "not_found"
    assert simulate(rig, "otter").id == "ready"
    assert refused(rig, "ready") == "session_ended"


def test_all_instances_must_allow_it_and_the_last_says_anew(rig):
    session(rig, "s1", 10, drills=True)
    session(rig, "s1", 11)
    assert refused(rig, "s1") == "not_allowed", "the second one did not allow it"
    session(rig, "s2", 12)
    session(rig, "s2", 13, drills=True)
    assert refused(rig, "s2") == "not_allowed", "nor did the first one here"
    one = session(rig, "s3", 14, drills=True)
    rig.register(one, id="s3")
    assert refused(rig, "s3") == "not_allowed", "it was taken back"
    rig.register(one, id="s3", drills=True)
    assert simulate(rig, "s3").drilled


def test_it_may_come_back_by_registering_and_is_no_drill_any_more(rig):
    one = session(rig, "s1", 10, drills=True)
    simulate(rig, "s1")
    back = rig.register(one, id="s1")
    assert (back.state, back.drilled, back.drills) == ("active", False, False)
    rig.check()
    rig.processes.kill(10)
    rig.world.run_until_idle()
    assert (rig.state("s1"), rig.record("s1").drilled) == ("crashed", False)


def test_an_instance_that_joins_meanwhile_is_in_the_drill(rig):
    session(rig, "s1", 10, drills=True)
    rig.commits.hold = True
    answer = rig.begin_register(rig.processes.start(11), id="s1", drills=True)
    drill = rig.ask(rig.registry.simulate_crash, "s1")
    rig.commits.release()
    rig.wait(answer)
    assert [each.pid for each in rig.wait(drill).instances] == [10, 11]
    assert rig.state("s1") == "crashed"
    rig.check()


def test_a_drill_the_disk_refuses_has_had_no_effect(rig):
    session(rig, "s1", 10, drills=True)
    rig.store.submit = lambda _batch, done: done(CosessionError("cannot write: full", code="disk_full"))
    assert refused(rig, "s1") == "disk_full"
    assert rig.state("s1") == "active"


def test_a_drill_that_looked_at_real_processes_would_end_nothing(rig, monkeypatch):
    """The seeded bug: without its signal a drill is no drill, and it is seen."""
    session(rig, "s1", 10, drills=True)
    monkeypatch.setattr(drills, "ProcessSignal", lambda _kind, evidence: ProcessSignal("alive", evidence))
    with pytest.raises(AssertionError, match="is to end"):
        simulate(rig, "s1")
