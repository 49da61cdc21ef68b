"""revert, purge and `--at` against a real daemon; and how times are written."""

from __future__ import annotations

import time
from math import ceil

import pytest

from cosession.cli.moment import seconds_of

NOW = time.mktime((2026, 11, 24, 15, 30, 0, 0, 0, -1))


def local(*parts: int) -> float:
    return time.mktime((*parts, *[0] * (6 - len(parts)), 0, 0, -1))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s ago", NOW - 90),
        ("2h ago", NOW - 7200),
        ("2 h ago", NOW - 7200),
        ("15min ago", NOW - 900),
        ("3d ago", NOW - 3 * 86400),
        ("0s ago", NOW),
        ("14:00", local(2026, 11, 24, 14)),
        ("14:00:05", local(2026, 11, 24, 14, 0, 5)),
        ("yesterday 14:00", local(2026, 11, 23, 14)),
        ("2026-11-01", local(2026, 11, 1)),
        ("2026-11-01 08:15", local(2026, 11, 1, 8, 15)),
        ("2026-11-01T08:15:30", local(2026, 11, 1, 8, 15, 30)),
    ],
)
def test_a_time_is_read_exactly(text, moment):
    assert seconds_of(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "", "ago", "h ago", "2 ago", "2w ago", "-2h ago", "1.5h ago", "2h", "yesterday", "tomorrow 14:00", "24:00",
        "14:60", "1:00", "14", "14:00:60", "2026-02-30", "2026-13-01", "2026-11-24 25:00", "26-11-24", "2026-11-24Z",
        "2026-11-24 14:00 CET", "\u0662h ago", "1969-12-31", "2h  3min ago", "9" * 25 + "h ago",
    ],
)  # fmt: skip
def test_what_is_no_time_is_not_guessed_at(text):
    assert seconds_of(text, NOW) is None


def test_get_and_ls_read_at_a_time(cli):
    cli.ok("put", "k/a", "1")
    between_s = ceil(time.time())
    time.sleep(between_s + 1.05 - time.time())  # whichever part of that second is meant, the next write is after it
    cli.ok("put", "k/a", "2")
    cli.ok("put", "k/b", "3")
    then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(between_s))
    assert cli.ok("get", "k/a", "--at", "1").out == "1\n"
    assert cli.ok("get", "k/a", "--at", "0s ago").out == "2\n"
    assert cli.ok("get", "k/a", "--at", then).out == "1\n"
    assert cli.ok("ls", "k/", "--at", then).out == "k/a\n"
    assert cli.ok("ls", "k/", "--at", "2").out == "k/a\n"
    cli.refused(4, "get", "k/a", "--at", "2000-01-01")
    assert "2h ago" in cli.refused(64, "get", "k/a", "--at", "half past nine").err


def test_revert_prints_what_it_did_or_would_do(cli):
    cli.ok("put", "p/a", "1")
    cli.ok("put", "p/same", "1")
    cli.ok("put", "p/a", "2")
    cli.ok("put", "p/b", "2")
    planned = cli.ok("revert", "p/", "--to", "2", "--dry-run").out
    assert planned == "back to revision 2: 2 keys would change, 1 unchanged\n  put     p/a\n  delete  p/b\n"
    assert cli.ok("get", "p/a").out == "2\n"
    done = cli.ok("revert", "p/", "--to", "2").out
    assert done == planned.replace("would change", "at revision 5")
    assert cli.ok("ls", "p/").out == "p/a\np/same\n"
    assert cli.ok("revert", "p/a", "--to", "0s ago").out == "nothing to revert: 1 key as of revision 5\n"
    assert cli.ok("revert", "p", "--to", "4", "--prefix", "--json").json["unchanged"] == 1
    assert "revert" in cli.ok("history", "p/a").out
    cli.refused(64, "revert", "p/a")
    cli.refused(3, "revert", "p/a", "--to", "1", "--expect", "1")
    cli.refused(65, "revert", "p/a", "--to", "1000")


def test_purge_says_what_is_gone_and_what_it_cannot_know(cli):
    cli.ok("put", "k", "hidden")
    cli.ok("put", "k", "hidden too")
    done = cli.ok("purge", "k", "--before", "2")
    assert done.out == "1 value purged\n"
    done = cli.ok("purge", "k")
    assert done.out.startswith("deleted at revision 3\n1 value purged\n")
    assert "copies that were made outside" in done.err
    history = cli.ok("history", "k").out
    assert history.count("(purged)") == 2
    assert "hidden" not in history
    assert cli.ok("purge", "k", "--json").json["purged"] == 0
    assert "was purged" in cli.refused(4, "get", "k", "--at", "1").err
