"""start, stop, restart, status, sockname, and the daemon that starts by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from cosession.cli import life
from cosession.errors import Unreachable


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


def test_a_restart_that_could_not_start_again_stops_nothing(spawning):
    pid = spawning.ok("start", "--json").json["pid"]
    file = Path(spawning.ok("config", "path").out.strip())
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text("[log]\nlevel = 7\n")
    file.chmod(0o600)
    assert f"cannot use {file}:2: " in spawning.refused(78, "restart").err
    assert spawning.ok("debug", "ping", "--json").json["pid"] == pid
    file.unlink()
    assert spawning.ok("restart", "--json").json["pid"] != pid


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
    assert names == [
        "daemon",
        "socket",
        "state",
        "revision",
        "entries",
        "database",
        "disk",
        "backups",
        "sessions",
        "audit",
        "clients",
        "conflicts",
        "commits",
        "projects",
    ]
    assert f"pid {daemon.pid}" in lines[0]
    assert str(daemon.socket) in lines[1]
    status = cli.ok("status", "--json").json
    assert status["pid"] == daemon.pid
    assert status["socket"] == str(daemon.socket)
    assert status["revision"] == 1
    assert status["sessions"] == 0
    assert status["entries"] == 1


@pytest.mark.usefixtures("daemon")
def test_status_names_the_projects_that_have_most_aligned(cli):
    for project, value in (("/srv/small", 1), ("/srv/large", "x" * 20_000), ("middle", "x" * 500)):
        cli.ok("put", "k", json.dumps(value), "--project", project)
    shown = cli.ok("status").out.splitlines()[-3:]
    assert shown == [
        "projects  1  19.5 KiB  /srv/large",
        "          1     504 B  middle",
        "          1       2 B  /srv/small",
    ]
    status = cli.ok("status", "--json").json
    assert status["projects"] == 3
    assert [each["project"] for each in status["usage"]] == ["/srv/large", "middle", "/srv/small"]
    for number in range(18):
        cli.ok("put", "k", "1", "--project", f"p{number}")
    assert cli.ok("status").out.splitlines()[-1] == "          and 1 more"


def test_commands_survive_a_daemon_that_is_killed(cli, daemon):
    cli.ok("put", "k", "1")
    daemon.kill()
    cli.refused(69, "get", "k")
    daemon.start()
    assert cli.ok("get", "k").out == "1\n"


class Kqueue:
    """select.kqueue of a Mac that was not there: it tells of one process when `over`, or refuses with `error`."""

    def __init__(self, *, over: bool = False, error: OSError | None = None) -> None:
        self.over = over
        self.error = error
        self.registered = []
        self.closed = 0

    def control(self, changes, events_max, timeout_s=None):
        if changes:
            if self.error:
                raise self.error
            self.registered += changes
            return []
        assert (events_max, timeout_s) == (1, 0.25)
        return ["exited"] if self.over else []

    def close(self):
        self.closed += 1


@pytest.fixture
def on_a_mac(monkeypatch):
    """Lets the module see a system with this kqueue and without pidfds."""

    def install(queue):
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        names = {"kqueue": lambda: queue, "kevent": lambda *event: event}
        for name, value in (names | {"KQ_FILTER_PROC": -5, "KQ_EV_ADD": 1, "KQ_NOTE_EXIT": 0x80000000}).items():
            monkeypatch.setattr(life.select, name, value, raising=False)
        return queue

    return install


@pytest.mark.parametrize("over", [True, False])
def test_stop_is_told_of_the_end_by_a_kqueue_on_a_mac(on_a_mac, over):
    queue = on_a_mac(Kqueue(over=over))
    end = life.End(7, None)
    assert queue.registered == [(7, -5, 1, 0x80000000)]
    assert end.wait(0.25) is over
    end.close()
    end.close()
    assert queue.closed == 1


def test_stop_of_a_process_that_is_over_asks_the_socket_on_a_mac(on_a_mac):
    class Line:
        def close(self):
            pass

        again = close

        def ask(self, method, _params):
            assert method == "ping"
            raise Unreachable("nobody is there")

    queue = on_a_mac(Kqueue(error=ProcessLookupError()))
    assert life.End(7, Line()).wait(0.25) is True
    assert queue.closed == 1
