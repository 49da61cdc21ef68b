"""The fault sweep in short: some calls that fail, and that a daemon which takes no notice of it is caught."""

from __future__ import annotations

import pytest

from durability.traced import STRACE
from faults.course import Course
from faults.points import Point

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
def test_a_daemon_is_caught_that_has(home, bug):
    came = Course(home, "new", Point("fdatasync", 20, "EIO"), requests=REQUESTS, bug=bug).run()
    assert came.injected
    assert any("cannot trust the store" in word for word in came.wrong), came
