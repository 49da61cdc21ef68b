"""Hello and its answers, the sessions said again after a reconnect, the schedule of heartbeats."""

from __future__ import annotations

import pytest

from cosession.errors import CosessionError, error_from
from cosession.exchange.presence import BEATS_PER_PERIOD, Attachments, BeatSchedule, Memory
from cosession.messages.admin import HelloReply
from cosession.messages.limits import LIMITS, PROTOCOL_VERSION
from cosession.messages.sessions import Register, RegisterReply
from cosession.model import Session

TOKEN = "t"  # noqa: S105 - a session token of a test


def answer(epoch="e1", revision=5, protocol=PROTOCOL_VERSION):
    return HelloReply(
        revision=revision,
        version="2",
        protocol=protocol,
        daemon_id="d",
        pid=1,
        state_directory="/",
        epoch=epoch,
        limits=LIMITS,
    )


class TestMemory:
    def test_says_what_was_last_seen(self):
        memory = Memory()
        assert (memory.hello().epoch, memory.hello().seen_revision) == ("", 0)
        memory.learn(answer())
        memory.observe(9)
        memory.observe(7)
        assert (memory.hello().epoch, memory.hello().seen_revision) == ("e1", 9)

    def test_another_epoch_begins_anew(self):
        memory = Memory()
        memory.learn(answer())
        memory.observe(900)
        memory.learn(answer(epoch="e2", revision=7))
        assert (memory.epoch, memory.revision) == ("e2", 7)

    @pytest.mark.parametrize("protocol", [0, PROTOCOL_VERSION + 1])
    def test_another_protocol_names_the_command(self, protocol):
        with pytest.raises(CosessionError, match=r"protocol .*run: cosession restart") as caught:
            Memory().learn(answer(protocol=protocol))
        assert caught.value.code == "incompatible"

    @pytest.mark.parametrize("code", ["incompatible", "unknown_method", "invalid_params"])
    def test_an_older_daemon_names_the_command(self, code):
        with pytest.raises(CosessionError, match=r"\(no\); run: cosession restart") as caught:
            Memory().refused(error_from(code, "no"))
        assert caught.value.code == "incompatible"

    def test_a_new_epoch_is_greeted_again(self):
        memory = Memory()
        memory.learn(answer())
        memory.refused(error_from("epoch_changed", "no"))
        assert (memory.hello().epoch, memory.hello().seen_revision) == ("", 0)
        with pytest.raises(CosessionError):
            memory.refused(error_from("epoch_changed", "no"))

    def test_damage_is_passed_on(self):
        with pytest.raises(CosessionError) as caught:
            Memory().refused(error_from("damaged", "the tail is lost"))
        assert caught.value.code == "damaged"


class TestAttachments:
    def test_come_back_with_id_and_token_and_without_what_is_done(self):
        attachments = Attachments()
        register = Register(name="n", agent="a", heartbeat_s=20.0, replaces="old", branch="b", pid=3, drills=True)
        attachments.add(register, RegisterReply(revision=1, session=Session(id="s1"), session_token=TOKEN))
        assert attachments.requests() == [
            Register(
                id="s1", name="n", agent="a", heartbeat_s=20.0, branch="b", pid=3, drills=True, session_token=TOKEN
            )
        ]
        fields = set(Register.__struct_fields__) - {"replaces"}
        assert fields == {
            "id", "name", "agent", "model", "project", "worktree", "branch", "cwd", "host", "transcript",
            "heartbeat_s", "pid", "drills", "session_token",
        }, "a new field: must it be said again?"  # fmt: skip

    def test_only(self):
        attachments = Attachments()
        assert attachments.only() == ""
        attachments.add(Register(), RegisterReply(revision=1, session=Session(id="s1"), session_token=""))
        assert attachments.only() == "s1"
        attachments.add(Register(), RegisterReply(revision=1, session=Session(id="s2"), session_token=""))
        assert attachments.only() == ""
        attachments.remove("s1")
        attachments.remove("s1")
        assert attachments.only() == "s2"


class TestBeatSchedule:
    def test_nothing_to_do(self):
        schedule = BeatSchedule()
        assert schedule.wait_s(0) is None
        assert schedule.due(0) == []

    def test_several_beats_per_promise(self):
        schedule = BeatSchedule()
        schedule.add("s", 30.0, TOKEN, now=100.0)
        period = 30.0 / BEATS_PER_PERIOD
        first = 120.0
        assert 100.0 + schedule.wait_s(100.0) == first
        assert schedule.due(100.0 + (first - 100.0) / 2) == []
        (beat,) = schedule.due(first)
        assert (beat.session, beat.session_token) == ("s", TOKEN)
        assert schedule.wait_s(first) == period

    def test_beats_of_all_processes_come_at_the_same_moments(self):
        """Whenever a session began, and however late a beat was sent: one wake-up of the machine for all."""
        for began in (90.0, 100.0, 119.9, 120.0):
            schedule = BeatSchedule()  # each of another process
            schedule.add("s", 30.0, "", now=began)
            at = began + schedule.wait_s(began)
            for _ in range(3):
                assert at % 30.0 == 0.0
                schedule.due(at + 0.5)
                at += 0.5 + schedule.wait_s(at + 0.5)
            assert at % 30.0 == 0.0

    @pytest.mark.parametrize("early", [0.0, 0.001, 0.02])
    def test_a_timer_that_comes_a_bit_early_sends_one_beat_not_two(self, early):
        schedule = BeatSchedule()
        schedule.add("s", 30.0, "", now=100.0)
        assert len(schedule.due(120.0 - early)) == 1
        assert schedule.due(120.0) == []
        assert 120.0 + schedule.wait_s(120.0) == 150.0

    def test_no_two_beats_are_more_than_a_period_apart(self):
        """But for the thousandth in which a session that begins just before a beat waits for the next."""
        schedule = BeatSchedule()
        for began in (0.0, 1.0, 29.9, 29.999, 30.0, 1e6 + 0.1):
            schedule.add("s", 30.0, "", now=began)
            assert 0.0 < schedule.wait_s(began) <= 30.0 * 1.001

    def test_what_is_nearly_due_goes_along(self):
        schedule = BeatSchedule()
        schedule.add("a", 30.0, "", now=0.0)
        schedule.add("b", 31.0, "", now=0.5)
        schedule.add("c", 40.0, "", now=0.5)
        assert [beat.session for beat in schedule.due(30.0)] == ["a", "b"]
        assert schedule.wait_s(30.0) == 10.0
        assert [beat.session for beat in schedule.due(60.0)] == ["a", "b", "c"]

    def test_a_beat_that_failed_comes_again_soon(self):
        schedule = BeatSchedule()
        schedule.add("s", 30.0, "", now=0.0)
        schedule.due(30.0)
        schedule.postpone(2.0, 30.0)
        assert schedule.wait_s(30.0) == 2.0
        schedule.postpone(50.0, 30.0)
        assert schedule.wait_s(30.0) == 2.0  # never later than it was
        schedule.due(32.0)
        assert schedule.wait_s(32.0) == 28.0

    def test_removed(self):
        schedule = BeatSchedule()
        schedule.add("s", 30.0, "", now=0.0)
        schedule.remove("s")
        schedule.remove("s")
        assert schedule.wait_s(100.0) is None
        assert schedule.due(100.0) == []
