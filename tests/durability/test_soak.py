"""The soak in short: a daemon at full write speed keeps within its bounds, and the judge sees one that does not."""

from __future__ import annotations

from durability import soak
from durability.soak import Plan, Sample

LOOK = Sample(at_s=1.0, revision=10, database=1_000, used=900, wal=500, resident=1, surplus=0)


def test_a_daemon_at_full_write_speed_stays_within_its_bounds():
    report = soak.run(Plan(seconds=6.0, window_revisions=200, window_bytes=1024 * 1024, request_ids=1))
    assert report.broken == []
    assert {role["role"] for role in report.roles} == set(soak.ROLES)
    assert report.samples[-1].revision > 400, "the window was written through"
    table = soak.render(report)
    assert "bound of the database" in table
    assert report.samples[-1].stall_ms >= report.samples[-1].stall_p99_ms > 0
    assert "longest commit stall" in table
    assert "broken" not in table


def test_what_is_too_large_or_too_far_behind_or_refused_is_said():
    calm = {"role": "small", "refused": {}}
    assert soak._broken([LOOK], [calm], bound=1_000) == []
    assert "grew" in soak._broken([LOOK, LOOK._replace(database=1_001), LOOK], [calm], bound=1_000)[0]
    assert "behind" in soak._broken([LOOK._replace(surplus=10_000)], [calm], bound=1_000)[0]
    full = {"role": "wide", "refused": {"store_full": 2}}
    assert soak._broken([LOOK], [calm, full], bound=1_000) == ["wide was refused: {'store_full': 2}"]
