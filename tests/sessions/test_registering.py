"""Registering: new, joined, attached again, replaced, reopened; what is refused, and what ended means."""

from __future__ import annotations

import pytest

from cosession.errors import NotAllowed, Overloaded, TooLarge
from cosessiond.sessions.planning import SessionLimits

# Registering.


def test_a_new_session_is_one_batch_and_one_record(rig):
    one = rig.processes.start(10)
    session = rig.register(one, id="s1", name="otter", agent="claude", cwd="/w", heartbeat_s=20)
    assert (session.id, session.name, session.state, session.host) == ("s1", "otter", "active", "box")
    assert session.instances == (one,)
    assert session.registered_at == session.changed_at == rig.world.clock.wall_ms() / 1000
    assert rig.store.revision == 1
    (committed,) = rig.history
    assert (committed.origin.operation, committed.origin.session) == ("session.register", "s1")
    assert rig.record("s1") == session
    rig.check()


def test_without_an_id_one_is_made(rig):
    first, second = (rig.register(rig.processes.start(pid)) for pid in (10, 11))
    assert len(first.id) == len(second.id) == 26
    assert first.id != second.id


def test_attaching_again_costs_no_batch(rig):
    one = rig.processes.start(10)
    rig.register(one, id="s1", name="otter")
    again = rig.register(one, id="s1", name="otter")
    assert again == rig.record("s1")
    assert rig.register(one, id="s1").name == "otter"
    assert rig.store.revision == 1


def test_attaching_with_news_writes_them(rig):
    one = rig.processes.start(10)
    rig.register(one, id="s1", name="otter", branch="main")
    changed = rig.register(one, id="s1", branch="topic", heartbeat_s=20)
    assert (changed.name, changed.branch, changed.heartbeat_s) == ("otter", "topic", 20)
    assert changed.instances == (one,)
    assert rig.store.revision == 2


def test_the_same_id_from_another_process_adds_an_instance(rig):
    one, two = rig.processes.start(10), rig.processes.start(11)
    rig.register(one, id="s1", heartbeat_s=20)
    joined = rig.register(two, id="s1")
    assert joined.instances == (one, two)
    assert joined.heartbeat_s == 20
    rig.check()


def test_too_many_instances(make_rig, refusal):
    rig = make_rig(limits=SessionLimits(instances_max=2))
    for pid in (10, 11):
        rig.register(rig.processes.start(pid), id="s1")
    assert refusal(rig.register, rig.processes.start(12), id="s1") == "overloaded"
    rig.register(rig.processes.start(12), id="s2")
    rig.check()


def test_too_many_live_sessions_also_when_they_come_at_once(make_rig):
    rig = make_rig(limits=SessionLimits(live_max=3))
    rig.register(rig.processes.start(9), id="s0")
    requests = [rig.world.random.randrange(10**6) for _ in range(5)]
    answers = [
        rig.begin_register(rig.processes.start(10 + index), id=f"n{number}") for index, number in enumerate(requests)
    ]
    rig.world.run_until_idle()
    refused = [answer[0] for answer in answers if isinstance(answer[0], Overloaded)]
    assert len(refused) == 3
    assert rig.registry.live_count == 3
    rig.register(rig.processes.start(9), id="s0")  # to come back is always possible
    rig.close("s0")
    rig.register(rig.processes.start(30), id="later")
    rig.check()


def test_registrations_race_for_one_id(rig):
    one, two = rig.processes.start(10), rig.processes.start(11)
    rig.commits.hold = True
    answers = [rig.begin_register(instance, id="s1") for instance in (one, two)]
    rig.world.run_until_idle()
    assert answers == [[], []]
    rig.commits.release()
    assert [rig.wait(answer).id for answer in answers] == ["s1", "s1"]
    assert rig.record("s1").instances == (one, two)
    rig.check()


def test_a_writer_who_never_stops_leads_to_overloaded(rig, refusal):
    rig.register(rig.processes.start(10), id="s1")
    attempts = []
    begin = rig.registry._planner.transition

    def meddle(operation, target):
        attempts.append(operation)
        rig.compete("s1")
        return begin(operation, target)

    rig.registry._planner.transition = meddle
    assert refusal(rig.close, "s1") == "overloaded"
    assert len(attempts) == 8
    rig.registry._planner.transition = begin
    assert rig.close("s1").state == "closed"
    rig.check()


@pytest.mark.parametrize(
    "id", ["a b", "a/b", "-a", ".", "..", ".a", "a\n", "é", "a" * 129, "a\x00", "$a", "a\\b", "%2e", "'", "\ud800"]
)
def test_ids_that_are_refused(rig, id, refusal):
    assert refusal(rig.register, rig.processes.start(10), id=id) == "invalid_params"
    assert refusal(rig.register, rig.processes.start(10), id="ok", replaces=id) == "invalid_params"
    assert rig.store.revision == 0


@pytest.mark.parametrize("id", ["a", "A-b_c.d:e@f", "_x", "0" * 128, "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_ids_that_are_taken(rig, id):
    assert rig.register(rig.processes.start(10), id=id).id == id


@pytest.mark.parametrize(
    "field", ["name", "agent", "model", "project", "worktree", "branch", "cwd", "host", "transcript"]
)
def test_texts_are_bounded_and_show_nothing_but_themselves(rig, field, refusal):
    one = rig.processes.start(10)
    limit = {"name": 256, "project": 1024}.get(field, 4096)
    for bad in ("a\x1b[2Jb", "a\nb", "\x7f", "\x9b31m", "a\u202eb", "\u2066", "\u2028", "\ud800"):
        assert refusal(rig.register, one, id="s1", **{field: bad}) == "invalid_params"
    with pytest.raises(TooLarge) as caught:
        rig.register(one, id="s1", **{field: "é" * (limit // 2) + "x"})
    assert caught.value.data == {"size": limit + 1, "limit": limit}
    good = "é" * (limit // 2)
    assert getattr(rig.register(one, id="s1", **{field: good}), field) == good


@pytest.mark.parametrize("heartbeat_s", [-1.0, 0.05, 2401.0, float("nan"), float("inf"), -0.1])
def test_heartbeats_that_cannot_be_promised(rig, heartbeat_s, refusal):
    assert refusal(rig.register, rig.processes.start(10), id="s1", heartbeat_s=heartbeat_s) == "invalid_params"


# Replacing: the same process goes on with another session.


def test_replacing_ends_the_other_session_in_the_same_batch(rig):
    one = rig.processes.start(10)
    rig.register(one, id="old")
    rig.put("mine", owner="old")
    rig.world.run_until_idle()
    new = rig.register(one, id="new", replaces="old")
    assert new.replaces == "old"
    old = rig.record("old")
    assert (old.state, old.replaced_by, old.closed_at) == ("superseded", "new", 0)
    committed = rig.history[-1]
    assert [(change.id[2], change.kind) for change in committed.changes] == [
        ("new", "put"),
        ("old", "put"),
        ("mine", "expire"),
    ]
    assert rig.register(one, id="new", replaces="old") == new
    assert rig.store.revision == 3
    rig.check()


def test_replacing_while_another_process_goes_on_only_takes_the_instance_out(rig):
    one, two = rig.processes.start(10), rig.processes.start(11)
    rig.register(one, id="old")
    rig.register(two, id="old")
    rig.register(one, id="new", replaces="old")
    old = rig.record("old")
    assert (old.state, old.instances) == ("active", (two,))
    rig.check()


def test_replacing_needs_the_right_to(rig, refusal):
    one, two = rig.processes.start(10), rig.processes.start(11)
    rig.register(one, id="old")
    assert refusal(rig.register, two, id="new", replaces="old") == "not_allowed"

    def never(id):
        raise NotAllowed(f"cannot act for {id}")

    assert refusal(rig.register, two, id="new", replaces="old", may_replace=never) == "not_allowed"
    assert rig.state("new") is None
    rig.register(two, id="new", replaces="old", may_replace=lambda _: None)
    assert rig.state("old") == "superseded"
    rig.check()


def test_replacing_what_has_ended_or_never_was_is_fine_and_itself_is_not(rig, refusal):
    one = rig.processes.start(10)
    rig.register(one, id="old")
    rig.close("old")
    rig.register(one, id="new", replaces="old")
    rig.register(one, id="newer", replaces="never")
    assert (rig.state("old"), rig.state("new"), rig.state("newer")) == ("closed", "active", "active")
    assert refusal(rig.register, one, id="x", replaces="x") == "invalid_params"


def test_clear_and_resume_in_one_process(rig, refusal):
    one = rig.processes.start(10)
    rig.register(one, id="a")
    rig.register(one, id="b", replaces="a")
    assert refusal(rig.register, one, id="a") == "session_ended"  # a late event of the old conversation
    back = rig.register(one, id="a", replaces="b")
    assert (back.state, back.replaced_by, rig.state("b")) == ("active", "", "superseded")
    rig.close("a")
    assert rig.register(one, id="b", replaces="a").state == "active"
    rig.check()


# Ended is ended.


def test_closing_and_what_it_takes_with_it(rig):
    rig.register(rig.processes.start(10), id="s1")
    for number in range(100):
        rig.put(f"key{number:03}", owner="s1")
    rig.put("stays")
    rig.world.run_until_idle()
    session = rig.close("s1", "done for today")
    assert (session.state, session.closed_at) == ("closed", rig.world.clock.wall_ms() / 1000)
    assert session.evidence == ("close: closed gracefully: done for today",)
    assert rig.keys() == ["stays"]
    expired = [change for change in rig.history[-1].changes if change.kind == "expire"]
    assert len(expired) == 100
    assert rig.close("s1") == session
    assert rig.processes.watching == {}
    rig.check()


def test_operations_on_ended_and_unknown_sessions(rig, refusal):
    one = rig.processes.start(10)
    rig.register(one, id="s1")
    rig.close("s1")
    assert refusal(rig.heartbeat, "s1") == "session_ended"
    assert refusal(rig.registry.require_live, "s1") == "session_ended"
    for call in (rig.heartbeat, rig.close, rig.registry.explain, rig.registry.find, rig.registry.require_live):
        assert refusal(call, "nobody") == "not_found"
    assert refusal(rig.registry.may_act, (), "nobody") == "not_found"
    rig.registry.activity("s1")
    rig.registry.activity("nobody")
    assert refusal(rig.close, "s1", "x" * 4097) == "too_large"
    assert refusal(rig.close, "s1", "\x1b") == "invalid_params"


def test_closing_a_crashed_session_tells_that_it_crashed(rig, refusal):
    rig.register(rig.processes.start(10), id="s1")
    rig.processes.kill(10)
    rig.world.run_until_idle()
    assert refusal(rig.close, "s1") == "session_ended"
    assert rig.state("s1") == "crashed"


@pytest.mark.parametrize("ending", ["closed", "superseded", "crashed", "lost"])
def test_a_new_instance_reopens_an_ended_session(rig, ending, foreign):
    one, two = rig.processes.start(10), rig.processes.start(11)
    first = rig.register(foreign if ending == "lost" else one, id="s1", name="otter", heartbeat_s=20)
    if ending == "closed":
        rig.close("s1")
    elif ending == "superseded":
        rig.register(one, id="s2", replaces="s1")
    elif ending == "crashed":
        rig.processes.kill(10)
    rig.world.advance(7300 if ending == "lost" else 10)
    assert rig.state("s1") == ending
    back = rig.register(two, id="s1")
    assert (back.state, back.instances, back.name) == ("active", (two,), "otter")
    assert back.registered_at == first.registered_at < back.changed_at
    assert (back.closed_at, back.replaced_by, back.heartbeat_s) == (0, "", 0)
    assert back.reason == f"reopened: it was {ending}"
    rig.check()


@pytest.mark.parametrize("ending", ["closed", "superseded"])
def test_the_instance_that_saw_it_end_does_not_reopen_it_by_attaching_again(rig, ending, refusal):
    one = rig.processes.start(10)
    rig.register(one, id="s1")
    rig.close("s1") if ending == "closed" else rig.register(one, id="s2", replaces="s1")
    assert refusal(rig.register, one, id="s1") == "session_ended"
    assert rig.state("s1") == ending


def test_an_instance_taken_for_lost_comes_back_by_registering(rig, foreign, refusal):
    rig.register(foreign, id="s1")
    rig.world.advance(7300)
    assert rig.states("s1") == ["active", "idle", "lost"]
    assert refusal(rig.heartbeat, "s1") == "session_ended"
    assert rig.register(foreign, id="s1").state == "active"
    rig.check()
