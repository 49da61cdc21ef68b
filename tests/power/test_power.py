"""The power-loss explorer in short, and that it sees what a kill cannot: each seeded bug is reported."""

from __future__ import annotations

import itertools

import pytest

from durability.traced import STRACE
from power.explorer import Explorer
from power.recording import Plan, record

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed: no power cut was explored")


def wrong_in(recording, count=400):
    """What is found wrong, one by one: who asks for the first explores no further."""
    return itertools.chain.from_iterable(Explorer(recording, seed=1).explore(count))


def test_whatever_a_power_cut_leaves_every_acknowledged_batch_is_there_and_no_half_one(home):
    explorer = Explorer(record(Plan(revisions=30, runs=2), home), seed=1)
    assert [wrong for wrong in explorer.explore(400, served_in=200) if wrong] == []
    assert explorer.states > 200
    assert explorer.served > 0


@pytest.mark.parametrize("bug", ["synchronous_normal"])
def test_kills_do_not_show_and_power_cuts_do_that(home, bug):
    recording = record(Plan(revisions=30, runs=2, bug=bug), home)  # is judged after its kills, and nothing was lost
    assert any("lost" in word for word in wrong_in(recording))


def test_power_cuts_show_an_answer_before_the_commit(home):
    recording = record(Plan(revisions=30, runs=1, bug="acknowledge_before_commit"), home)
    assert any("lost" in word for word in wrong_in(recording))


def test_power_cuts_show_names_that_were_not_synced(home):
    recording = record(Plan(revisions=10, runs=1), home)
    files = {event.path for event in recording.events if event.kind in ("write", "create")}
    names_last_nowhere = [e for e in recording.events if e.kind not in ("begin", "synced") or e.path in files]
    assert any("epoch" in word for word in wrong_in(recording._replace(events=names_last_nowhere)))
