"""The kill -9 loop in short, and that its judge sees what it is for: each seeded bug in the daemon is reported."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from durability import linear
from durability.killloop import Plan, run
from durability.oracle import JUDGED, Found
from durability.sabotage import SABOTAGES


class Caught(NamedTuple):
    """What is reported of a seeded bug: `kind` at least once, `follows` perhaps, and nothing else.

    `kills`: how often the daemon is killed while it works, where the bug shows only then. `refused`: the daemon may
    have noticed by itself, by its mark, and have refused to start.
    """

    kind: str
    follows: frozenset[str] = frozenset()
    kills: int = 1
    refused: bool = False


CAUGHT = {
    # Who has seen what is gone cannot go on: the watch resumes in the future.
    "acknowledge_before_commit": Caught("lost", frozenset({"watch"}), kills=3),
    "drop_tail": Caught("lost", frozenset({"watch"}), refused=True),
    "torn_batch": Caught("lost"),
    "watch_gap": Caught("gap", kills=3),
    "watch_again": Caught("duplicate"),
    "past_retold": Caught("log"),
    "blind_compare": Caught("unguarded"),
    "commit_backwards": Caught("order"),
    "stale_read": Caught("stale"),
    "future_read": Caught("future"),
    "early_expiry": Caught("early"),
    # The first of the two commits is nobody's, so the versions that it made have no request id.
    "forget_requests": Caught("stranger", frozenset({"history"}), kills=3),
    "conflict_without_cause": Caught("refusal"),
    "another_version_answered": Caught("answer"),
    "version_left_out": Caught("history"),
}
SEEDS = 5


def test_no_acknowledged_write_is_lost_and_no_watch_has_a_gap_however_often_the_daemon_is_killed():
    searched: list[linear.Searched] = []
    plan = Plan(cycles=8, round_cycles=5, seed=20, client_kills=0.5, slow_watchers=1, window=2_000, backups=True)
    report = run(plan, on_round=lambda deeds, unknown: searched.append(linear.search(deeds, unknown)))
    assert report.violations == {}, report.words
    for found in searched:
        assert (found.words, found.undecided) == ([], 0), "the independent search agrees"
        assert found.slices > 10
    assert (report.lost, report.watch_gaps, report.watch_duplicates) == (0, 0, 0)
    assert report.cycles == 8
    # That it was put to the test.
    assert report.acknowledged > 300
    assert report.repeated_committed + report.repeated_anew > 0
    assert report.refused > 0
    assert report.clients_killed > 0
    assert report.rounds == len(searched) == 2
    assert report.watch_resumed >= 8


@pytest.mark.parametrize("bug", CAUGHT)
def test_the_judge_catches_a_daemon_that(bug):
    kind, follows, kills, refused = CAUGHT[bug]
    reports = []
    for seed in range(SEEDS):  # a kill at the right moment shows it; the first three nearly always have one
        reports.append(run(Plan(cycles=kills, writers=3, seed=seed, sabotage=bug)))
        found = set(reports[-1].violations)
        if kind in found and found <= {kind} | follows:
            return
        if refused and found == {"start"} and "ended with 78" in reports[-1].words[0]:
            return
    pytest.fail(f"{bug} was not seen as {kind}: {[(report.violations, report.words) for report in reports]}")


def test_every_kind_of_violation_is_shown_by_a_seeded_bug():
    assert {caught.kind for caught in CAUGHT.values()} == JUDGED
    assert set(CAUGHT) == set(SABOTAGES) - {"none"}


def test_a_kind_that_nobody_has_named_cannot_be_reported():
    with pytest.raises(AssertionError, match="no kind of violation"):
        Found().add("mystery", "what is not in the list is not required to be caught")
