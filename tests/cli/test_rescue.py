"""`cosession rescue`, whatever has happened: the daemon dead, hung or well; the store whole, damaged or gone."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cli.conftest import Cli
from cli.test_backup_files import entries
from cli.test_life import is_gone
from cosessiond.maintenance import swap
from cosessiond.store.epochs import EPOCH_STEP
from process.restoring import NOW, REVISION_NOW, THEN, store_bytes, with_backup
from process.test_disk_full import fill, mounted


@pytest.fixture
def backup(home):
    """The name of a backup in a home whose store went on after it."""
    return with_backup(home)


def said(result, step):
    return next(each["said"] for each in result["steps"] if each["step"] == step)


def rescued(cli):
    return cli.ok("rescue", "--yes", "--json").json


def test_a_store_that_is_whole_is_kept_and_backed_up(spawning, backup):
    pid = spawning.ok("start", "--json").json["pid"]
    result = rescued(spawning)
    assert (result["action"], result["trouble"], result["quarantine"]) == ("keep", "", "")
    assert result["backup"].endswith("-rescue")
    assert said(result, "stopped") == f"pid {pid}, in order"
    assert is_gone(pid)
    assert spawning.ok("status", "--json").json["pid"] == result["pid"]
    assert entries(spawning) == NOW
    assert backup != result["backup"]


def test_a_dead_daemon_is_started_again(spawning, backup):
    result = rescued(spawning)
    assert (result["action"], said(result, "daemon")) == ("keep", "none is running")
    assert (result["started"], result["revision"] >= REVISION_NOW) == (True, True)
    assert entries(spawning) == NOW
    assert backup


def test_a_daemon_that_hangs_is_ended(spawning, backup):
    pid = spawning.ok("start", "--json").json["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert "does not answer" in spawning.ok("rescue", "--dry-run", "--json").json["steps"][0]["said"]
    result = rescued(spawning)
    assert said(result, "stopped").startswith(f"pid {pid}, by SIG")
    assert is_gone(pid)
    assert result["action"] == "keep"
    assert entries(spawning) == NOW
    assert backup


@pytest.mark.parametrize("how", ["missing", "empty", "garbage", "cut", "one bit"])
def test_the_newest_backup_takes_the_place_of_a_damaged_store(spawning, backup, home, how):
    store = home / "state" / "store.db"
    Path(f"{store}-wal").unlink()
    match how:
        case "missing":
            store.unlink()
        case "empty":
            store.write_bytes(b"")
        case "garbage":
            store.write_bytes(os.urandom(20_000))
        case "cut":
            os.truncate(store, store.stat().st_size // 2)
        case "one bit":
            content = bytearray(store.read_bytes())
            content[content.index(b"\xa4same")] ^= 1
            store.write_bytes(content)
    before = store_bytes(home / "state")
    if how == "one bit":  # the plan is made in one way for all
        planned = spawning.ok("rescue", "--dry-run", "--json").json
        assert (planned["action"], planned["from"]) == ("restore", backup)
        assert store_bytes(home / "state") == before
    result = rescued(spawning)
    assert (result["action"], result["from"], result["revision"]) == ("restore", backup, EPOCH_STEP)
    assert not before or store_bytes(Path(result["quarantine"])) == before
    assert entries(spawning) == THEN


def test_a_damaged_backup_is_passed_over(spawning, backup, home):
    spawning.ok("backup", "restore", backup, "--yes")
    newer = max((home / "state" / "backups").glob("*-restore.db"))
    newer.write_bytes(newer.read_bytes()[:-1] + b"x")
    (home / "state" / "store.db").write_bytes(b"x" * 5_000)
    result = rescued(spawning)
    assert [each["name"] for each in result["tried"]] == [newer.stem]
    assert result["from"] == backup
    assert newer.exists()


def test_where_nothing_is_whole_nothing_is_changed(spawning, backup, home):
    path = home / "state" / "backups" / f"{backup}.db"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (home / "state" / "store.db").write_bytes(b"x" * 5_000)
    (home / "state" / "store.db-wal").unlink()
    before = store_bytes(home / "state")
    error = spawning.run("rescue", "--yes", "--json").error
    assert (error["code"], [each["name"] for each in error["data"]["tried"]]) == ("damaged", [backup])
    assert "nothing can be salvaged" in error["message"]
    assert store_bytes(home / "state") == before
    spawning.refused(69, "status")


def test_without_a_whole_backup_what_can_be_salvaged_takes_the_place(spawning, backup, home):
    path = home / "state" / "backups" / f"{backup}.db"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    spawning.ok("start")
    spawning.ok("stop")
    for made in path.parent.glob("*-shutdown.*"):
        made.unlink()
    store = home / "state" / "store.db"
    content = store.read_bytes()
    store.write_bytes(content[:-4096] + bytes(4096))
    before = store_bytes(home / "state")
    assert "would     salvage" in spawning.ok("rescue", "--dry-run").out
    assert store_bytes(home / "state") == before
    result = rescued(spawning)
    assert (result["action"], [each["name"] for each in result["tried"]]) == ("salvage", [backup])
    assert store_bytes(Path(result["quarantine"])) == before
    assert len(entries(spawning)) == result["entries"]


def test_where_there_was_nothing_a_store_begins(spawning):
    assert spawning.ok("rescue", "--dry-run", "--json").json["action"] == "begin"
    assert rescued(spawning)["action"] == "begin"
    assert entries(spawning) == {}


def test_a_restore_that_was_broken_off_is_finished_first(spawning, backup, home):
    from process.test_restore import promised

    promised(home, backup)
    assert "without --dry-run" in spawning.run("rescue", "--dry-run", "--json").error["message"]
    assert rescued(spawning)["action"] == "keep"
    assert entries(spawning) == THEN
    assert not (home / "state" / swap.JOURNAL).exists()


def test_nobody_is_asked_who_cannot_answer(spawning, backup):
    pid = spawning.ok("start", "--json").json["pid"]
    assert "give --yes" in spawning.refused(64, "rescue").err
    assert spawning.ok("status", "--json").json["pid"] == pid
    assert "it answers" in spawning.ok("rescue", "--dry-run").out
    assert backup


@pytest.fixture
def full(home, tmp_path):
    """Commands on a file system with hardly any room left, and where that is."""
    place = home / "small"
    place.mkdir()
    if not mounted(place):
        pytest.skip("only root can mount a small file system")
    env = {name: value for name, value in os.environ.items() if name != "COSESSION_NO_SPAWN"}
    cli = Cli({**env, "COSESSION_HOME": str(place)}, str(tmp_path))
    try:
        with_backup(place)
        fill(place, leave=64 * 1024)
        yield cli, place
        cli.run("stop")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_and_a_damaged_store_change_nothing(full):
    cli, place = full
    (place / "state" / "store.db").write_bytes(b"x" * 5_000)
    before = store_bytes(place / "state")
    error = cli.run("rescue", "--yes", "--json").error
    assert error["code"] == "disk_full"
    assert "free space" in error["message"]
    assert store_bytes(place / "state") == before


def test_a_full_disk_and_a_whole_store_are_served_without_a_backup(full):
    cli, _ = full
    result = rescued(cli)
    assert (result["action"], result["backup"], result["started"]) == ("keep", "", True)
    assert entries(cli) == NOW
