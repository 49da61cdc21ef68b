"""Fairness without sockets: calls that take time, told by a clock that each of them moves."""

from __future__ import annotations

from itertools import groupby

import pytest

from cosession.errors import CosessionError
from cosession.messages import admin
from cosessiond.server import runqueue
from cosessiond.server.assembly import TABLE
from rawclient import Json, Pack, take_answer
from server import inprocess
from server.inprocess import Inside


@pytest.fixture
def inside(monkeypatch):
    """A core whose `ping` takes two fifths of a time slice, and which notes who was answered."""
    found = Inside()
    found.order = []

    def slow_ping(_core, call, _request):
        found.world.clock.move_to(found.world.clock.monotonic() + runqueue.TIME_SLICE_S * 0.4)
        found.order.append(call.conversation)
        return admin.PingReply(revision=0, pid=1, version="", epoch="")

    table = TABLE | {"ping": TABLE["ping"]._replace(row=TABLE["ping"].row._replace(run=slow_ping))}
    monkeypatch.setattr(inprocess, "TABLE", table)
    return found


def pings(count, kind=Pack):
    return b"".join(kind.encode(number, "ping", {}) for number in range(1, count + 1))


def answers(line):
    found = []
    while (answer := take_answer(line.transport.sent)) is not None:
        found.append(answer.id or answer.kind)
    return found


def test_a_flood_of_costly_calls_is_interrupted_for_others_and_answered_in_full(inside):
    flood, other = inside.connect(), inside.connect()
    flood.conversation.received(pings(12))
    assert answers(flood) == [1, 2, 3], "one time slice, sent at once"
    assert flood.transport.paused, "who waits is not read"
    other.conversation.received(pings(1))
    assert answers(other) == [1]
    inside.world.advance(1)
    assert answers(flood) == list(range(4, 13))
    assert not flood.transport.paused


def test_floods_are_run_one_after_another(inside):
    lines = [inside.connect() for _ in range(3)]
    for line in lines:
        line.conversation.received(pings(9))
    inside.order.clear()
    inside.world.advance(1)
    runs = [(who, len(list(run))) for who, run in groupby(inside.order)]
    assert runs == [(line.conversation, 3) for line in lines] * 2


def test_floods_of_the_same_tick_wait_for_the_next_once_they_have_spent_it(inside):
    """Nobody knows of a connection that it is costly before it was served once."""
    bystander = inside.connect()
    lines = [inside.connect() for _ in range(20)]
    flood = pings(3 + runqueue.TRIFLE_BYTES // len(pings(1)))
    for line in lines:
        line.conversation.received(flood)
    assert len(set(inside.order)) == runqueue.TICK_S // runqueue.TIME_SLICE_S
    bystander.conversation.received(pings(1))
    assert answers(bystander) == [1], "who sends little waits for nobody"
    inside.world.advance(60)
    assert all(len(answers(line)) == flood.count(b"ping") for line in lines)


def test_a_single_costly_call_waits_before_the_next_is_read(inside):
    """Also when nothing else has come yet: the next one may be on its way."""
    line = inside.connect()
    line.conversation.received(pings(3))
    assert answers(line) == [1, 2, 3]
    assert line.transport.paused
    inside.world.advance(1)
    assert not line.transport.paused
    line.conversation.received(pings(1))
    assert answers(line) == [1]


@pytest.mark.parametrize("kind", [Json, Pack])
def test_the_end_of_input_cuts_off_no_answer(inside, kind):
    line = inside.connect()
    line.send(pings(8, kind))
    line.half_close()
    inside.world.advance(1)
    assert answers(line) == list(range(1, 9))
    assert line.transport.closed


def test_a_connection_that_is_gone_is_not_run(inside):
    line = inside.connect()
    line.conversation.received(pings(9) + b"\x00")
    line.conversation.closed()
    inside.order.clear()
    inside.world.advance(3600)
    assert not inside.order
    assert "limit.frame_finish" not in inside.core.metrics.snapshot(), "nobody waits for the rest of its frame"


def test_when_the_daemon_leaves_its_goodbye_is_the_last_word(inside):
    line = inside.connect()
    line.conversation.received(pings(9))
    line.conversation.leave(CosessionError("cannot go on: the test is over; connect again", code="shutting_down"))
    assert answers(line) == [1, 2, 3, "goodbye"]
    inside.order.clear()
    inside.world.advance(1)
    assert not inside.order
