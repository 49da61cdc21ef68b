"""What follows a failure, as tables; and the life of one call, attempt by attempt."""

from __future__ import annotations

import pytest
from msgspec import Raw, msgpack

from cosession.errors import CATALOGUE, Conflict, CosessionError, TimedOut, UnknownOutcome, Unreachable, error_from
from cosession.exchange.calls import KINDS, CallPlan, LinkLost, RequestIds, decode_reply, prepared
from cosession.messages import REQUESTS
from cosession.messages.admin import Ping, Stop
from cosession.messages.sessions import Register
from cosession.messages.store import Get, Put
from cosession.model import Entry
from cosession.retries import (
    ASIDE,
    BACK_OFF_S,
    LINKS_LOST_MAX,
    LOST,
    ONCE,
    READ,
    REFUSALS_MAX,
    REPEATABLE,
    UNKNOWN,
    WRITE,
    back_off_s,
    decide,
)

PUT = Put(key="a", value=Raw(b"\x01"))


def new_plan(request=PUT):
    return CallPlan(request, iter(["id-1", "id-2"]).__next__)


def test_every_request_has_a_kind():
    assert set(KINDS) == set(REQUESTS.values())


def test_every_write_has_a_request_id():
    with_ids = {request for request in REQUESTS.values() if "request_id" in request.__struct_fields__}
    assert with_ids == {request for request, kind in KINDS.items() if kind == WRITE}


KINDS_OF_REQUEST = (READ, WRITE, REPEATABLE, ONCE, ASIDE)


@pytest.mark.parametrize(
    ("failure", "unanswered", "steps"),
    [
        # failure, unanswered: read, write, repeatable, once, aside
        (LOST, False, "retry retry retry retry retry"),
        (LOST, True, "retry retry retry unknown retry"),
        ("shutting_down", False, "retry retry retry retry raise"),
        ("shutting_down", True, "retry retry retry unknown raise"),
        ("overloaded", False, "retry retry retry retry raise"),
        ("overloaded", True, "retry retry retry unknown raise"),
        ("timed_out", False, "raise raise raise raise raise"),
        ("timed_out", True, "raise unknown raise unknown raise"),
        ("unreachable", False, "raise raise raise raise raise"),
        ("unreachable", True, "raise unknown raise unknown raise"),
        ("closed", True, "raise unknown raise unknown raise"),
        # the same request would have met it the first time too
        ("conflict", True, "raise raise raise raise raise"),
        ("too_large", True, "raise raise raise raise raise"),
        ("invalid_params", True, "raise raise raise raise raise"),
        # says nothing about the attempt before
        ("disk_full", False, "raise raise raise raise raise"),
        ("disk_full", True, "raise unknown raise unknown raise"),
        ("read_only", True, "raise unknown raise unknown raise"),
        ("session_ended", True, "raise unknown raise unknown raise"),
        ("incompatible", True, "raise unknown raise unknown raise"),
        ("damaged", True, "raise unknown raise unknown raise"),
    ],
)
def test_decide(failure, unanswered, steps):
    assert [decide(kind, failure, unanswered=unanswered) for kind in KINDS_OF_REQUEST] == steps.split()


@pytest.mark.parametrize("code", sorted(CATALOGUE))
@pytest.mark.parametrize("kind", KINDS_OF_REQUEST)
def test_nothing_is_unknown_that_was_never_left_unanswered(code, kind):
    assert decide(kind, code, unanswered=False) != UNKNOWN


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_a_read_is_never_unknown(code):
    assert decide(READ, code, unanswered=True) != UNKNOWN


def test_back_off_is_bounded_and_spread():
    for attempt in range(1, 50):
        longest = BACK_OFF_S[min(attempt, len(BACK_OFF_S)) - 1]
        assert back_off_s(attempt, 0.0) == longest / 2
        assert longest / 2 <= back_off_s(attempt, 0.999) <= longest
    assert back_off_s(1, 0.9) == 0  # the first comes at once


class TestRequestIds:
    def test_form(self):
        ids = RequestIds(lambda: 0x0123_4567_89AB, lambda count: bytes(range(count)))
        assert ids() == "014D2PF2DB000G40R40M30E209"
        assert len(ids()) == 26

    def test_sort_by_time(self):
        made = [RequestIds(lambda now=now: now, lambda count: b"\xff" * count)() for now in (1, 2, 1000, 2**47)]
        assert made == sorted(made)

    def test_agrees_with_the_daemons_ulid(self):
        from cosessiond.clock import ulid

        class Fixed:
            def wall_ms(self):
                return 1_700_000_000_123

            def random_bytes(self, count):
                return b"0123456789"[:count]

        assert RequestIds(Fixed().wall_ms, Fixed().random_bytes)() == ulid(Fixed(), Fixed())


def test_prepared():
    assert prepared(PUT, lambda: "new").request_id == "new"
    assert prepared(Put(key="a", value=Raw(b"\x01"), request_id="mine"), lambda: "new").request_id == "mine"
    assert prepared(Register(), lambda: "new").id == "new"
    assert prepared(Register(id="mine"), lambda: "new").id == "mine"
    ping = Ping()
    assert prepared(ping, lambda: "new") is ping


class TestCallPlan:
    def test_a_write_keeps_its_request_id_through_lost_connections(self):
        plan = new_plan()
        for _ in range(2):
            plan.begin("e")
            plan.sent()
            assert plan.after(LinkLost("gone"), jitter=0.5, left_s=5) >= 0
            assert plan.request.request_id == "id-1"

    def test_a_write_is_not_repeated_in_another_epoch(self):
        plan = new_plan()
        plan.begin("e1")
        plan.sent()
        plan.after(LinkLost("gone"), jitter=0, left_s=5)
        with pytest.raises(UnknownOutcome, match="epoch e2") as caught:
            plan.begin("e2")
        assert caught.value.data == {"request_id": "id-1", "method": "put"}
        with pytest.raises(UnknownOutcome, match="epoch e2"):
            plan.after(caught.value, jitter=0, left_s=5)

    def test_a_write_that_was_never_sent_whole_may_go_to_any_epoch(self):
        plan = new_plan()
        plan.begin("e1")
        plan.after(LinkLost("gone"), jitter=0, left_s=5)
        plan.begin("e2")

    def test_a_read_may_go_to_any_epoch(self):
        plan = new_plan(Get(key="a"))
        plan.begin("e1")
        plan.sent()
        plan.after(LinkLost("gone"), jitter=0, left_s=5)
        plan.begin("e2")

    def test_an_answered_attempt_leaves_no_doubt(self):
        plan = new_plan()
        plan.begin("e")
        plan.sent()
        plan.after(error_from("shutting_down", "bye"), jitter=0, left_s=5)
        with pytest.raises(Unreachable):
            plan.after(Unreachable("gone"), jitter=0, left_s=5)

    def test_an_unanswered_one_does(self):
        plan = new_plan()
        plan.begin("e")
        plan.sent()
        plan.after(LinkLost("gone"), jitter=0, left_s=5)
        with pytest.raises(UnknownOutcome, match=r"took effect: not there; repeat it with request_id='id-1'"):
            plan.after(Unreachable("not there"), jitter=0, left_s=5)

    def test_timing_out_before_and_after_it_was_sent(self):
        plan = new_plan()
        with pytest.raises(TimedOut):
            plan.after(TimedOut("slow"), jitter=0, left_s=0)
        plan = new_plan()
        plan.begin("e")
        plan.sent()
        with pytest.raises(UnknownOutcome):
            plan.after(TimedOut("slow"), jitter=0, left_s=0)

    @pytest.mark.parametrize(("request_", "error"), [(PUT, UnknownOutcome), (Get(key="a"), Unreachable)])
    def test_what_loses_every_connection_is_given_up(self, request_, error):
        plan = new_plan(request_)
        for _ in range(LINKS_LOST_MAX):
            plan.begin("e")
            plan.sent()
            plan.after(LinkLost("gone"), jitter=0, left_s=100)
        plan.sent()
        with pytest.raises(error):
            plan.after(LinkLost("gone"), jitter=0, left_s=100)

    def test_overloaded_is_tried_again_for_a_while(self):
        plan = new_plan()
        for _ in range(REFUSALS_MAX):
            plan.begin("e")
            plan.sent()
            plan.after(error_from("overloaded", "busy"), jitter=0, left_s=100)
        with pytest.raises(CosessionError, match="busy") as caught:
            plan.after(error_from("overloaded", "busy"), jitter=0, left_s=100)
        assert caught.value.code == "overloaded"

    def test_nothing_is_tried_beyond_the_time_allowed(self):
        plan = new_plan(Get(key="a"))
        plan.after(error_from("overloaded", "busy"), jitter=0, left_s=100)
        with pytest.raises(CosessionError, match="busy"):
            plan.after(error_from("overloaded", "busy"), jitter=0, left_s=0.001)

    def test_stop_is_never_said_twice_to_who_may_have_heard_it(self):
        plan = new_plan(Stop())
        plan.begin("e")
        plan.after(LinkLost("gone"), jitter=0, left_s=5)
        plan.begin("e")
        plan.sent()
        with pytest.raises(UnknownOutcome, match="look at what is there now"):
            plan.after(LinkLost("gone"), jitter=0, left_s=5)

    @pytest.mark.parametrize(
        ("current", "expected"),
        [
            (None, None),
            (
                {"key": "a", "value": [1], "version": 2, "create_revision": 3, "mod_revision": 4},
                Entry(key="a", value=[1], version=2, create_revision=3, mod_revision=4),
            ),
            ({"key": "a"}, None),
        ],
    )
    def test_a_conflict_brings_the_current_entry(self, current, expected):
        plan = new_plan()
        with pytest.raises(Conflict) as caught:
            plan.after(error_from("conflict", "no", {"current": current}), jitter=0, left_s=5)
        assert caught.value.current == expected


def test_an_answer_that_cannot_be_read_loses_the_connection():
    with pytest.raises(LinkLost, match="ping"):
        decode_reply(Ping(), msgpack.encode({"revision": "x"}))
    with pytest.raises(LinkLost):
        decode_reply(Ping(), b"\xc1")


def test_an_answer_of_a_newer_daemon_may_hold_more():
    body = {"revision": 1, "pid": 2, "version": "3", "epoch": "e", "news": [1]}
    assert decode_reply(Ping(), msgpack.encode(body)).pid == 2
