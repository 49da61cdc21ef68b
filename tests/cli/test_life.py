"""start, stop, restart, status, sockname, and the daemon that starts by itself."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_sockname_needs_no_daemon(nowhere, home):
    assert nowhere.ok("sockname").out == f"{home}/run/d.sock\n"
    assert nowhere.ok("sockname", "--json").json == {"socket": f"{home}/run/d.sock"}


def test_start_status_stop(spawning, home):
    started = spawning.ok("start", "--json").json
    assert started["started"] is True
    assert started["socket"] == f"{home}/run/d.sock"
    assert psutil.Process(started["pid"]).is_running()
    assert spawning.ok("start", "--json").json == {**started, "started": False}
    assert spawning.ok("start").out == f"already running: pid {started['pid']}, socket {home}/run/d.sock\n"
    status = spawning.ok("status", "--json").json
    assert (status["pid"], status["socket"], status["version"]) == (
        started["pid"],
        started["socket"],
        started["version"],
    )
    assert spawning.ok("stop", "--json").json == {"stopped": True, "pid": started["pid"]}
    assert is_gone(started["pid"]), "stop returns when the process has gone"
    assert spawning.ok("stop", "--json").json == {"stopped": False, "pid": 0}
    assert "no daemon was running" in spawning.ok("stop").out


def test_the_first_command_starts_the_daemon(spawning):
    assert spawning.ok("put", "k", "1").out == "1\n"
    assert spawning.ok("get", "k").out == "1\n"


@pytest.mark.parametrize("arguments", [("status",), ("debug", "ping"), ("debug", "call", "ping"), ("stop", "--json")])
def test_looking_starts_nothing(spawning, arguments):
    spawning.run(*arguments)
    assert "none is running" in spawning.refused(69, "status").err


def test_no_spawn_forbids_it(spawning):
    spawning.refused(69, "get", "k", "--no-spawn")
    spawning.refused(69, "watch", "--no-spawn")
    spawning.refused(64, "start", "--no-spawn")
    assert spawning.run("get", "k", env={"COSESSION_NO_SPAWN": "1"}).code == 69
    spawning.refused(69, "status")


def test_stop_latches_automatic_starts_and_start_clears_it(spawning, home):
    spawning.ok("start")
    spawning.ok("stop")
    latch = home / "state" / "stopped"
    assert latch.stat().st_mode & 0o777 == 0o600
    assert "stopped on purpose" in spawning.refused(69, "put", "k", "1").err
    long_ago = time.time() - 3600
    os.utime(latch, (long_ago, long_ago))
    spawning.ok("put", "k", "1")
    spawning.ok("stop")
    spawning.ok("start")
    assert not latch.exists()
    spawning.ok("put", "k", "2")


def test_an_explicit_start_goes_before_the_variable(spawning):
    assert spawning.ok("start", "--json", env={"COSESSION_NO_SPAWN": "1"}).json["started"] is True


def test_restart_keeps_what_was_written(spawning):
    first = spawning.ok("restart", "--json").json
    spawning.ok("put", "k", "1")
    second = spawning.ok("restart", "--json").json
    assert second["pid"] != first["pid"]
    assert second["started"] is True
    assert is_gone(first["pid"])
    assert spawning.ok("get", "k").out == "1\n"


def test_stop_finds_the_daemon_wherever_it_listens(spawning, home):
    elsewhere = str(home / "other.sock")
    spawning.env["COSESSION_SOCKET"] = elsewhere
    pid = spawning.ok("start", "--json").json["pid"]
    del spawning.env["COSESSION_SOCKET"]
    assert spawning.ok("debug", "ping", "--json").json["pid"] == pid, "the lock names the socket"
    assert spawning.ok("stop", "--json").json == {"stopped": True, "pid": pid}


def test_a_socket_of_the_variable_is_not_replaced_by_another(cli, daemon):
    cli.env["COSESSION_SOCKET"] = "/nonexistent/x"
    for words in (("status",), ("get", "k"), ("put", "k", "1"), ("stop",)):
        err = cli.refused(69, *words).err
        assert f"the running daemon listens on {daemon.socket}; unset COSESSION_SOCKET" in err


def test_a_start_that_fails_says_why(spawning, home):
    (home / "state").mkdir(mode=0o755)
    (home / "state").chmod(0o755)
    err = spawning.refused(78, "start").err
    assert "cannot start the daemon: it cannot use directory" in err
    assert err.endswith(f"; run: chmod 700 {home}/state\n"), "the daemon's remedy, and no other after it"
    assert spawning.run("get", "k", "--json").error["code"] == "config"
    (home / "state").chmod(0o700)


def test_start_says_whose_process_to_end_when_the_daemon_has_lost_its_socket(spawning, home):
    pid = spawning.ok("start", "--json").json["pid"]
    (home / "run" / "d.sock").unlink()
    for timeout_s in ("2", "6", "30"):  # as long as it takes a start to be refused
        err = spawning.refused(69, "start", "--timeout", timeout_s).err
        if "already running" in err:
            break
    assert f"already running (pid {pid}," in err
    assert err.endswith(f"run: kill {pid}, then: cosession start\n")
    os.kill(pid, signal.SIGTERM)  # as it says
    assert spawning.ok("start", "--json").json["pid"] != pid, "which an earlier attempt may have begun, late"


def test_status_for_people_and_programs(cli, daemon):
    cli.ok("put", "k", '"value"')
    lines = cli.ok("status").out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["daemon", "socket", "state", "revision", "entries", "database", "sessions", "clients"]
    assert f"pid {daemon.pid}" in lines[0]
    assert str(daemon.socket) in lines[1]
    status = cli.ok("status", "--json").json
    assert status["pid"] == daemon.pid
    assert status["socket"] == str(daemon.socket)
    assert status["revision"] == 1
    assert status["sessions"] == 0
    assert status["entries"] == 1


def test_commands_survive_a_daemon_that_is_killed(cli, daemon):
    cli.ok("put", "k", "1")
    daemon.kill()
    cli.refused(69, "get", "k")
    daemon.start()
    assert cli.ok("get", "k").out == "1\n"
