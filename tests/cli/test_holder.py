"""A daemon that lives and does not answer: which process it is, and what to do about it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from cosession.cli import holder


@pytest.fixture
def suspended(cli, daemon):
    os.kill(daemon.pid, signal.SIGSTOP)
    yield cli
    os.kill(daemon.pid, signal.SIGCONT)


def own_start_time() -> int:
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])


def write_lock(home, **about) -> None:
    """A lock file as this process would write it, but for what is told."""
    (home / "state").mkdir(mode=0o700, exist_ok=True)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    content = {"pid": os.getpid(), "start_time": own_start_time(), "boot_id": boot_id, **about}
    (home / "state" / "daemon.lock").write_text(json.dumps(content))


linux = pytest.mark.skipif(not holder.LINUX, reason="reads /proc")


@linux
@pytest.mark.parametrize(
    "words", [("status",), ("get", "k"), ("put", "k", "1"), ("stop",), ("debug", "ping"), ("watch",)]
)
def test_a_suspended_daemon_is_named_with_the_way_to_wake_it(suspended, daemon, words):
    err = suspended.refused(75, *words, "--timeout", "0.3").err
    assert f"pid {daemon.pid}, which is suspended, gave no answer within 0.3 s; run: kill -CONT {daemon.pid}" in err
    assert suspended.run(*words, "--timeout", "0.3", "--json").error["data"]["pid"] == daemon.pid


@linux
def test_a_hung_daemon_is_named_with_the_way_to_end_it(nowhere, home):
    (home / "run").mkdir()
    path = str(home / "run" / "d.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        write_lock(home, socket=path)
        err = nowhere.refused(75, "status", "--timeout", "0.3").err
        way = f"run: kill -9 {os.getpid()}, it loses nothing that was acknowledged"
        assert err.endswith(f"gave no answer within 0.3 s; wait longer with --timeout S, or {way}\n")
        write_lock(home, socket=path, start_time=own_start_time() + 1)
        err = nowhere.refused(75, "status", "--timeout", "0.3").err
        assert err.endswith("or see what that process is\n"), "the lock is of another process, whose pid this has now"


def test_a_daemon_that_lost_its_socket_is_named_by_all_that_look_for_it(spawning, home):
    pid = spawning.ok("start", "--json").json["pid"]
    (home / "run" / "d.sock").unlink()
    for words in (("stop", "--timeout", "0.3"), ("status",)):
        err = spawning.refused(69, *words).err
        assert f"pid {pid} holds its lock, but nobody answers on its socket {home}/run/d.sock" in err
        assert f"run: kill {pid}, it loses nothing that was acknowledged" in err
    assert spawning.ok("stop", "--socket", f"{home}/other.sock", "--json").json == {"stopped": False, "pid": 0}
    os.kill(pid, signal.SIGTERM)  # as it says
    spawning.ok("stop")  # waits for its end
    assert "no daemon was running" in spawning.ok("stop").out
    assert "none is running" in spawning.refused(69, "status").err


def holds_pidfd(pid: int) -> bool:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "pidfd" in str(each.readlink()):
                return True
        except OSError:  # closed meanwhile
            continue
    return False


@linux
def test_stop_waits_for_a_daemon_that_is_just_leaving(spawning, home):
    pid = spawning.ok("start", "--json").json["pid"]
    (home / "run" / "d.sock").unlink()
    stop = spawning.popen("stop", "--json")
    deadline = time.monotonic() + 20
    while not holds_pidfd(stop.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    out, _ = stop.communicate(timeout=20)
    assert json.loads(out) == {"stopped": True, "pid": pid}


def test_a_daemon_is_known_by_its_command_line_too(daemon):
    assert holder.silent("/elsewhere", daemon.pid)[2].endswith(f"{daemon.pid}, it loses nothing that was acknowledged")
    assert "kill" not in holder.silent("/elsewhere", os.getpid())[2]
    assert holder.silent("/elsewhere", 0) == (0, "it", "wait longer with --timeout S")


@linux
@pytest.mark.parametrize(
    "about",
    [
        {"pid": 2**22 + 1},  # nobody
        {"pid": -1},
        {"pid": "1"},
        {"start_time": 1},  # the pid is used again
        {"boot_id": "another"},
        {"socket": None},
    ],
)
def test_a_lock_that_names_nobody_who_lives(tmp_path, about):
    env = {"COSESSION_HOME": str(tmp_path)}
    write_lock(tmp_path, **{"socket": "/s", **about})
    assert holder.living_holder(env) is None


@linux
def test_a_lock_that_names_us(tmp_path):
    env = {"COSESSION_HOME": str(tmp_path)}
    assert holder.living_holder(env) is None, "there is no file"
    write_lock(tmp_path, socket="/s")
    found = holder.living_holder(env)
    assert found is not None
    assert (found.pid, found.socket) == (os.getpid(), "/s")
    for content in (b"", b"[]", b"\xff", b'{"pid"'):
        (tmp_path / "state" / "daemon.lock").write_bytes(content)
        assert holder.living_holder(env) is None


@linux
def test_a_process_that_is_over_holds_nothing(tmp_path):
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # over, and not yet collected
    started = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
    write_lock(tmp_path, pid=child, start_time=started, socket="/s")
    assert holder.living_holder({"COSESSION_HOME": str(tmp_path)}) is None
    os.waitpid(child, 0)
