"""`cosession audit`: its filters, what people see, and following until Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from cosession.cli.moments import moment
from cosession.errors import InvalidRequest

NOW = 1_795_000_000.0


def test_records_are_shown_newest_first_and_filtered(cli):
    cli.run("debug", "call", "session.register", '{"id": "s1", "name": "otter"}')
    cli.run("debug", "call", "put", '{"key": "k", "value": 1, "space": "$sessions"}')
    found = cli.ok("audit", "--json").json
    assert [each["operation"] for each in found["records"]][-2:] == ["session.register", "start"]
    assert (found["cut"], found["first"], found["more"]) == (0, 1, False)
    assert {each["kind"] for each in cli.ok("audit", "--kind", "denial", "--json").json["records"]} == {"denial"}
    named = cli.ok("audit", "--session", "otter", "--json").json["records"]
    assert {each["session"] for each in named} == {"s1"}
    assert cli.ok("audit", "--since", "1h", "--limit", "1", "--json").json["more"] is True
    table = cli.ok("audit").out.splitlines()
    assert table[0].split() == ["WHEN", "KIND", "OPERATION", "OUTCOME", "SESSION", "ABOUT"]
    assert "\x1b" not in "".join(table)


def test_what_is_wrong_is_said_with_the_nearest_word(cli):
    assert "did you mean denial?" in cli.refused(64, "audit", "--kind", "denil").err
    assert "2h" in cli.refused(64, "audit", "--since", "yesterdayish").err
    cli.refused(64, "audit", "--since", "1h", "--until", "2h")
    cli.refused(64, "audit", "--follow", "--until", "1h")
    assert cli.ok("audit", "--session", "nobody").out == ""


def test_following_prints_each_record_once_across_a_restart_and_ends_well(cli, daemon):
    process = cli.popen("audit", "--follow", "--json")
    assert json.loads(process.stdout.readline())["operation"] == "start"
    daemon.restart()
    found = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert [(each["id"], each["operation"]) for each in found] == [(2, "stop"), (3, "backup"), (4, "start")]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.stdout.close()
    process.stderr.close()


def test_following_says_that_the_store_began_anew_and_goes_on_with_its_first_record(cli, daemon):
    process = cli.popen("audit", "--follow", "--json")
    assert json.loads(process.stdout.readline())["operation"] == "start"
    assert daemon.stop() == 0  # which is recorded after the wait has ended, so nobody sees it
    shutil.move(daemon.home / "state", daemon.home / "earlier")
    daemon.start()
    found = json.loads(process.stdout.readline())
    assert (found["id"], found["operation"]) == (1, "start")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")
    assert b"the store began anew, and its audit with it" in err


@pytest.mark.parametrize(
    ("text", "found"),
    [("2h", NOW - 7_200), ("2h ago", NOW - 7_200), ("1.5 min", NOW - 90), ("3d", NOW - 259_200), ("@5", 5.0)],
)
def test_times_are_read_as_people_type_them(text, found):
    assert moment(text, NOW) == found
    assert moment("2026-11-24T10:00Z", NOW) == 1_795_514_400.0
    assert moment("2026-11-24", NOW) < moment("2026-11-24 14:30", NOW)


@pytest.mark.parametrize("text", ["", "h", "2 parsecs", "@", "@x", "25:00", "2026-13-01", "1e9h", "-2h"])
def test_other_times_are_refused(text):
    with pytest.raises(InvalidRequest, match="cannot read the time"):
        moment(text, NOW)
