"""Single checks on grounds made for them: what they say where the ten broken installations do not lead."""

from __future__ import annotations

import fcntl
import json
import os
import plistlib
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cosession import spool as spooling
from cosession.doctor import (
    bundle,
    clock,
    engine,
    installation,
    log,
    places,
    processes,
    redaction,
    room,
    settings,
    spool,
    store,
    units,
)
from cosession.errors import CosessionError
from doctor.grounds import Held, ground
from server.daemons import eventually

STATUS = {"pid": 4711, "version": "0.1.0", "uptime_s": 5.0, "revision": 7, "epoch": "E"}

# -- installation ------------------------------------------------------------------------------------------------------


def test_another_command_on_path_is_named(home, tmp_path):
    other = tmp_path / "cosession"
    other.write_text("#!/opt/elsewhere/bin/python3\n")
    other.chmod(0o755)
    seen = installation.install(ground(home, env={"PATH": str(tmp_path)}))
    assert (seen.status, seen.evidence.endswith("is run by /opt/elsewhere/bin/python3")) == ("warning", True)
    other.write_text(f"#!{sys.executable}\n")
    assert installation.install(ground(home, env={"PATH": str(tmp_path)})).status == "ok"


def test_half_an_installation_is_named(home, monkeypatch):
    monkeypatch.setattr(installation, "PACKAGES", ("msgspec", "no_such_package"))
    assert "misses no_such_package" in installation.install(ground(home)).evidence


def test_a_script_with_a_long_shebang_is_read_as_pip_writes_it(tmp_path):
    script = tmp_path / "cosessiond"
    script.write_text("#!/bin/sh\n'''exec' \"/long path/python\" \"$0\" \"$@\"\n' '''\n")
    assert installation.interpreter_of(script) == "/long path/python"
    script.write_bytes(b"\x7fELF")
    assert installation.interpreter_of(script) == ""
    assert installation.interpreter_of(tmp_path / "gone") == ""


def test_versions_that_differ_and_sandboxes_are_told(home):
    assert installation.versions(ground(home, status={**STATUS, "version": "9.9"})).remedy.endswith("cosession restart")
    boxed = {"CODEX_SANDBOX": "1"}
    assert installation.sandbox(ground(home, env=boxed)).status == "warning"
    assert installation.sandbox(ground(home, env=boxed, status=STATUS)).status == "ok"


def test_the_configuration_is_told_with_its_lines_and_what_the_daemon_goes_by(home):
    (home / "config").mkdir(mode=0o700)
    path = home / "config" / "config.toml"
    path.write_text('[log]\nlevel = "debug"\n')
    assert "log.level = debug (2)" in settings.config(ground(home)).evidence
    for more, words in (
        ({"config_error": "cannot use it"}, "the daemon could not use it"),
        ({"config_file": "/other"}, "the daemon reads another, /other"),
        ({"restart_needed": ["limits.audit_s"]}, "changed at a restart only: limits.audit_s"),
    ):
        seen = settings.config(ground(home, status={**STATUS, "config_file": str(path), **more}))
        assert (seen.status, words in seen.evidence) == ("warning", True)


# -- places and processes ----------------------------------------------------------------------------------------------


def test_what_stands_in_the_place_of_a_socket_is_named(home):
    (home / "run").mkdir(mode=0o700)
    (home / "run" / "d.sock").touch(0o600)
    assert "is no socket" in places.socket(ground(home)).evidence
    (home / "run" / "d.sock").unlink()
    (home / "run").rmdir()
    (home / "run").symlink_to(home / "state")
    assert "is a link" in places.socket(ground(home)).evidence


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("latch", "failure", "read-only"),
        ("restore.journal", "warning", "a restore was broken off"),
        ("backups/01.db.partial", "warning", "never finished"),
    ],
)
def test_what_was_left_in_the_state_directory_is_named(home, name, status, words):
    here = ground(home)
    path = home / "state" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(0o600)
    seen = places.state(here)
    assert (seen.status, words in seen.evidence) == (status, True)


def test_the_spool_is_told_by_what_waits_was_refused_and_who_takes_it_in(home):
    here = ground(home)
    assert spool.spool(here) == engine.Seen("ok", f"nothing waits in {home}/spool")
    spooling.write("put", '{"key":"k","value":1,"request_id":"r"}', request_id="r", env=here.env)
    assert "1 calls wait" in spool.spool(here).evidence
    assert spool.spool(here).remedy == "do: cosession start"
    assert spool.spool(ground(home, status=STATUS)).status == "ok"
    elsewhere = {**STATUS, "spool": {"directory": "/elsewhere"}}
    assert "takes in /elsewhere" in spool.spool(ground(home, status=elsewhere)).evidence
    (home / "spool" / "refused").mkdir(mode=0o700)
    (home / "spool" / "refused" / "x.call").touch(0o600)
    assert "1 calls were refused" in spool.spool(ground(home, status=STATUS)).evidence
    wrong = {**STATUS, "spool": {"directory": str(home / "spool"), "error": "cannot use directory"}}
    assert spool.spool(ground(home, status=wrong)).status == "failure"
    (home / "spool").chmod(0o755)
    assert "lets others in" in spool.spool(here).evidence


def lock_file(home, **named):
    path = home / "state" / "daemon.lock"
    path.write_text(json.dumps({"pid": 4711, "boot_id": processes.boot_id(), "socket": "", **named}))
    return path


@pytest.mark.parametrize(
    ("held", "status", "expected", "words"),
    [
        (Held(4711), STATUS, "ok", "which is the daemon that answers"),
        (Held(4712), STATUS, "failure", "pid 4711 answers on the socket"),
        (Held(4711), None, "failure", "does not answer on /nowhere"),
        (Held(4711, act="restore"), None, "warning", "restore is at work on the store"),
        (None, None, "ok", "has ended in order"),
    ],
)
def test_the_lock_is_told_by_who_holds_it(home, held, status, expected, words):
    here = ground(home, held=held, status=status)
    lock_file(home)
    seen = processes.lock(here)
    assert (seen.status, words in seen.evidence) == (expected, True), seen


def test_a_lock_of_an_earlier_boot_one_that_is_torn_and_one_that_is_gone(home):
    here = ground(home)
    assert processes.lock(here).evidence == "free; nobody holds it"
    assert "was removed" in processes.lock(ground(home, status=STATUS)).evidence
    path = lock_file(home, boot_id="another")
    assert "earlier boot" in processes.lock(here).evidence
    path.write_text("{")
    assert processes.lock(here).status == "warning"


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_who_holds_the_lock_by_word_of_the_kernel(home):
    here = ground(home)
    path = lock_file(home)
    assert processes.kernel_holder(path) == 0
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not processes.kernel_holder(path):
            pytest.skip("this file system has other numbers in /proc/locks")
        assert processes.kernel_holder(path) == os.getpid()
        seen = processes.lock(here)
    assert seen.status == "failure"
    assert f"pid {os.getpid()} holds the lock" in seen.evidence


def test_an_orphan_of_this_place_is_named_and_a_child_of_a_session_is_not(home, monkeypatch):
    here = ground(home)
    script = "import os, sys, time\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    command = [sys.executable, "-c", script, "cosessiond", "verify", "--attached"]
    done = subprocess.Popen(command, env=dict(here.env), stdout=subprocess.PIPE, start_new_session=True)
    pid = int(done.stdout.readline())
    try:
        done.wait()
        assert processes.orphans(here).status == "ok", "it is too young to be judged"
        monkeypatch.setattr(processes, "_YOUNG_S", 0.0)
        monkeypatch.setattr(processes, "_command_of", lambda _: ["init"])
        seen = processes.orphans(here)
        assert (seen.status, seen.remedy) == ("warning", f"end them: kill {pid}")
        assert "verify --attached" in seen.evidence
        assert processes.orphans(ground(home / "elsewhere")).status == "ok", "it is of another place"
        assert processes.orphans(ground(home, held=Held(pid))).status == "ok", "who holds the lock is no orphan"
    finally:
        os.kill(pid, 9)
        done.stdout.close()
    eventually(lambda: processes.orphans(here).status == "ok", "it is gone")


# -- room, store, clock, log -------------------------------------------------------------------------------------------


class Full(room.Volume):
    def __init__(self, used=0.0, free_bytes=1 << 40, used_inodes=0.0):
        self.used, self.free_bytes, self.used_inodes = used, free_bytes, used_inodes


@pytest.mark.parametrize(
    ("volume", "told", "status"),
    [
        (Full(85.0), "enough", "ok"),
        (Full(85.1), "enough", "warning"),
        (Full(10.0, used_inodes=99.0), "enough", "warning"),
        (Full(99.0, free_bytes=1), "enough", "failure"),
        (Full(10.0), "low", "failure"),
    ],
)
def test_the_disk_warns_over_85_per_cent(home, monkeypatch, volume, told, status):
    monkeypatch.setattr(room, "Volume", lambda _: volume)
    assert room.disk(ground(home, status={**STATUS, "disk": told})).status == status


def test_limits_warn_over_80_per_cent(home):
    def seen(entries, used):
        usage = [{"project": "p", "entries": 1, "bytes": used}]
        config = {"limits.live_entries_max": 100, "limits.project_bytes_max": 100}
        return room.limits(ground(home, status={**STATUS, "entries": entries, "usage": usage, "config": config}))

    assert seen(80, 80).status == "ok"
    assert "entries at 81 %" in seen(81, 0).evidence
    assert "bytes of p at 90 %" in seen(0, 90).evidence
    with (home / "state" / "store.db").open("wb") as file:
        file.truncate(2_000_000_000)
    assert room.limits(ground(home)).status == "warning"


def backup(revision, age_s, state="valid"):
    return {"name": f"b{revision}", "state": state, "revision": revision, "time": time.time() - age_s}


@pytest.mark.parametrize(
    ("backups", "status", "words"),
    [
        ([backup(7, 1e9)], "ok", "the newest is b7"),
        ([backup(6, 60)], "ok", "the newest is b6"),
        ([backup(6, 8_000), backup(2, 9e9)], "warning", "1 revisions are in none"),
        ([backup(7, 1), backup(6, 1, "damaged")], "failure", "b6: damaged"),
        ([], "warning", "there is none"),
    ],
)
def test_backups_are_fresh_when_they_hold_all_or_are_young(home, backups, status, words):
    told = {**STATUS, "uptime_s": 1e6}
    seen = store.backups(ground(home, status=told, ask=lambda *_: {"backups": backups}))
    assert (seen.status, words in seen.evidence) == (status, True), seen


def test_a_clock_that_was_set_back_is_noticed(home):
    here = ground(home)
    assert clock.clock(here).status == "ok"
    (home / "state" / "mark").touch()
    os.utime(home / "state" / "mark", (time.time() + 4000, time.time() + 4000))
    assert "the clock was set back" in clock.clock(here).evidence


def lines(count, level="error", age_h=1.0):
    at = (datetime.now(UTC) - timedelta(hours=age_h)).isoformat()
    return "".join(json.dumps({"timestamp": at, "level": level, "event": "it broke"}) + "\n" for _ in range(count))


def test_over_ten_errors_of_the_last_day_are_a_warning(home):
    here = ground(home)
    (home / "log").mkdir()
    path = home / "log" / "daemon.log"
    path.write_text("no line\n[]\n" + lines(10) + lines(50, "warning") + lines(50, age_h=25))
    assert log.errors(here).status == "ok"
    path.with_name("daemon.log.1").write_text(lines(1))
    seen = log.errors(here)
    assert (seen.status, "11 x 'it broke'" in seen.evidence) == ("warning", True)
    assert len(log.tail(path, 500)) < 10, "only the end is read"


def test_without_a_file_the_journal_is_asked(home, tmp_path):
    journal = tmp_path / "journalctl"
    journal.write_text(f"#!/bin/sh\ncat <<'END'\n{lines(12)}END\n")
    journal.chmod(0o755)
    assert "12 errors" in log.errors(ground(home, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})).evidence


# -- units -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("/gone/bin/cosessiond", "its program /gone/bin/cosessiond is not there"),
        ("-/bin/sh -c true", ""),
        ("%h/tool", "may not be executed"),
        ("%h/good --flag", ""),
        ("cosessiond", ""),
        ("", "it starts nothing that can be read"),
        ("'never closed", "it starts nothing that can be read"),
    ],
)
def test_the_program_of_a_unit_is_looked_for(home, start, words):
    (home / "tool").touch()
    (home / "good").write_text("#!/bin/sh\n")
    (home / "good").chmod(0o755)
    unit = home / "x.service"
    unit.write_text(f"[Service]\n# ExecStart=/commented\nExecStart={start}\n")
    said = units.missing(unit, ground(home))
    assert words in said if words else said == ""


def test_the_program_of_an_agent_is_looked_for(home):
    plist = home / "x.plist"
    for content, words in (
        ({"ProgramArguments": ["/gone/python", "-m", "cosessiond"]}, "/gone/python is not there"),
        ({"Program": "/bin/sh"}, ""),
        ({"ProgramArguments": ["/bin/sh", "-c", 'exec "$HOME/.local/bin/cosessiond"']}, ".local/bin/cosessiond is not"),
    ):
        plist.write_bytes(plistlib.dumps(content))
        assert words in units.missing(plist, ground(home))
    plist.write_text("<plist")
    assert units.program(plist, ground(home)) == []


def test_a_manager_that_does_not_answer_leaves_what_the_files_say(home, tmp_path, monkeypatch):
    unit = home / ".config" / "systemd" / "user" / units.SYSTEMD
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/sh\n")
    manager = tmp_path / "systemctl"
    manager.write_text("#!/bin/sh\nsleep 600\n")
    manager.chmod(0o755)
    monkeypatch.setattr(units, "_ANSWER_S", 0.4)
    seen = units.units(ground(home, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}))
    assert seen.status == "warning"
    assert f"{unit}; cannot ask the service manager" in seen.evidence
    assert "gave no answer within 0.1 s" in seen.evidence


# -- what leaves the machine -------------------------------------------------------------------------------------------

SECRETS = {
    "sk-" + "a1B2" * 6: "an API key",
    "ghp_" + "x" * 36: "a GitHub key",
    "AKIA" + "ABCDEFGH12345678": "an AWS key",
    "xoxb-" + "123456-abcdef": "a Slack key",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc": "a JWT",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----": "a private key",
    "COSESSION_TOKEN=hunter2hunter2": "a variable",
    "Authorization: Bearer abcdefghi": "a header",
    '"password": "correct horse"': "JSON",
    "https://otter:hunter2@example.org/x": "a URL",
}


@pytest.mark.parametrize("text", SECRETS, ids=SECRETS.values())
def test_secrets_are_replaced_and_what_stands_around_them_stays(text):
    taken = redaction.Redaction(home="/home/otter", user="otter", host="holt", salt=b"s")
    found = taken.text(f"before {text} after")
    for secret in ("hunter2", "correct", "MIIE", "a1B2", "xxxx", "ABCDEFGH", "abcdef", "eyJ"):
        assert secret not in found
    assert found.startswith("before ")
    assert found.endswith(" after")
    assert taken.text(found) == found, "what was replaced stays as it is"


def test_names_are_replaced_and_the_same_stays_the_same():
    taken = redaction.Redaction(home="/home/otter", user="otter", host="holt", salt=b"s")
    assert taken.text("/home/otter/x of otter on holt, not otters") == "~/x of USER on HOST, not otters"
    data = taken.data({"usage": [{"project": "p"}], "deep": [{"purpose": "why"}, {"purpose": "why"}], "pid": 7})
    assert data["pid"] == 7
    assert data["usage"].startswith("<private:")
    assert data["deep"][0] == data["deep"][1] != {"purpose": "why"}
    assert redaction.Redaction(home="", user="", host="", salt=b"t").data({"purpose": "why"}) != data["deep"][0]


def test_a_bundle_is_never_written_over_anything_and_names_what_it_could_not_read(home, tmp_path):
    here = ground(home, env={"COSESSION_SOCKET": "/" + "x" * 200})
    manifest = bundle.write(here, [], tmp_path / "b.tar.gz")
    shutil.unpack_archive(tmp_path / "b.tar.gz", tmp_path, filter="data")
    assert "cannot be read: ConfigError" in (tmp_path / "b" / "environment.json").read_text()
    assert {each["name"] for each in manifest["files"]} >= {"checks.json", "status.json", "log.txt"}
    with pytest.raises(CosessionError, match="it is there already"):
        bundle.write(here, [], tmp_path / "b.tar.gz")
    with pytest.raises(CosessionError, match="name a file elsewhere"):
        bundle.write(here, [], tmp_path / "gone" / "b.tar.gz")
