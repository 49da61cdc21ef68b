"""The fault sweep in short: some calls that fail, and that a daemon which takes no notice of it is caught."""

from __future__ import annotations

import pytest

from durability.traced import STRACE
from faults.course import Course
from faults.points import Point
from harness import private_home

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed: no system call was made to fail")
REQUESTS = 15


@pytest.mark.parametrize(
    ("scene", "point", "end"),
    [
        ("new", Point("fdatasync", 20, "EIO"), 70),
        ("new", Point("fdatasync", 20, "KILL"), -9),
        ("killed", Point("pwrite64", 20, "ENOSPC"), 0),
    ],
    ids=str,
)
def test_what_was_answered_is_there_whatever_fails(home, scene, point, end):
    came = Course(home, scene, point, requests=REQUESTS).run()
    assert came.wrong == []
    assert came.injected
    assert came.end == end


@pytest.mark.parametrize("bug", ["failed_commits_ignored"])
def test_a_daemon_is_caught_that_has(bug):
    for number in (20, 23, 26, 29, 32):  # the failed sync may have been one of upkeep, which the bug does not touch
        with private_home() as another:
            came = Course(another, "new", Point("fdatasync", number, "EIO"), requests=REQUESTS, bug=bug).run()
        if any("cannot trust the store" in word for word in came.wrong):
            assert came.injected
            return
    pytest.fail(f"not seen: {came}")
