"""Calls of `audit` that wait, under virtual time: how many may, what ends each, and that they keep nobody awake."""

from __future__ import annotations

from itertools import count

import pytest

from cosession.messages.limits import (
    AUDIT_ACTS_MAX,
    AUDIT_DENIALS_MAX,
    AUDIT_QUEUE_MAX,
    AUDIT_WAIT_S_MAX,
    AUDIT_WAITING_MAX,
)
from cosessiond.audit.journal import ACT_EVERY_S, DENIAL_EVERY_S
from cosessiond.audit.paging import Query
from rawclient import Pack, take_answer
from server.inprocess import Inside

#: Calls of one connection; it may have 256 in flight.
EACH = AUDIT_WAITING_MAX // 2


class Peer:
    """A connection that is asked for what has come, and never waits."""

    def __init__(self, inside):
        self._world = inside.world
        self.line = inside.connect()
        self._ids = count(1)

    def wait(self, after, **params):
        """Call `audit` with the longest wait."""
        id = next(self._ids)
        self.line.send(Pack.encode(id, "audit", {"after": after, "wait_s": AUDIT_WAIT_S_MAX, **params}))
        self._world.run_until_idle()
        return id

    def heard(self):
        """The answers since the last look, by call id."""
        found = {}
        while (answer := take_answer(self.line.transport.sent)) is not None:
            found[answer.id] = answer
        return found

    def ask(self, after, **params):
        """The answer, None when it waits."""
        id = self.wait(after, **params)
        return self.heard().get(id)

    def counters(self):
        """Those of `status`."""
        id = next(self._ids)
        self.line.send(Pack.encode(id, "status", {}))
        self._world.run_until_idle()
        return self.heard()[id].body["counters"]

    def hang_up(self):
        self.line.transport.close()
        self._world.run_until_idle()


@pytest.fixture
def inside():
    found = Inside()
    found.world.run_until_idle()
    yield found
    assert not found.bugs


@pytest.fixture
def last(inside):
    """The newest id there is."""
    return inside.core.store.audit.last


def filled(inside, last):
    """Two connections with as many calls that wait as may."""
    peers = Peer(inside), Peer(inside)
    for peer in peers:
        for _ in range(EACH):
            peer.wait(last)
        assert peer.heard() == {}
    assert len(inside.core.waiting) == AUDIT_WAITING_MAX
    return peers


def test_so_many_may_wait_and_the_next_is_refused_with_a_word(inside, last):
    first, second = filled(inside, last)
    late = Peer(inside)
    refused = late.ask(last)
    assert (refused.code, refused.body["retryable"]) == ("overloaded", True)
    assert "wait_s" in refused.body["message"], "it says what to do"
    assert inside.core.metrics.snapshot()["limit.audit_waiting"] == 1
    assert late.ask(last - 1).kind == "reply", "who need not wait is served as ever"
    assert first.heard() == second.heard() == {}


def test_all_that_wait_are_answered_by_one_record(inside, last):
    peers = filled(inside, last)
    inside.core.journal.acted("start")
    inside.world.run_until_idle()
    for peer in peers:
        answers = peer.heard().values()
        assert [[each["id"] for each in answer.body["records"]] for answer in answers] == [[last + 1]] * EACH
    assert len(inside.core.waiting) == 0


def test_a_record_that_does_not_fit_wakes_nobody(inside, last, monkeypatch):
    peer = Peer(inside)
    peer.wait(last, kind="verdict")
    peer.wait(last, session="somebody else's")
    fits = peer.wait(last, kind="admin")
    looks = []
    run = inside.core.store.run
    monkeypatch.setattr(inside.core.store, "run", lambda *job, **more: (looks.append(job), run(*job, **more)))
    inside.core.journal.acted("start")
    inside.world.run_until_idle()
    assert list(peer.heard()) == [fits]
    assert len(looks) == 1, "nothing is read for those whom it does not concern"
    inside.core.waiting.backed_up()
    inside.world.run_until_idle()
    assert len(looks) == 1
    assert peer.heard() == {}
    assert len(inside.core.waiting) == 2


def test_waking_everybody_would_be_noticed(inside, last, monkeypatch):
    monkeypatch.setattr(Query, "fits", lambda *_: True)
    with pytest.raises(AssertionError):
        test_a_record_that_does_not_fit_wakes_nobody(inside, last, monkeypatch)


def test_who_hangs_up_makes_room(inside, last):
    first, second = filled(inside, last)
    first.hang_up()
    assert len(inside.core.waiting) == EACH
    late = Peer(inside)
    assert late.ask(last) is None, "it waits"
    second.hang_up()
    late.hang_up()
    assert len(inside.core.waiting) == 0
    assert len(inside.core.deadlines) == 0, "nothing is left behind"


def test_who_hangs_up_while_the_store_looks_does_not_wait_afterwards(inside, last):
    peer = Peer(inside)
    inside.commits.stall(stalled=True)
    peer.wait(last)
    peer.hang_up()
    inside.commits.stall(stalled=False)
    inside.world.run_until_idle()
    assert len(inside.core.waiting) == 0


def test_the_end_of_the_daemon_ends_every_wait(inside, last):
    peers = filled(inside, last)
    inside.core.drain()
    inside.world.run_until_idle()
    for peer in peers:
        assert [answer.code for answer in peer.heard().values()] == ["shutting_down"] * EACH
    late = Peer(inside)
    assert late.ask(last + 1).code == "shutting_down", "the stop is recorded, and nothing comes behind it"
    assert len(inside.core.waiting) == 0
    assert len(inside.core.deadlines) == 0


def test_a_wait_that_is_over_is_answered_with_an_empty_page(inside, last):
    peer = Peer(inside)
    began_s = inside.world.clock.monotonic()
    peer.wait(last)
    short = peer.wait(last, wait_s=1.5)
    inside.world.advance(1.5)
    found = peer.heard()
    assert list(found) == [short]
    page = found[short].body
    assert (page["records"], page["more"], page["next"], page["last"]) == ([], False, last, last)
    assert peer.heard() == {}
    inside.world.advance(AUDIT_WAIT_S_MAX - 1.5)
    assert len(peer.heard()) == 1
    assert inside.world.clock.monotonic() - began_s == AUDIT_WAIT_S_MAX


def test_what_was_not_for_it_is_passed_over_and_it_waits_no_longer_than_asked(inside, last):
    peer = Peer(inside)
    id = peer.wait(last, kind="verdict", wait_s=2.0)
    inside.world.advance(1.5)
    inside.core.journal.acted("start")
    inside.world.advance(0.4)
    assert peer.heard() == {}
    inside.world.advance(0.1)
    page = peer.heard()[id].body
    assert (page["records"], page["next"]) == ([], last + 1), "what was looked at is not looked at again"


def test_nothing_runs_while_calls_wait(inside, last):
    filled(inside, last)
    assert inside.world.next_timer_s() == inside.world.clock.monotonic() + AUDIT_WAIT_S_MAX, (
        "the first end is the first timer"
    )
    assert inside.world.advance(AUDIT_WAIT_S_MAX - 0.1) == 0


def test_records_beyond_the_queue_are_dropped_and_counted(inside, last):
    peer = Peer(inside)
    inside.commits.stall(stalled=True)
    for index in range(AUDIT_QUEUE_MAX + 3):
        inside.core.journal.acted("start", subject=str(index))
    inside.commits.stall(stalled=False)
    inside.world.run_until_idle()
    assert inside.core.store.audit.last == last + AUDIT_QUEUE_MAX
    assert peer.counters()["limit.audit_queue"] == 3
    assert peer.counters()["near_limit.audit_queue"] == 1
    inside.core.journal.acted("start")
    inside.world.run_until_idle()
    assert inside.core.store.audit.last == last + AUDIT_QUEUE_MAX + 1, "there is room again"
    assert peer.counters()["limit.audit_queue"] == 3


def test_a_client_that_repeats_an_act_crowds_out_no_other_record(inside, last):
    """Each kind has a pace of its own, so that the one is not hidden behind the other."""
    inside.core.journal.acted("purge", subject="before")
    for index in range(AUDIT_ACTS_MAX + 500):
        inside.core.journal.acted("compact", subject=str(index))
        inside.core.journal.acted("admin.reload")
    inside.core.journal.acted("purge", subject="after")
    inside.world.run_until_idle()
    peer = Peer(inside)
    records = peer.ask(last, limit=1_000).body["records"]
    of = [each["operation"] for each in records]
    assert (of[0], of[-1]) == ("purge", "purge")
    assert (of.count("compact"), of.count("admin.reload"), len(of)) == (64, 64, 2 * AUDIT_ACTS_MAX + 2)
    assert peer.counters()["audit.suppressed"] == 1_000
    inside.world.advance(ACT_EVERY_S)
    inside.core.journal.acted("compact")
    inside.core.journal.acted("compact", follows=True)
    inside.core.journal.acted("compact")
    inside.world.run_until_idle()
    facts = [each["facts"] for each in peer.ask(last + len(of)).body["records"]]
    assert [each.get("suppressed", 0) for each in facts] == [500, 0]


def test_another_user_at_the_door_again_and_again_is_counted(inside, last):
    for _ in range(AUDIT_DENIALS_MAX + 5):
        inside.core.journal.turned_away(65534, 4711)
    inside.world.advance(DENIAL_EVERY_S)
    inside.core.journal.turned_away(65534, 4712)
    inside.world.run_until_idle()
    peer = Peer(inside)
    records = peer.ask(last).body["records"]
    assert [each["facts"] for each in records[:-1]] == [{"uid": 65534}] * AUDIT_DENIALS_MAX
    assert (records[-1]["facts"], records[-1]["instance"]) == ({"uid": 65534, "suppressed": 5}, "4712")
    assert peer.counters()["audit.suppressed"] == 5
