"""Liveness: signs of life, silence, deaths and what they take with them, over the real store in a virtual world."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosessiond.sessions.planning import TRIM_MAX, SessionLimits
from cosessiond.store.engine import Delete, EntryCompare, Refused

# Signs of life.


def test_idle_after_300_s_and_active_again(rig):
    rig.register(rig.processes.start(10), id="s1")
    rig.world.advance(299)
    rig.registry.activity("s1")
    rig.world.advance(299)
    assert (rig.state("s1"), rig.store.revision) == ("active", 1)
    rig.world.advance(2)
    assert rig.state("s1") == "idle"
    rig.world.advance(1e6)
    assert (rig.state("s1"), rig.store.revision) == ("idle", 2)
    for _ in range(5):
        rig.registry.activity("s1")
    rig.world.run_until_idle()
    assert (rig.state("s1"), rig.store.revision) == ("active", 3)
    rig.check()


def test_three_missed_heartbeats_and_one_that_comes(rig):
    rig.register(rig.processes.start(10), id="s1", heartbeat_s=20)
    for _ in range(10):
        rig.world.advance(50)
        assert rig.heartbeat("s1") == "active"
    assert rig.store.revision == 1
    rig.world.advance(59.9)
    assert rig.state("s1") == "active"
    rig.world.advance(0.2)
    record = rig.record("s1")
    assert record.state == "suspect"
    assert record.reason.startswith("heartbeat-missed")
    assert any("3 missed" in line for line in record.evidence)
    rig.world.advance(1e6)
    assert rig.state("s1") == "suspect"
    assert rig.heartbeat("s1") == "active"
    assert rig.states("s1") == ["active", "suspect", "active"]
    rig.check()


def test_a_heartbeat_writes_nothing_and_wakes_nothing(rig):
    rig.register(rig.processes.start(10), id="s1", heartbeat_s=20)
    rig.world.advance(1)
    looks, pending = rig.processes.looks, len(rig.deadlines)
    for _ in range(1000):
        rig.heartbeat("s1")
    assert (rig.processes.looks, len(rig.deadlines), rig.store.revision) == (looks, pending, 1)


def test_late_timers_make_nothing_early(make_rig):
    rig = make_rig(seed=5)
    rig.world._late_s = 3.0
    rig.register(rig.processes.start(10), id="s1", heartbeat_s=20)
    rig.world.advance(59.9)
    assert rig.state("s1") == "active"
    rig.world.advance(3.2)
    assert rig.state("s1") == "suspect"


def test_the_wall_clock_may_step(rig):
    rig.register(rig.processes.start(10), id="s1", heartbeat_s=20)
    rig.world.clock.step_wall(10 * 3600 * 1000)
    rig.world.advance(30)
    rig.world.clock.step_wall(-20 * 3600 * 1000)
    rig.world.advance(29)
    assert rig.state("s1") == "active"
    rig.world.advance(2)
    assert rig.state("s1") == "suspect"


def test_a_heartbeat_that_meets_the_suspicion_in_the_queue(rig):
    """The batch that says suspect is queued when the heartbeat comes: the answer waits, and says what then holds."""
    rig.register(rig.processes.start(10), id="s1", heartbeat_s=20)
    rig.commits.hold = True
    rig.world.advance(61)
    answer = rig.ask(rig.registry.heartbeat, "s1")
    rig.world.advance(1)
    assert answer == []
    rig.commits.release()
    assert rig.wait(answer).state == "active"
    assert rig.states("s1") == ["active", "suspect", "active"]
    rig.check()


def test_a_heartbeat_that_meets_the_end_in_the_queue(rig, foreign, refusal):
    rig.register(foreign, id="s1")
    rig.world.advance(7199)
    rig.commits.hold = True
    rig.world.advance(2)
    answer = rig.ask(rig.registry.heartbeat, "s1")
    rig.commits.release()
    assert refusal(rig.wait, answer) == "session_ended"
    rig.check()


def test_silence_where_nothing_can_be_looked_at(rig, foreign):
    rig.register(foreign, id="promised", heartbeat_s=20)
    rig.register(replace(foreign, pid=8), id="silent")
    rig.world.advance(7199)
    assert (rig.state("promised"), rig.state("silent")) == ("suspect", "idle")
    rig.world.advance(2)
    assert (rig.state("promised"), rig.state("silent")) == ("lost", "lost")
    assert rig.record("silent").reason.startswith("lost")
    rig.check()


# Deaths.


def test_a_death_is_one_batch_with_its_evidence(rig):
    rig.register(rig.processes.start(10), id="s1", heartbeat_s=20)
    rig.put("mine", owner="s1")
    rig.world.run_until_idle()
    rig.processes.kill(10)
    rig.world.run_until_idle()
    record = rig.record("s1")
    assert record.state == "crashed"
    assert record.reason == "process-over: every instance is over and the session was not closed"
    assert record.evidence[0] == "process: gone: pid 10 (start 1) is gone"
    assert len(record.evidence) == 5
    assert [instance.pid for instance in record.instances] == [10]
    assert rig.keys() == []
    committed = rig.history[-1]
    assert committed.origin.operation == "session.crashed"
    assert committed.origin.session == ""
    assert [change.kind for change in committed.changes] == ["put", "expire"]
    rig.check()


def test_the_detection_time_counts_the_attempts(rig):
    """The first attempt meets another writer; the second decides 250 ms after the notice, and says so."""
    rig.register(rig.processes.start(10), id="s1")
    rig.commits.hold = True
    rig.compete("s1")
    rig.processes.kill(10)
    rig.world.advance(0.25)
    rig.commits.release()
    rig.world.run_until_idle()
    assert rig.state("s1") == "crashed"
    assert rig.record("s1").detected_ms == pytest.approx(250)


def test_one_of_two_instances_dies(rig):
    one, two = rig.processes.start(10), rig.processes.start(11)
    rig.register(one, id="s1")
    rig.register(two, id="s1")
    rig.put("mine", owner="s1")
    rig.processes.kill(10)
    rig.world.run_until_idle()
    record = rig.record("s1")
    assert (record.state, record.instances) == ("active", (two,))
    assert record.evidence == ("process: gone: pid 10 (start 1) is gone",)
    assert rig.history[-1].origin.operation == "session.instance_over"
    assert rig.keys() == ["mine"]
    rig.check()
    rig.processes.kill(11)
    rig.world.run_until_idle()
    assert rig.state("s1") == "crashed"
    rig.check()


def test_both_instances_die_at_once(rig):
    for pid in (10, 11):
        rig.register(rig.processes.start(pid), id="s1")
    rig.processes.kill(10)
    rig.processes.kill(11)
    rig.world.run_until_idle()
    assert rig.states("s1") == ["active", "crashed"]
    rig.check()


def test_one_process_with_many_sessions(rig):
    one = rig.processes.start(10)
    for number in range(20):
        rig.register(one, id=f"s{number}")
    rig.processes.kill(10)
    rig.world.run_until_idle()
    assert {rig.state(f"s{number}") for number in range(20)} == {"crashed"}
    rig.check()


def test_a_death_beats_the_close_or_the_close_beats_the_death_but_not_both(make_rig):
    seen = set()
    for seed in range(20):
        rig = make_rig(seed)
        rig.register(rig.processes.start(10), id="s1")
        answer = []
        rig.processes.kill(10)
        rig.world.call_soon(lambda rig=rig, answer=answer: answer.extend([rig.ask(rig.registry.close, "s1", "")]))
        rig.world.run_until_idle()
        (found,) = answer[0]
        ended = "crashed" if isinstance(found, CosessionError) else "closed"
        assert rig.states("s1") == ["active", ended]
        seen.add(ended)
        rig.check()
    assert seen == {"crashed", "closed"}


def test_a_process_that_dies_while_it_registers(rig):
    one = rig.processes.start(10)
    rig.commits.hold = True
    answer = rig.begin_register(one, id="s1")
    rig.processes.kill(10)
    rig.commits.release()
    assert rig.wait(answer).state == "active"
    assert rig.state("s1") == "crashed"
    rig.check()


def test_a_death_that_the_kernel_did_not_tell_is_found_by_the_next_look(rig):
    rig.processes.deaf = True
    rig.register(rig.processes.start(10), id="s1")
    rig.register(rig.processes.start(11), id="s2")
    rig.world.advance(1)
    rig.processes.kill(10)
    rig.processes.kill(11)
    rig.world.advance(1)
    assert rig.state("s1") == "active"
    rig.registry.disconnected(["s1", "nobody"])
    rig.world.advance(0.1)
    assert (rig.state("s1"), rig.state("s2")) == ("crashed", "active")
    rig.world.advance(300)
    assert rig.state("s2") == "crashed"
    for watching in list(rig.processes.watching):
        watching.cancel()
    rig.check()


def test_a_full_disk_delays_the_record_of_a_death_and_forgets_nothing(rig):
    rig.register(rig.processes.start(10), id="s1")
    rig.register(rig.processes.start(11), id="s2", heartbeat_s=1)
    apply, full = rig.engine.apply, [True]

    def refusing(batches, records=()):
        if full[0]:
            return [Refused(rig.engine.position().revision, "disk_full", "cannot write: full") for _ in batches]
        return apply(batches, records)

    rig.engine.apply = refusing
    rig.processes.kill(10)
    rig.world.advance(30)
    assert (rig.state("s1"), rig.state("s2")) == ("active", "active")
    assert rig.heartbeat("s2") == "active"
    full[0] = False
    rig.world.advance(2)
    assert rig.state("s1") == "crashed"
    assert rig.record("s1").detected_ms == pytest.approx(30_000, abs=2_000)
    rig.check()


def test_an_entry_detached_a_moment_before_the_end_stays(rig):
    rig.register(rig.processes.start(10), id="s1")
    rig.put("gift", owner="s1")
    rig.put("mine", owner="s1")
    rig.world.run_until_idle()
    rig.commits.hold = True
    rig.put("gift", owner="", value="kept")
    rig.processes.kill(10)
    rig.commits.release()
    rig.world.run_until_idle()
    assert rig.state("s1") == "crashed"
    assert rig.keys() == ["gift"]
    rig.check()


@pytest.mark.parametrize("owner", ["", "s2"], ids=["absent", "another's"])
def test_an_entry_on_its_way_when_the_session_ends_ends_in_the_same_batch(rig, owner):
    rig.register(rig.processes.start(10), id="s1")
    rig.register(rig.processes.start(11), id="s2")
    if owner:
        rig.put("late", owner=owner)
    rig.put("early", owner="s1")
    rig.world.run_until_idle()
    rig.commits.hold = True
    rig.put("late", owner="s1")
    answer = rig.ask(rig.registry.close, "s1", "")
    rig.commits.release()
    rig.wait(answer)
    assert rig.keys() == []
    last = rig.history[-1]
    assert last.origin.operation == "session.close"
    assert [change.id[2] for change in last.changes] == ["s1", "early", "late"]
    rig.check()


def test_an_entry_that_becomes_ephemeral_of_an_ended_session_is_swept(rig):
    rig.register(rig.processes.start(10), id="s1")
    rig.commits.hold = True
    answer = rig.ask(rig.registry.close, "s1", "")
    rig.put("late", owner="s1")  # without the guard that admission gives it
    rig.commits.release()
    rig.wait(answer)
    assert rig.keys() == []
    assert rig.history[-1].origin.operation == "session.expire"
    rig.check()


def test_sweeping_stops_when_the_session_is_reopened(rig):
    one, two = rig.processes.start(10), rig.processes.start(11)
    rig.register(one, id="s1")
    rig.close("s1")
    rig.commits.hold = True
    answer = rig.begin_register(two, id="s1")
    rig.put("mine", owner="s1")
    rig.commits.release()
    rig.wait(answer)
    assert (rig.state("s1"), rig.keys()) == ("active", ["mine"])
    rig.check()


def test_what_does_not_fit_into_the_last_batch_is_swept_behind_it(rig):
    rig.register(rig.processes.start(10), id="s1")
    for number in range(250):  # more than admission allows
        rig.put(f"key{number}", owner="s1")
    rig.world.run_until_idle()
    rig.processes.kill(10)
    rig.world.run_until_idle()
    assert rig.keys() == []
    assert all(len(committed.changes) <= 128 for committed in rig.history)
    rig.check()


def test_old_ended_sessions_go(make_rig):
    rig = make_rig(limits=SessionLimits(ended_kept=5))
    for number in range(12):
        rig.register(rig.processes.start(10 + number), id=f"s{number}")
        rig.world.advance(1)
    for number in range(12):
        rig.close(f"s{number}")
        rig.world.advance(1)
    assert rig.registry.view.ended_ids() == [f"s{number}" for number in range(7, 12)]
    assert rig.state("s0") is None
    rig.check()


def test_a_lowered_limit_is_reached_in_steps(make_rig):
    limits = SessionLimits(ended_kept=50)
    rig = make_rig(limits=limits)
    for number in range(40):
        rig.register(rig.processes.start(10), id=f"s{number}")
        rig.close(f"s{number}")
    rig.options["limits"] = SessionLimits(ended_kept=5)
    rig.restart()
    rig.register(rig.processes.start(10), id="last")
    rig.close("last")
    assert rig.registry.view.ended_count == 41 - TRIM_MAX
    rig.check()


def test_every_batch_on_a_record_compares_what_it_was_decided_from(rig):
    proposed = []
    batch = rig.store.batch
    rig.store.batch = lambda origin, compares, then: proposed.append((compares, then)) or batch(origin, compares, then)
    one = rig.processes.start(10)
    rig.register(one, id="s1")
    rig.put("mine", owner="s1")
    rig.world.advance(400)
    rig.register(one, id="s2", replaces="s1")
    rig.processes.kill(10)
    rig.world.run_until_idle()
    assert len(proposed) >= 4
    for compares, writes in proposed:
        if not compares:
            continue  # the put of this test
        guarded = {compare.id for compare in compares if compare.field == "mod_revision"}
        assert guarded == {write.id for write in writes}
        assert all(isinstance(compare, EntryCompare) for compare in compares)
    assert any(isinstance(write, Delete) for _, writes in proposed for write in writes)
