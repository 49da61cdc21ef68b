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


def test_whatever_a_power_cut_leaves_what_was_answered_is_there_and_a_backup_is_whole_or_not_there(home):
    explorer = Explorer(record(Plan(revisions=25, runs=2, acts=True), home), seed=1)
    assert [wrong for wrong in explorer.explore(300, served_in=60) if wrong] == []
    assert explorer.states > 150, "each counts once"
    assert explorer.served > 1


@pytest.mark.parametrize("bug", ["synchronous_normal"])
def test_kills_do_not_show_and_power_cuts_do_that(home, bug):
    recording = record(Plan(revisions=15, runs=2, bug=bug), home)  # is judged after its kills, and nothing was lost
    assert any("lost" in word for word in wrong_in(recording))


@pytest.mark.parametrize(("bug", "word"), [("acknowledge_before_commit", "lost"), ("mark_ahead", "refused")])
def test_power_cuts_show_a_daemon_with(home, bug, word):
    recording = record(Plan(revisions=20, runs=1, bug=bug), home)
    assert any(word in each for each in wrong_in(recording))


@pytest.mark.parametrize("bug", ["names_unsynced", "copies_unsynced"])
def test_power_cuts_show_backups_with(home, bug):
    recording = record(Plan(revisions=5, runs=1, bug=bug, acts=True), home)
    assert any("backup:" in each for each in wrong_in(recording))


def test_power_cuts_show_names_that_were_not_synced(home):
    recording = record(Plan(revisions=10, runs=1), home)
    files = {event.path for event in recording.events if event.kind in ("write", "create")}
    names_last_nowhere = [e for e in recording.events if e.kind not in ("begin", "synced") or e.path in files]
    assert any("epoch" in word for word in wrong_in(recording._replace(events=names_last_nowhere)))
