"""`cosession doctor` and `cosession salvage`, with the daemon up and down, the store whole, damaged and gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from cosession import doctor
from cosession.errors import CosessionError


def checks(cli, *arguments, code=(0, 1)):
    """The checks by id; the exit code is by the worst of them (1: there may be no backup yet, which is a warning)."""
    result = cli.run("doctor", "--json", *arguments)
    assert result.code in code, result.out
    found = result.json["checks"]
    assert {frozenset(each) for each in found} == {frozenset(("id", "status", "evidence", "remedy", "duration_s"))}
    worst = max(("ok", "warning", "failure").index(each["status"]) for each in found)
    assert result.code == worst
    assert all(each["remedy"] for each in found if each["status"] != "ok"), found
    return {each["id"]: each for each in found}


def damage(daemon):
    with closing(sqlite3.connect(daemon.database)) as db, db:
        assert db.execute("UPDATE entries SET value = x'02' WHERE key = 'a'").rowcount == 1


def test_a_daemon_that_serves_a_whole_store(cli):
    cli.ok("put", "a", "1")
    found = checks(cli, "--deep")
    assert found["store"]["status"] == "ok"
    assert "rows were looked at" in found["store"]["evidence"]
    assert found["mark"]["status"] in ("ok", "warning"), "it was written just now, or is to come"
    assert "it answers" in cli.run("doctor").out


def test_a_daemon_that_is_down_and_a_store_that_is_damaged(cli, daemon):
    cli.ok("put", "a", "1")
    cli.ok("put", "b", "2")
    daemon.stop()
    assert checks(cli)["store"]["evidence"].startswith("whole at revision 2")
    damage(daemon)
    before = daemon.database.read_bytes()
    found = checks(cli, code=(2,))
    assert found["store"]["status"] == "failure"
    assert "does not match its hash" in found["store"]["evidence"]
    assert "cosession salvage" in found["store"]["remedy"]
    assert daemon.database.read_bytes() == before
    shown = cli.run("doctor")
    assert shown.code == 2
    assert "failure" in shown.out
    saved = cli.ok("salvage", "--json").json
    assert saved["lost_keys"] == [], "its version and the log have it as well"
    assert "2 entries" in cli.ok("salvage", "--install", "--yes").out
    assert checks(cli)["quarantine"]["evidence"].startswith("1 store")
    daemon.start()
    assert cli.ok("get", "a").out == "1\n"


def test_a_check_that_cannot_look_says_so_and_the_others_go_on():
    def fails(*_):
        raise CosessionError("cannot look: the disk sleeps; wake it up", code="io_error")

    ground = doctor.Ground(state="/nonexistent", status=None, ask=fails, act=fails, deep=False)
    found = {each["id"]: each for each in doctor.examine(ground)}
    assert (found["store"]["status"], found["store"]["remedy"]) == ("warning", "wake it up")
    assert found["daemon"]["status"] == "ok"
