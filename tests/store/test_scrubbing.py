"""A pass of the scrub over a store that goes on: the sum of the live rows follows what is written meanwhile, and a row
that is missing is missed, whatever memory says.
"""

from __future__ import annotations

import random

import pytest

from cosessiond.store.engine import Scrubbed
from cosessiond.store.summing import Sum
from store.engines import Place, commit, delete, put

BEGIN = Scrubbed("log", 0, ("", "", ""), 0, ())
LIVE = Scrubbed("entries", 0, ("", "", ""), 0, ())
KEYS = [f"k{number:02}" for number in range(40)]
NOT_ALL = "cannot trust the store: the live entries are not all there, or not all as they were committed"


@pytest.fixture
def engine(tmp_path):
    place = Place("sqlite", tmp_path)
    yield place.open()
    place.close()


def write(engine, drawn):
    key = drawn.choice(KEYS)
    commit(engine, delete(key) if drawn.random() < 0.4 else put(key, drawn.random()))


def scrubbed(engine, drawn, rows_max=3):
    """A pass over the entries with batches and settling between its slices."""
    at, wrong = LIVE, []
    while at.table == "entries":
        at = engine.scrub(at, rows_max)
        wrong += at.wrong
        for _ in range(drawn.randrange(4)):
            write(engine, drawn)
        if drawn.random() < 0.7:
            engine.settle(drawn.choice((1, 5, 1_000)))
    return wrong


def scrubbed_quietly(engine):
    at, wrong = BEGIN, []
    while at.table:
        at = engine.scrub(at, 7)
        wrong += at.wrong
    return wrong


@pytest.mark.parametrize("seed", range(8))
def test_a_whole_store_has_its_state_hash_while_it_is_written(engine, seed):
    drawn = random.Random(seed)
    for _ in range(60):
        write(engine, drawn)
    assert scrubbed(engine, drawn) == []
    assert scrubbed(engine, drawn, rows_max=1) == []


def test_many_rows_that_are_about_to_go_are_passed_in_slices(engine):
    for key in KEYS:
        commit(engine, put(key))
    engine.settle(1_000)
    for key in KEYS[:-1]:
        commit(engine, delete(key))
    assert scrubbed(engine, random.Random(0), rows_max=2) == []


@pytest.mark.parametrize("bug", [lambda *_: 0, lambda *_: 1], ids=["nothing is followed", "wrongly"])
def test_a_sum_that_does_not_follow_what_is_written_is_caught(engine, monkeypatch, bug):
    """The seeded bug of the test itself: batches do reach rows that were passed."""
    monkeypatch.setattr(Sum, "change", bug)
    drawn = random.Random(1)
    for _ in range(60):
        write(engine, drawn)
    assert NOT_ALL in scrubbed(engine, drawn)


def lost(engine, key):
    """A live row is gone from the table, and memory has forgotten it too."""
    id = ("context", "p", key)
    assert engine._db.execute("DELETE FROM entries WHERE key = ?", [key]).rowcount == 1
    engine._live.adopt({id: None})


@pytest.mark.parametrize("key", ["k00", "k20", "k39"])
def test_a_live_row_that_memory_does_not_have_either_is_missed(engine, key):
    for each in KEYS:
        commit(engine, put(each))
    engine.settle(1_000)
    lost(engine, key)
    assert scrubbed_quietly(engine) == [NOT_ALL]


def test_a_row_that_is_lost_behind_the_pass_and_then_written_over_is_missed(engine):
    for each in KEYS:
        commit(engine, put(each))
    engine.settle(1_000)
    at = BEGIN
    while at.id < ("context", "p", "k20"):
        at = engine.scrub(at, 7)
    engine._db.execute("DELETE FROM entries WHERE key = 'k05'")
    commit(engine, put("k05", "again"))
    engine.settle(1_000)
    wrong = []
    while at.table:
        at = engine.scrub(at, 7)
        wrong += at.wrong
    assert NOT_ALL in wrong
    assert scrubbed_quietly(engine) == [], "now it is there again"


def test_a_pass_that_begins_elsewhere_or_is_given_up_says_nothing(engine):
    for each in KEYS:
        commit(engine, put(each))
    engine.settle(1_000)
    lost(engine, "k01")
    assert engine.scrub(Scrubbed("entries", 0, ("context", "p", "k02"), 0, ()), 1_000).wrong == ()
    half = engine.scrub(LIVE, 5)
    engine._sum._at = None
    while half.table == "entries":
        half = engine.scrub(half, 1_000)
        assert half.wrong == ()


def test_the_scrub_is_the_only_one_that_would_have_noticed(engine, monkeypatch):
    """The seeded bug of the scrub: without the sum nothing misses the row."""
    for each in KEYS:
        commit(engine, put(each))
    engine.settle(1_000)
    lost(engine, "k07")
    monkeypatch.setattr(Sum, "differs", lambda *_: False)
    assert scrubbed_quietly(engine) == []
