"""The search for an order: it finds those that exist, misses none that does not, and sees seeded bugs by itself."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from msgspec import Raw, msgpack

from cosession.messages import Request
from cosession.messages.store import Get, Put
from durability import linear
from durability.journal import Deed
from durability.killloop import Plan, run
from durability.link import open_when_ready
from durability.loop import ScriptedDaemon, sabotaged
from durability.project import ANY, GONE, Operation, State, becomes, changes, ends, shows, stays, when

A, B = msgpack.encode("a"), msgpack.encode("b")
PUT_A, PUT_B = partial(becomes, 1, A), partial(becomes, 2, B)
SEES_A, SEES_B, SEES_NOTHING = partial(shows, 1, A), partial(shows, 2, B), partial(shows, 0, "?")


def history(*rows):
    """Operations from rows of (began, ended, effect, ...)."""
    return [Operation(f"{n}", row[0], row[1], tuple(row[2:])) for n, row in enumerate(rows)]


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 1, PUT_A), (2, 3, SEES_A)],
        [(0, 9, PUT_A), (1, 2, SEES_NOTHING), (3, 4, SEES_A)],
        [(0, 9, PUT_A), (0, 9, PUT_B), (1, 2, SEES_B), (3, 4, SEES_A)],
        [(0, None, PUT_A, stays), (5, 6, SEES_NOTHING), (7, 8, SEES_A)],
        [(0, None, PUT_A, stays), (5, 6, SEES_NOTHING), (7, 8, SEES_NOTHING)],
        [(0, 1, PUT_A), (2, 3, partial(when, 1, PUT_B)), (4, 5, ends), (6, 7, SEES_NOTHING)],
    ],
)
def test_an_order_that_exists_is_found(rows):
    assert linear.linearizable(history(*rows), GONE) is True


@pytest.mark.parametrize(
    ("wrong", "rows"),
    [
        ("a stale read", [(0, 1, PUT_A), (2, 3, PUT_B), (4, 5, SEES_A)]),
        ("a future read", [(0, 1, SEES_A), (2, 3, PUT_A)]),
        ("two reads that go back", [(0, 9, PUT_A), (1, 2, SEES_A), (3, 4, SEES_NOTHING)]),
        ("an acknowledged write that is gone", [(0, 1, PUT_A), (2, 3, SEES_NOTHING)]),
        ("a lost compare", [(0, 1, PUT_A), (2, 3, PUT_B), (4, 5, partial(when, 1, partial(becomes, 3, A)))]),
        ("a refused write that is there", [(0, 1, SEES_NOTHING), (2, 3, SEES_A)]),
        ("an unknown one before it began", [(0, 1, SEES_A), (5, None, PUT_A, stays)]),
        ("an unknown one that comes and goes", [(0, None, PUT_A, stays), (1, 2, SEES_A), (3, 4, SEES_NOTHING)]),
        ("a deletion of nothing", [(0, 1, ends)]),
        ("two that both found the old one", [(0, 9, partial(when, 0, PUT_A)), (0, 9, partial(when, 0, PUT_B))]),
    ],
)
def test_an_order_that_does_not_exist_is_not_found(wrong, rows):
    assert linear.linearizable(history(*rows), GONE) is False, wrong


def test_what_is_not_known_is_settled_by_the_first_who_shows_it():
    assert linear.linearizable(history((0, 1, SEES_A), (2, 3, SEES_A)), ANY) is True
    assert linear.linearizable(history((0, 1, SEES_A), (2, 3, SEES_B)), ANY) is False
    one_more = partial(changes, lambda value: (value or 0) + 1, lambda new: new == 6, 9)
    assert one_more(State(1, msgpack.encode(5))) == State(9, msgpack.encode(6))
    assert one_more(State(1, msgpack.encode(4))) is None


def test_history_is_cut_only_where_nothing_is_in_flight(monkeypatch):
    monkeypatch.setattr(linear, "SLICE_OPERATIONS", 2)
    operations = history(*[(n, n + 0.5, stays) for n in range(4)], (0, 3.2, stays), (0.1, None, PUT_A, stays))
    slices = list(linear.cut("k", operations))
    assert [[operation.name for operation in each.operations] for each in slices] == [["0", "4", "5", "1", "2", "3"]]
    later = history((0.1, None, PUT_A, stays), *[(n, n + 0.5, stays) for n in range(1, 5)])
    slices = list(linear.cut("k", later))
    assert [[operation.name for operation in each.operations] for each in slices] == [["0", "1", "2"], ["0", "3", "4"]]


def test_a_search_without_end_is_given_up_and_counted(monkeypatch):
    monkeypatch.setattr(linear, "STEPS_MAX", 3)
    assert linear.linearizable(history((0, 1, PUT_A), (2, 3, PUT_B), (4, 5, SEES_A))) is None
    found = linear.search([done(0, Put(key="k", value=Raw(A)), 1.0 + n, 1.5 + n) for n in range(4)], [])
    assert (found.slices, found.undecided, found.words) == (0, 1, [])


def done(serial: int, request: Request[Any], began_s: float, ended_s: float, reply: object = None) -> Deed:
    deed = Deed(0, serial, request.method, Raw(msgpack.encode(request)), 0, began_s, ended_s)
    if reply is None:
        written = {"kind": "put", "key": "k", "version": 1, "create_revision": 1, "mod_revision": 1}
        reply = {"revision": 1, "written": written}
    deed.body = Raw(msgpack.encode(reply))
    return deed


# -- against real daemons --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bug", ["stale_read", "future_read", "blind_compare"])
def test_the_search_alone_catches_a_daemon_with_the_bug_of(bug):
    words: list[str] = []
    for seed in range(5):
        plan = Plan(cycles=1, writers=3, seed=seed, sabotage=bug, up_s=(0.3, 0.4))
        run(plan, on_round=lambda deeds, unknown: words.extend(linear.search(deeds, unknown).words))
        if words:
            return
    pytest.fail(f"{bug} was not seen")


def test_the_search_alone_catches_a_daemon_that_acknowledges_before_commit(home):
    """The judge sees it at once by the revision; here the same client asks for what it was told."""
    with ScriptedDaemon(home, command=sabotaged("acknowledge_before_commit")) as daemon:
        deeds: list[Deed] = []
        for serial in range(50):
            for request in (Put(key="k", value=Raw(msgpack.encode(serial)), request_id=f"r{serial}"), Get(key="k")):
                began = time.monotonic()
                with open_when_ready(daemon.socket) as link:
                    reply = link.call(request)
                deeds.append(done(len(deeds), request, began, time.monotonic(), reply))
                if isinstance(request, Put):
                    daemon.kill()
                    daemon.start()
            if linear.search(deeds, []).words:
                return
    pytest.fail("acknowledged writes were lost, and nothing was seen")
