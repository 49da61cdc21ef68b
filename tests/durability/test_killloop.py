"""The kill -9 loop in short, and that its judge sees what it is for: each seeded bug in the daemon is reported."""

from __future__ import annotations

import pytest

from durability.killloop import Plan, run

#: Seeded bug, and the kinds of violation of which at least one must be reported for it.
CAUGHT = {
    "acknowledge_before_commit": {"lost"},
    "drop_tail": {"lost", "start", "epoch"},  # a daemon that notices refuses, or begins another epoch: it shows too
    "watch_gap": {"gap"},
    "watch_again": {"duplicate"},
    "blind_compare": {"unguarded"},
    "stale_read": {"stale"},
    "early_expiry": {"early"},
    "torn_batch": {"lost"},
    "forget_requests": {"stranger"},
}
SEEDS = 5


def test_no_acknowledged_write_is_lost_and_no_watch_has_a_gap_however_often_the_daemon_is_killed():
    report = run(Plan(cycles=8, seed=20))
    assert report.violations == {}, report.words
    assert (report.lost, report.watch_gaps, report.watch_duplicates) == (0, 0, 0)
    assert report.cycles == 8
    # That it was put to the test.
    assert report.acknowledged > 300
    assert report.repeated_committed + report.repeated_anew > 0
    assert report.refused > 0
    assert report.watch_resumed >= 8


@pytest.mark.parametrize("bug", CAUGHT)
def test_the_judge_catches_a_daemon_that(bug):
    reports = []
    for seed in range(SEEDS):  # a kill at the right moment shows it; the first three nearly always have one
        reports.append(run(Plan(cycles=3, seed=seed, sabotage=bug)))
        if set(reports[-1].violations) & CAUGHT[bug]:
            return
    pytest.fail(f"{bug} went unnoticed: {[(report.violations, report.words) for report in reports]}")
