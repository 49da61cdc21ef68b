"""Turns at the socket under virtual time: when they are answered, what ends them, and what they never do."""

from __future__ import annotations

from itertools import count

import pytest

from cosession.errors import CosessionError
from cosession.messages.limits import HIGH_WATER_BYTES, LIMITS, TURN_S, TURN_WAIT_S_MAX, TURN_WAITERS_MAX
from rawclient import Pack, take_answer
from server.inprocess import Inside


class Peer:
    """A connection that is asked for what has come, and never waits."""

    def __init__(self, inside):
        self._world = inside.world
        self.line = inside.connect()
        self._ids = count(1)

    def send(self, method, **params):
        id = next(self._ids)
        self.line.send(Pack.encode(id, method, params))
        self._world.run_until_idle()
        return id

    def heard(self):
        """The answers since the last look, by call id."""
        found = {}
        while (answer := take_answer(self.line.transport.sent)) is not None:
            found[answer.id] = answer
        return found

    def ask(self, method, **params):
        id = self.send(method, **params)
        return self.heard().get(id)

    def turn(self, key="k", **params):
        """The answer to the question for a turn, None when it waits."""
        answer = self.ask("turn", key=key, **params)
        return answer and answer.body

    def came(self):
        """The one turn that has been answered since, as a body; None without one."""
        answers = list(self.heard().values())
        assert len(answers) <= 1
        return answers[0].body if answers else None

    def hang_up(self):
        self.line.transport.close()
        self._world.run_until_idle()


@pytest.fixture
def inside():
    found = Inside()
    yield found
    assert not found.bugs


@pytest.fixture
def peers(inside):
    return [Peer(inside) for _ in range(3)]


def test_a_turn_that_nobody_has_comes_at_once_with_the_entry(inside, peers):
    a, _, _ = peers
    assert a.turn() == {"revision": 0, "granted": True, "waited": False, "behind": 0, "entry": None}
    a.ask("put", key="k", value={"n": 1})
    again = a.turn()
    assert (again["entry"]["value"], again["entry"]["mod_revision"], again["waited"]) == ({"n": 1}, 1, False)
    assert inside.core.metrics.snapshot()["turns.at_once"] == 2


def test_who_waits_is_answered_in_order_each_after_the_write_before(peers):
    a, b, c = peers
    a.turn()
    assert b.turn() is None
    assert c.turn() is None
    a.ask("put", key="k", value="a's")
    came = b.came()
    assert (came["granted"], came["waited"], came["behind"], came["entry"]["value"]) == (True, True, 1, "a's")
    assert c.came() is None
    b.ask("put", key="k", value="b's", expect_revision=came["entry"]["mod_revision"])
    assert (c.came() or {})["entry"]["value"] == "b's"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("put", {"key": "k", "value": 1}, ""),
        ("put", {"key": "k", "value": 1, "expect_revision": 7}, "conflict"),
        ("put", {"key": "k", "value": "x" * 300_000}, "too_large"),
        ("put", {"key": "k", "value": 1, "ephemeral": True}, "not_allowed"),
        ("put", {"key": "k", "value": 1, "session": "nobody", "request_id": "r"}, "not_found"),
        ("merge", {"key": "k", "patch": {"a": 1}}, ""),
        ("delete", {"key": "k"}, ""),
        ("txn", {"then": [{"op": "put", "key": "k", "value": 1}, {"op": "put", "key": "l", "value": 1}]}, ""),
        ("turn", {"key": "k", "give_back": True}, ""),
    ],
)
def test_any_outcome_of_a_write_of_that_key_ends_the_turn(peers, method, params, code):
    a, b, _ = peers
    a.turn()
    b.send("turn", key="k")
    assert a.ask(method, **params).code == code
    assert (b.came() or {})["granted"], "at once, no time has passed"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("put", {"key": "other", "value": 1}),
        ("put", {"key": "k", "value": 1, "project": "other"}),
        ("txn", {"compares": [{"kind": "entry", "key": "k", "value": 0}], "then": []}),
        ("get", {"key": "k"}),
        ("turn", {"key": "other"}),
        ("turn", {"key": "other", "give_back": True}),
    ],
)
def test_nothing_else_ends_it(peers, method, params):
    a, b, c = peers
    a.turn()
    b.send("turn", key="k")
    assert a.ask(method, **params).kind == "reply"
    assert c.ask("put", key="k", value="somebody else's").kind == "reply"
    assert b.came() is None


def test_a_turn_delays_and_refuses_nobody(peers):
    a, b, _ = peers
    a.turn()
    assert b.ask("put", key="k", value=1).body["written"]["mod_revision"] == 1
    assert b.ask("delete", key="k").kind == "reply"


def test_it_lasts_one_second_and_no_less(inside, peers):
    a, b, _ = peers
    a.turn()
    b.send("turn", key="k")
    inside.world.advance(TURN_S - 0.001)
    assert b.came() is None
    inside.world.advance(0.002)
    assert (b.came() or {})["granted"]
    assert inside.core.metrics.snapshot()["turns.expired"] == 1
    inside.world.advance(TURN_S)
    assert a.ask("put", key="k", value=1).kind == "reply", "whose time is over may write like anyone"
    assert inside.core.turns.is_held(("context", "global", "k")) is False


def test_the_end_of_a_connection_ends_its_turn_and_frees_its_places(inside, peers):
    a, b, c = peers
    a.turn()
    for peer in (b, b, c):
        peer.send("turn", key="k")
    b.hang_up()
    assert inside.core.turns.behind(("context", "global", "k")) == 1
    a.hang_up()
    assert (c.came() or {})["granted"]
    c.hang_up()
    assert len(inside.core.turns) == 0
    assert len(inside.core.deadlines) == 0


def test_the_time_to_wait_is_kept_and_then_the_place_is_gone(inside, peers):
    a, b, c = peers
    a.turn()
    b.send("turn", key="k", wait_s=0.5)
    c.send("turn", key="k", wait_s=0.25)
    inside.world.advance(0.25)
    assert b.came() is None
    assert c.came() == {"revision": 0, "granted": False, "waited": True, "behind": 1, "entry": None}
    inside.world.advance(0.25)
    assert not b.came()["granted"]
    assert a.turn(wait_s=0) == {"revision": 0, "granted": False, "waited": True, "behind": 0, "entry": None}
    a.ask("put", key="k", value=1)
    assert b.came() is None
    assert len(inside.core.turns) == 0


@pytest.mark.parametrize("wait_s", [-0.1, TURN_WAIT_S_MAX + 1, float("nan"), float("inf")])
def test_the_time_to_wait_is_bounded(peers, wait_s):
    assert peers[0].ask("turn", key="k", wait_s=wait_s).code == "invalid_params"


def test_a_turn_is_for_keys_that_can_be_written(peers):
    assert peers[0].ask("turn", key="k", space="$sessions").code == "not_allowed"
    assert peers[0].ask("turn", key="").code == "invalid_params"


def test_a_connection_keeps_room_for_its_writes(inside, peers):
    a, b, _ = peers
    a.turn()
    for _ in range(LIMITS.in_flight_max // 2):
        b.send("turn", key="k")
    assert b.ask("turn", key="k").code == "overloaded"
    assert b.ask("put", key="l", value=1).kind == "reply"
    assert inside.core.metrics.snapshot()["limit.turns"] == 1


def test_a_connection_is_not_filled_with_answers_to_come(peers):
    a, b, _ = peers
    size = 200_000
    a.ask("put", key="k", value="x" * size)
    a.turn()
    waiting = HIGH_WATER_BYTES // 2 // size
    for _ in range(waiting):
        b.send("turn", key="k")
    assert b.ask("turn", key="k").code == "overloaded"
    assert b.ask("put", key="l", value=1).kind == "reply"


def test_ten_thousand_wait_for_one_key_and_everyone_is_answered_or_refused(inside):
    holder = Peer(inside)
    holder.turn()
    peers = [Peer(inside) for _ in range(100)]
    for peer in peers:
        for _ in range(100):
            peer.send("turn", key="k", wait_s=TURN_WAIT_S_MAX)
    answers = [answer for peer in peers for answer in peer.heard().values()]
    assert {answer.code for answer in answers} == {"overloaded"}
    refused = len(answers)
    assert refused == 10_000 - TURN_WAITERS_MAX
    holder.ask("put", key="k", value=0)
    for place in range(TURN_WAITERS_MAX):
        peer = peers[place // 100]  # in the order of asking
        granted = [answer for answer in peer.heard().values() if answer.body.get("granted")]
        assert len(granted) == 1, "one at a time, and none is left out"
        peer.send("put", key="k", value=place)
    assert len(inside.core.turns) == 0


def test_a_daemon_that_drains_lets_nobody_wait(inside, peers):
    a, b, c = peers
    a.turn()
    b.send("turn", key="k")
    inside.core.draining = True
    inside.core.turns.drain(CosessionError("cannot go on: the daemon is shutting down", code="shutting_down"))
    inside.core.flush()
    (answer,) = b.heard().values()
    assert answer.code == "shutting_down"
    assert c.ask("turn", key="k").code == "shutting_down"
    assert inside.core.in_flight is False


def test_conflicts_are_counted_without_trust(peers):
    a, b, c = peers

    def counted():
        status = c.ask("status").body
        return tuple(status[f"conflicts_{name}"] for name in ("pending", "resolved", "unresolved"))

    for peer in (a, b):
        for _ in range(2):
            assert peer.ask("put", key="k", value=1, expect_revision=9).code == "conflict"
    assert counted() == (4, 0, 0)
    a.ask("put", key="other", value=1)
    assert counted() == (4, 0, 0), "another key resolves nothing"
    a.ask("merge", key="k", patch={})
    assert counted() == (2, 2, 0)
    b.hang_up()
    assert counted() == (0, 2, 2)
    compare = {"kind": "range", "prefix": "o", "max_mod_revision": 0}
    assert a.ask("txn", compares=[compare], then=[{"op": "put", "key": "new", "value": 1}]).code == "conflict"
    a.ask("delete", key="other")
    assert counted() == (0, 3, 2), "the entry that was in the way"
