"""The registry: starting again, who may act, finding, listing, explaining."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from msgspec import msgpack

from cosession.errors import InvalidRequest, NotAllowed
from cosession.model import Instance
from cosessiond.sessions.authority import Authority
from cosessiond.sessions.identity import ProcessRef
from cosessiond.sessions.verdict import DiskSignal

# The daemon starts again.


def test_a_restart_keeps_the_living_and_ends_the_dead(rig, foreign):
    one = rig.processes.start(10)
    rig.register(one, id="lives", heartbeat_s=20)
    rig.register(rig.processes.start(11), id="dies")
    rig.register(rig.processes.start(12), id="reused")
    rig.register(rig.processes.start(13), id="closed")
    rig.register(foreign, id="elsewhere", heartbeat_s=20)
    rig.put("mine", owner="dies")
    rig.close("closed")
    rig.world.advance(50)
    for pid in (11, 12):
        rig.processes.living.pop(pid)
    rig.processes.start(12, start_time=2)
    rig.restart()
    states = {id: rig.state(id) for id in ("lives", "dies", "reused", "closed", "elsewhere")}
    assert states == {
        "lives": "active",
        "dies": "crashed",
        "reused": "crashed",
        "closed": "closed",
        "elsewhere": "active",
    }
    assert rig.record("dies").evidence[0] == "process: gone: found dead at daemon start: pid 11 (start 1) is gone"
    assert rig.record("reused").evidence[0].startswith("process: reused: found dead at daemon start")
    assert rig.keys() == []
    rig.check()
    rig.world.advance(59)  # a full heartbeat time from the start on, whatever was left of it
    assert rig.state("lives") == "active"
    rig.world.advance(2)
    assert rig.state("lives") == "suspect"
    rig.processes.kill(10)
    rig.world.run_until_idle()
    assert rig.state("lives") == "crashed"
    rig.check()


def test_after_a_reboot_nothing_lives(rig):
    for pid in (10, 11):
        rig.register(rig.processes.start(pid), id=f"s{pid}")
    rig.processes.boot = "boot-2"
    rig.processes.start(10)  # the same pid and start time, in another boot
    rig.restart()
    assert [rig.state("s10"), rig.state("s11")] == ["crashed", "crashed"]
    assert "found dead at daemon start" in rig.record("s10").evidence[0]
    assert "rebooted" in rig.record("s10").evidence[0]
    rig.check()


def test_a_restart_says_nothing_new_about_the_silent(rig, foreign):
    rig.register(rig.processes.start(10), id="idle")
    rig.register(rig.processes.start(11), id="suspect", heartbeat_s=20)
    rig.register(foreign, id="elsewhere")
    rig.world.advance(400)
    revision = rig.store.revision
    for _ in range(3):
        rig.restart()
        rig.world.advance(10)
    assert rig.store.revision == revision
    assert [rig.state(id) for id in ("idle", "suspect", "elsewhere")] == ["idle", "suspect", "idle"]
    rig.world.advance(7190)
    assert rig.state("elsewhere") == "lost"
    assert rig.heartbeat("suspect") == "active"
    rig.check()


def test_what_was_left_of_an_ended_session_is_swept_at_start(rig):
    rig.register(rig.processes.start(10), id="s1")
    rig.close("s1")
    rig.store.listeners.remove(rig.registry.published)
    rig.put("left", owner="s1")
    rig.world.run_until_idle()
    assert rig.keys() == ["left"]
    rig.restart()
    assert rig.keys() == []
    rig.check()


def test_a_record_that_cannot_be_read_stops_the_start(rig, refusal):
    rig.register(rig.processes.start(10), id="s1")
    rig.store.listeners.clear()
    rig.write(("$sessions", "global", "s1"), b"\xc0")
    assert refusal(rig.restart) == "damaged"


def test_a_field_of_a_later_version_is_passed_over(rig):
    rig.register(rig.processes.start(10), id="s1")
    entry = rig.store.get(("$sessions", "global", "s1"))
    rig.write(entry.id, msgpack.encode({**msgpack.decode(entry.value), "mood": "fine"}))
    rig.restart()
    assert rig.state("s1") == "active"


# Who may act.


def test_processes_and_what_they_start_may_act(rig, ref):
    one = rig.processes.start(10, 100)
    rig.register(one, id="s1")
    registry = rig.registry
    child = ProcessRef(50, 500)
    assert registry.may_act((ref(one),), "s1")
    assert registry.may_act((child, ProcessRef(40, 400), ref(one), ProcessRef(1, 1)), "s1")
    assert not registry.may_act((child,), "s1")
    assert not registry.may_act((), "s1")
    assert not registry.may_act((ProcessRef(10, 101),), "s1")  # the pid again, another process
    with pytest.raises(NotAllowed, match=r"only process 10 and what it starts may.*COSESSION_TOKEN"):
        registry.require_may_act((child,), "s1")
    registry.require_may_act((ref(one),), "s1")


def test_an_instance_of_another_boot_or_namespace_proves_nothing(rig, ref, foreign):
    rig.register(foreign, id="s1")
    assert not rig.registry.may_act((ref(foreign),), "s1")
    one = rig.processes.start(10, 100)
    rig.register(one, id="s2")
    rig.processes.boot = "boot-2"
    rig.restart()
    assert not rig.registry.may_act((ref(one),), "s2")


def test_session_tokens(rig, foreign):
    rig.register(foreign, id="s1")
    rig.register(rig.processes.start(10), id="s2")
    token = rig.registry.session_token("s1")
    assert token == blake2b(b"s1", key=b"0123456789abcdef", digest_size=16).hexdigest()
    assert rig.registry.may_act((), "s1", token)
    for wrong in ("", token[:-1], token + "0", token.upper(), rig.registry.session_token("s2"), "é", "\ud800"):
        assert not rig.registry.may_act((), "s1", wrong)
    rig.restart()
    assert rig.registry.session_token("s1") == token
    with pytest.raises(AssertionError):
        Authority(rig.registry.view, secret=b"short", boot="b")


def test_a_process_from_elsewhere_joins_only_with_the_token(rig, foreign, refusal):
    rig.register(rig.processes.start(10), id="s1")
    assert refusal(rig.register, foreign, id="s1") == "not_allowed"
    assert refusal(rig.register, foreign, id="s1", session_token=rig.registry.session_token("s2")) == "not_allowed"
    joined = rig.register(foreign, id="s1", session_token=rig.registry.session_token("s1"))
    assert joined.instances[-1] == foreign
    assert rig.register(foreign, id="s1") == joined  # it is known now
    rig.check()


def test_a_process_that_has_no_number_here_is_never_known(rig, refusal):
    nobody = Instance(boot_id="boot-1", pid=0, start_time=0, judgeable=False)
    rig.register(nobody, id="s1")
    assert refusal(rig.register, nobody, id="s1") == "not_allowed"
    rig.register(nobody, id="s1", session_token=rig.registry.session_token("s1"))


def test_the_nearest_process_with_a_session_decides(rig, ref):
    outer, inner = rig.processes.start(10, 100), rig.processes.start(20, 200)
    asked = []

    def ancestry():
        asked.append(1)
        return (ProcessRef(30, 300), ref(inner), ref(outer))

    assert rig.registry.sessions_of(ancestry) == frozenset()
    assert asked == []  # nobody registered: nothing is looked up
    rig.register(outer, id="outer")
    assert rig.registry.sessions_of(ancestry) == {"outer"}
    rig.register(inner, id="inner")
    assert rig.registry.sessions_of(ancestry) == {"inner"}
    rig.register(inner, id="inner2")
    assert rig.registry.sessions_of(ancestry) == {"inner", "inner2"}
    rig.close("inner")
    rig.close("inner2")
    assert rig.registry.sessions_of(ancestry) == {"outer"}


# Finding, listing, explaining.


def test_finding_by_id_and_by_name(rig, refusal):
    for pid, id, name in ((10, "s1", "otter"), (11, "s2", "heron"), (12, "otter", "s1"), (13, "s4", "heron")):
        rig.register(rig.processes.start(pid), id=id, name=name)
    find = rig.registry.find
    assert find("s1").id == "s1"  # an id goes before any name
    assert find("otter").id == "otter"
    with pytest.raises(InvalidRequest, match="2 have that name") as caught:
        find("heron")
    assert caught.value.data == {"sessions": ["s2", "s4"]}
    rig.close("s2")
    assert find("heron").id == "s4"  # a live one goes before an ended one
    rig.close("s4")
    assert refusal(find, "heron") == "invalid_params"
    assert refusal(find, "") == "not_found"


def test_listing(rig, refusal):
    for number in range(6):
        rig.register(rig.processes.start(10 + number), id=f"s{number}", project=f"p{number % 2}")
        rig.world.advance(1)
    rig.close("s5")
    shown = lambda **options: [session.id for session in rig.registry.list(**options)]  # noqa: E731
    assert shown() == ["s4", "s3", "s2", "s1", "s0"]
    assert shown(ended=True) == ["s5", "s4", "s3", "s2", "s1", "s0"]
    assert shown(project="p1") == ["s3", "s1"]
    assert shown(ended=True, project="p1", limit=2) == ["s5", "s3"]
    for limit in (0, -1, 1001):
        assert refusal(shown, limit=limit) == "invalid_params"


def test_a_list_stays_inside_one_frame(rig):
    for number in range(60):
        big = dict.fromkeys(("agent", "model", "worktree", "branch", "cwd", "transcript"), "x" * 4096)
        rig.register(rig.processes.start(10 + number), id=f"s{number}", **big)
    assert 30 < len(rig.registry.list(limit=1000)) < 60


def test_explaining_a_live_session(rig):
    rig.register(rig.processes.start(10), id="s1", name="otter", heartbeat_s=20)
    rig.world.advance(45)
    revision = rig.store.revision
    found = rig.registry.explain("otter")
    assert [layer.layer for layer in found.layers] == ["process", "heartbeat", "checkpoint", "disk", "graceful close"]
    assert [layer.signal for layer in found.layers] == ["alive", "kept", "none", "enough", "none"]
    assert all(layer.evidence for layer in found.layers)
    assert found.layers[0].cost_ms == 0.02
    assert (found.verdict.liveness, found.verdict.ending, found.verdict.recoverability) == ("alive", "none", "none")
    assert found.silent_s == 45
    assert rig.store.revision == revision


def test_explaining_an_ended_session(rig):
    rig.register(rig.processes.start(10), id="s1")
    rig.processes.kill(10)
    rig.world.advance(60)
    rig.free = DiskSignal(7, enough=False, evidence="0 MiB free")
    found = rig.registry.explain("s1")
    assert [layer.signal for layer in found.layers] == ["gone", "none", "none", "full", "none"]
    assert (found.verdict.liveness, found.verdict.ending, found.verdict.state) == ("dead", "crashed", "crashed")
    assert found.verdict.rule.startswith("ended:")
    assert (
        found.rule == rig.record("s1").reason == "process-over: every instance is over and the session was not closed"
    )
    assert found.silent_s == pytest.approx(60, abs=1)
    rig.register(rig.processes.start(11), id="s2")
    rig.close("s2")
    assert rig.registry.explain("s2").layers[4].signal == "closed"
    assert rig.registry.explain("s2").verdict.liveness == "alive"
