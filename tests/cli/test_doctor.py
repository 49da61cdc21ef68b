"""`cosession doctor` and `cosession salvage`, with the daemon up, down and silent, the store whole, damaged and gone;
what `--fix` changes, and what a support bundle holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing

import pytest

import broken
import documents
from cosession.doctor import engine, mending, places, table
from cosession.errors import CosessionError
from process.starting import tree
from source_tree import ROOT


def checks(cli, *arguments, code=(0, 1)):
    """The checks by id; the exit code is by the worst of them (1: there may be no mark yet, which is a warning)."""
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


def test_a_daemon_that_serves_a_whole_store(cli, daemon, tmp_path):
    cli.ok("put", "secret/plan", '"never to be sent"')
    found = checks(cli, "--deep")
    assert list(found) == [check.id for check in table.DOCTOR]
    assert found["store"]["status"] == "ok"
    assert "rows were looked at" in found["store"]["evidence"]
    assert f"held by pid {daemon.pid}" in found["lock"]["evidence"]
    assert {found[id]["status"] for id in ("install", "socket", "state", "limits", "mark", "backups")} == {"ok"}
    shown = cli.run("doctor", "--support-bundle", str(tmp_path) + "/", env={"COSESSION_TOKEN": "s3cr3t-of-mine"}).out
    assert "it answers" in shown
    assert "packed 8 files" in shown
    look_into_bundle(next(tmp_path.glob("*.tar.gz")))
    page = cli.run("checklist", "--json")
    assert [each["id"] for each in page.json["checks"]] == [
        *("health", "services", "backups", "disk", "errors", "sessions"),
    ]
    assert page.json["checks"][5]["evidence"] == "0 alive, nobody waits"
    assert "sessions" in cli.run("checklist").out


def look_into_bundle(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        parts = {name.split("/", 1)[1]: archive.extractfile(name).read() for name in archive.getnames()}
    manifest = json.loads(parts.pop("manifest.json"))
    assert {each["name"]: (each["size_bytes"], each["sha256"]) for each in manifest["files"]} == {
        name: (len(part), hashlib.sha256(part).hexdigest()) for name, part in parts.items()
    }
    everything = b"".join(parts.values())
    assert b"never to be sent" not in everything
    assert b"secret/plan" not in everything
    assert b"s3cr3t-of-mine" not in everything
    assert manifest["replaced"]["private"] >= 1
    assert json.loads(parts["checks.json"])["checks"]
    assert b"store.db" in parts["files.txt"]


def test_a_daemon_that_is_down_and_a_store_that_is_damaged(cli, daemon):
    cli.ok("put", "a", "1")
    cli.ok("put", "b", "2")
    daemon.stop()
    before = tree(daemon.home, ignored=["the times of directories"])
    found = checks(cli)
    assert found["store"]["evidence"].startswith("whole at revision 2")
    assert "has ended in order" in found["lock"]["evidence"]
    assert "1, each verified" in found["backups"]["evidence"]
    assert tree(daemon.home, ignored=["the times of directories"]) == before, "doctor changes nothing"
    damage(daemon)
    before = daemon.database.read_bytes()
    found = checks(cli, code=(2,))
    assert found["store"]["status"] == "failure"
    assert "does not match its hash" in found["store"]["evidence"]
    assert "cosession salvage" in found["store"]["remedy"]
    assert daemon.database.read_bytes() == before
    saved = cli.ok("salvage", "--json").json
    assert saved["lost_keys"] == [], "its version and the log have it as well"
    assert "2 entries" in cli.ok("salvage", "--install", "--yes").out
    assert checks(cli)["quarantine"]["evidence"].startswith("1 store")
    (backup,) = (daemon.home / "state" / "backups").glob("*-shutdown.db")
    with backup.open("r+b") as file:
        file.truncate(backup.stat().st_size - 1)
    assert "damaged" in checks(cli, code=(2,))["backups"]["evidence"]
    daemon.start()
    assert cli.ok("get", "a").out == "1\n"


def test_a_daemon_that_does_not_answer_is_named_and_the_rest_is_looked_at(cli, daemon):
    daemon.signal(signal.SIGSTOP)
    try:
        found = checks(cli, "--timeout", "0.3", code=(2,))
    finally:
        daemon.signal(signal.SIGCONT)
    assert found["daemon"]["status"] == "failure"
    assert f"pid {daemon.pid}, which is suspended" in found["daemon"]["evidence"]
    assert found["daemon"]["remedy"] == f"run: kill -CONT {daemon.pid}"
    assert "not looked at" in found["store"]["evidence"]
    assert found["disk"]["status"] == "ok"


# -- ten broken installations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", broken.BROKEN)
def test_what_is_broken_is_named_with_cause_and_remedy_and_nothing_is_changed(name):
    made = broken.BROKEN[name]
    if made.needs_root and os.geteuid():
        pytest.skip("only root can break it so")
    with broken.broken(name) as (home, env):
        before = tree(home, ignored=["run/d.sock"])
        code, found = broken.examined(env)
        assert tree(home, ignored=["run/d.sock"]) == before
    seen = found[made.check]
    assert seen["status"] == made.status
    assert made.cause in seen["evidence"]
    assert made.remedy in seen["remedy"]
    assert code == engine.EXIT[made.status]


def test_the_table_of_the_readme_has_the_ten():
    rows = documents.tables((ROOT / "README.md").read_text(encoding="utf-8"))["broken"]
    shown = {row[0]: tuple(row[1].replace("`", "").split()) for row in rows}
    assert shown == {name: (made.check, made.status) for name, made in broken.BROKEN.items()}


# -- what is mended ----------------------------------------------------------------------------------------------------


def test_fix_mends_what_is_safe_after_a_plan_and_keeps_a_record(nowhere, home):
    broken.stale_socket(home)
    state = broken.wrong_mode(home) or home / "state"
    (state / "backups").mkdir(mode=0o700)
    partial = state / "backups" / "01ABC.db.partial"
    partial.write_bytes(b"half")
    partial.chmod(0o644)
    before = tree(home, ignored=["run/d.sock"])
    plan = nowhere.run("doctor", "--fix", "--dry-run").out
    plan = plan[plan.index("would do") :]
    assert plan.index(f"chmod 700 {state}") < plan.index(f"remove {home}/run/d.sock")
    assert nowhere.run("doctor", "--fix").err.startswith("cosession: cannot run `cosession doctor`: it asks")
    assert nowhere.run("doctor", "--dry-run").code == 64
    assert tree(home, ignored=["run/d.sock"]) == before
    assert (home / "run" / "d.sock").is_socket()

    result = nowhere.run("doctor", "--fix", "--yes", "--json").json
    assert [each["kind"] for each in result["fixes"]] == ["chmod", "socket", "partial"]
    assert result["mended"]["left"] == []
    assert {each["id"] for each in result["checks"] if each["status"] != "ok"} == set()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert not (home / "run" / "d.sock").exists()
    assert not partial.exists()
    record = json.loads(next((state / "mended").glob("*/record.json")).read_text())
    assert [each["was"]["mode"] for each in record["changes"]] == ["0755", "0600", "0644"]
    assert "nothing can be mended" in nowhere.run("doctor", "--fix").out


def test_fix_takes_nothing_from_a_daemon_that_has_started_meanwhile(cli, daemon):
    ground = engine.Ground(env=cli.env, ask=fails, act=fails, living=lambda: None)
    left = daemon.home / "state" / "backups" / "01ABC.db.partial"
    left.touch(0o600)
    (change,) = mending.plan(ground)
    told = mending.mend(ground, [change])
    assert told["done"] == []
    assert told["left"] == [f"{change}; a daemon has started meanwhile"]
    assert left.exists()


def test_without_room_for_a_record_nothing_is_mended(home):
    broken.wrong_mode(home)
    (home / "state" / "mended").write_text("in the way")
    ground = engine.Ground(env={"COSESSION_HOME": str(home)}, ask=fails, act=fails, living=lambda: None)
    with pytest.raises(CosessionError, match="cannot mend anything"):
        mending.mend(ground, mending.plan(ground))
    assert stat.S_IMODE((home / "state").stat().st_mode) == 0o755


# -- the engine --------------------------------------------------------------------------------------------------------


def fails(*_):
    raise CosessionError("cannot look: the disk sleeps; wake it up", code="io_error")


def hangs(_):
    threading.Event().wait()


def breaks(_):
    raise ValueError("of all things")


def test_a_check_that_cannot_look_says_so_and_the_others_go_on(home):
    (home / "state").mkdir()
    (home / "state" / "store.db").touch()
    ground = engine.Ground(env={"COSESSION_HOME": str(home)}, ask=fails, act=fails, living=lambda: None)
    rows = (
        engine.Check("hangs", f"{__name__}:hangs", 0.05),
        engine.Check("breaks", f"{__name__}:breaks"),
        engine.Check("absent", "cosession.doctor.absent:run"),
        *(check for check in table.DOCTOR if check.id in ("store", "daemon")),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            __import__("sys").modules, __name__, __import__("types").SimpleNamespace(hangs=hangs, breaks=breaks)
        )
        found = {each["id"]: each for each in engine.examine(ground, rows)}
    assert "not over within 0.05 s" in found["hangs"]["evidence"]
    assert "ValueError: of all things" in found["breaks"]["evidence"]
    assert "No module named" in found["absent"]["evidence"]
    assert (found["store"]["status"], found["store"]["remedy"]) == ("warning", "wake it up")
    assert found["daemon"]["status"] == "ok"
    assert engine.totals(found.values()) == {"passed": 1, "failed": 0, "warnings": 4, "critical": 0}
    assert engine.worst(found.values()) == "warning"


def test_a_seeded_blindness_is_seen(monkeypatch):
    """A doctor that looked at no modes would fail the test of the ten."""
    monkeypatch.setattr(places, "_OTHERS", 0)
    with broken.broken("wrong mode") as (_, env):
        ground = engine.Ground(env=env, ask=fails, act=fails, living=lambda: None)
        assert places.state(ground).status == engine.OK
