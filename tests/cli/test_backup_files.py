"""`backup restore` and `backup export`, as a user runs them: with a daemon that serves, with none, on a terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cli.test_life import is_gone
from cosession.cli import main
from cosessiond.store.epochs import EPOCH_STEP
from process.restoring import NOW, REVISION_NOW, REVISION_THEN, THEN, kept, with_backup
from terminal import Terminal


@pytest.fixture
def backup(home):
    """The name of a backup in a home whose store went on after it."""
    return with_backup(home)


def entries(cli):
    return {each["key"]: each["value"] for each in cli.ok("ls", "--long", "--global", "--json").json["entries"]}


def test_a_restore_stops_the_daemon_and_starts_it_again(spawning, backup):
    pid = spawning.ok("start", "--json").json["pid"]
    result = spawning.ok("backup", "restore", backup, "--yes", "--json").json
    assert (result["restored"], result["started"]) == (True, True)
    assert result["lost"]["revisions"] == REVISION_NOW - REVISION_THEN
    assert is_gone(pid)
    status = spawning.ok("status", "--json").json
    assert status["pid"] != pid
    assert (status["epoch"], status["revision"]) == (result["epoch"], EPOCH_STEP)
    assert entries(spawning) == THEN
    again = spawning.ok("backup", "restore", "--latest", "--yes").out
    assert f"revision {REVISION_NOW}, " in again, "the safety backup, or the one of the stop, which has the same"
    assert "the store is at revision 2097152" in again
    assert entries(spawning) == NOW


def test_without_a_daemon_none_is_started(spawning, backup):
    result = spawning.ok("backup", "restore", backup, "--yes", "--json").json
    assert (result["restored"], result["started"]) == (True, False)
    spawning.refused(69, "status")


def test_the_plan_says_what_would_be_lost_and_nothing_is_done(spawning, backup):
    exact = spawning.ok("backup", "restore", backup, "--dry-run").out
    assert "3 revisions; 1 entry gone, 1 as they were then, 1 back" in exact
    pid = spawning.ok("start", "--json").json["pid"]
    told = spawning.ok("backup", "restore", backup, "--dry-run").out
    assert "3 revisions" in told
    assert f"revision {REVISION_THEN}, 3 entries" in told
    plan = spawning.ok("backup", "restore", "--latest", "--dry-run", "--json").json
    assert (plan["restored"], plan["now"]["revision"]) == (False, REVISION_NOW)
    assert spawning.ok("status", "--json").json["pid"] == pid
    assert entries(spawning) == NOW


def test_nobody_is_asked_who_cannot_answer(spawning, backup):
    pid = spawning.ok("start", "--json").json["pid"]
    assert "give --yes" in spawning.refused(64, "backup", "restore", backup).err
    assert spawning.run("backup", "restore", backup, "--json").error["code"] == "invalid_params"
    assert spawning.ok("status", "--json").json["pid"] == pid


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 77), ("", 77)])
def test_a_person_is_asked(spawning, backup, answer, code):
    command = spawning.popen_command("backup", "restore", backup)
    with Terminal(command, env=spawning.env, cwd=spawning.cwd, columns=200) as terminal:
        terminal.wait_for("restore it? [y/N]")
        terminal.type(f"{answer}\n")
        assert terminal.finish() == code, terminal.screen
    assert entries(spawning) == (THEN if code == 0 else NOW)


def test_what_cannot_be_restored_leaves_the_daemon_alone(spawning, backup, home):
    pid = spawning.ok("start", "--json").json["pid"]
    path = home / "state" / "backups" / f"{backup}.db"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "there is no other" in spawning.refused(78, "backup", "restore", backup, "--yes").err
    assert "see: cosession backup list" in spawning.refused(1, "backup", "restore", "/nowhere.db", "--yes").err
    assert "see: cosession backup list" in spawning.refused(64, "backup", "restore", "notes", "--yes").err
    spawning.refused(64, "backup", "restore", "--yes")
    spawning.refused(64, "backup", "restore", "--latest", backup, "--yes")
    spawning.refused(64, "backup", "restore", "--latest", "--yes", "--socket", "/tmp/x.sock")
    assert spawning.ok("status", "--json").json["pid"] == pid


def test_a_path_counts_from_the_working_directory(spawning, backup, home):
    brought = Path(spawning.cwd) / "brought.db"
    brought.write_bytes((home / "state" / "backups" / f"{backup}.db").read_bytes())
    result = spawning.ok("backup", "restore", "brought.db", "--yes", "--json").json
    assert result["backup"]["path"] == str(brought)
    assert entries(spawning) == THEN


# -- export ----------------------------------------------------------------------------------------------------------


def exported(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_export_is_one_object_a_line_in_order(nowhere, backup, home):
    lines = exported(nowhere.ok("backup", "export", backup).out)
    head, *found, end = lines
    assert (head["export"], head["revision"]) == (1, REVISION_THEN)
    assert [each["entry"]["key"] for each in found] == ["changed", "gone", "kept"]
    assert {each["entry"]["key"]: each["entry"]["value"] for each in found} == THEN
    assert (found[0]["entry"]["version"], found[0]["entry"]["mod_revision"]) == (2, 3)
    assert end == {"end": {"entries": 3, "versions": 0}}
    assert not list((home / "run").iterdir()), "no daemon is needed"


def test_an_export_has_the_history_on_request_and_the_same_bytes_each_time(nowhere, home):
    with_backup(home)
    now = kept(home)
    first, second = (nowhere.ok("backup", "export", now.name, "--history").out for _ in range(2))
    assert first == second
    found = [each["version"] for each in exported(first) if "version" in each]
    changed = [(each["kind"], each["value"], each["operation"]) for each in found if each["key"] == "changed"]
    assert changed == [("put", "before", "put"), ("put", "then", "put"), ("put", "now", "put")]
    assert [each["kind"] for each in found if each["key"] == "gone"] == ["put", "delete"]
    assert exported(first)[-1] == {"end": {"entries": 3, "versions": len(found)}}


def test_what_is_under_the_name_of_a_file_is_whole(nowhere, backup, home):
    out = Path(nowhere.cwd) / "out.jsonl"
    result = nowhere.ok("backup", "export", "--latest", "--out", "out.jsonl", "--json").json
    assert (result["entries"], result["file"]) == (3, str(out))
    assert out.read_text() == nowhere.ok("backup", "export", backup).out
    assert out.stat().st_mode & 0o777 == 0o600
    before = out.read_bytes()
    path = home / "state" / "backups" / f"{backup}.db"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    nowhere.refused(78, "backup", "export", backup, "--out", "out.jsonl")
    assert out.read_bytes() == before
    assert [each.name for each in Path(nowhere.cwd).iterdir()] == ["out.jsonl"]
    nowhere.refused(70, "backup", "export", "--latest", "--out", "/nowhere/x")


def test_a_reader_that_hangs_up_ends_it_quietly(nowhere, backup):
    reading, writing = os.pipe()
    os.close(reading)
    with nowhere.popen("backup", "export", backup, stdout=writing) as child:
        os.close(writing)
        _, err = child.communicate()
    assert (child.returncode, err) == (main.PIPE_CLOSED, b"")


def test_what_to_export_is_said_once(nowhere, backup):
    for words in ([], ["--live", backup], ["--latest", "--live"], ["--latest", backup], ["--latest", "--json"]):
        assert nowhere.run("backup", "export", *words).code == 64, words


def test_the_store_as_it_is_now_is_exported_by_a_backup_of_now(cli):
    cli.ok("put", "now", "1", "--global")
    _, found, end = exported(cli.ok("backup", "export", "--live").out)
    assert (found["entry"]["key"], found["entry"]["value"]) == ("now", 1)
    assert end == {"end": {"entries": 1, "versions": 0}}
