"""Finding the daemon, judging it, and when one may be started; without any daemon."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from cosession import paths, peer, reach
from cosession.errors import ConfigError, NotAllowed, Unreachable
from cosession.reach import (
    LATCH_S,
    Target,
    bound_socket,
    opening,
    sandbox_of,
    spawn_command,
    spawn_environment,
    start_obstacle,
    target_of,
)


@pytest.fixture
def env(home):
    return {"COSESSION_HOME": str(home)}


@pytest.fixture
def listen():
    """Listen on a path; closed afterwards."""
    opened = []

    def on(path, backlog=8):
        Path(path).parent.mkdir(exist_ok=True)
        opened.append(socket.socket(socket.AF_UNIX))
        opened[-1].bind(path)
        opened[-1].listen(backlog)
        return opened[-1]

    yield on
    for each in opened:
        each.close()


def carry_out(target, *, seconds=2.0, again=False):
    """Drive `opening` and return (socket, seconds it took)."""
    began = time.monotonic()
    steps = opening(target, began + seconds, again=again)
    try:
        while True:
            time.sleep(next(steps))
    except StopIteration as done:
        return done.value, time.monotonic() - began


def no_spawn(env, **names):
    return target_of(None, spawn=False, env={**env, **names})


class TestTarget:
    def test_the_usual_place(self, env, home):
        target = target_of(None, spawn=True, env=env)
        assert target.socket == f"{home}/run/d.sock"
        assert not target.named

    def test_a_named_one(self, monkeypatch):
        monkeypatch.chdir("/tmp")
        assert target_of("x.sock", spawn=True).socket.endswith("/tmp/x.sock")
        assert target_of("x.sock", spawn=True).named

    def test_a_path_that_cannot_be(self):
        with pytest.raises(ConfigError, match="the limit is"):
            target_of("/" + "x" * 200, spawn=True)


@pytest.mark.parametrize(
    ("env", "named", "spawn", "obstacle"),
    [
        ({}, False, True, ""),
        ({"COSESSION_NO_SPAWN": "0"}, False, True, ""),
        ({"COSESSION_NO_SPAWN": ""}, False, True, ""),
        ({"COSESSION_NO_SPAWN": "1"}, False, True, "COSESSION_NO_SPAWN"),
        ({}, False, False, "spawn=False"),
        ({}, True, True, "named by the caller"),
        ({"CODEX_SANDBOX": "seatbelt"}, False, True, "Codex's sandbox"),
        ({"CODEX_SANDBOX_NETWORK_DISABLED": "1"}, False, True, "Codex's sandbox"),
        ({"SANDBOX_RUNTIME": "1"}, False, True, "Claude Code's sandbox"),
        ({"SANDBOX_RUNTIME": ""}, False, True, ""),
    ],
)
def test_what_forbids_a_start(home, env, named, spawn, obstacle):
    target = Target(socket="/s", named=named, spawn=spawn, env={"COSESSION_HOME": str(home), **env})
    found = start_obstacle(target, time.time())
    assert obstacle in found
    assert bool(found) == bool(obstacle)


@pytest.mark.parametrize(
    ("age_s", "latched"), [(0, True), (LATCH_S - 1, True), (LATCH_S + 1, False), (-5, True), (-3600, False)]
)
def test_the_stop_latch_holds_for_a_while(env, home, age_s, latched):
    (home / "state").mkdir()
    (home / "state" / "stopped").touch()
    now = (home / "state" / "stopped").stat().st_mtime + age_s
    assert ("stopped on purpose" in start_obstacle(target_of(None, spawn=True, env=env), now)) == latched


class TestNobodyThere:
    def test_no_socket_fails_at_once_and_says_what_to_do(self, env, home):
        with pytest.raises(Unreachable) as caught:
            carry_out(no_spawn(env))
        assert caught.value.message == (
            f"cannot reach the daemon at {home}/run/d.sock: no socket is there, and starting it is forbidden "
            "(spawn=False or --no-spawn); run: cosession start"
        )

    def test_a_stale_socket(self, env, home, listen):
        listen(f"{home}/run/d.sock").close()
        with pytest.raises(Unreachable, match="nobody listens on the socket"):
            carry_out(no_spawn(env))

    def test_one_that_was_connected_before_waits_to_its_deadline(self, env):
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"waited 0\.[23]"):
            carry_out(no_spawn(env), seconds=0.2, again=True)
        assert 0.2 <= time.monotonic() - began < 1

    def test_and_finds_a_daemon_that_comes_back(self, env, home, listen):
        steps = opening(no_spawn(env), time.monotonic() + 5, again=True)
        next(steps)
        listen(f"{home}/run/d.sock")
        with pytest.raises(StopIteration) as done:
            next(steps)
        done.value.value.close()

    def test_a_latch_ends_that_wait_early(self, env, home, monkeypatch):
        monkeypatch.setattr(reach, "LATCH_PATIENCE_S", 0.1)
        (home / "state").mkdir()
        (home / "state" / "stopped").touch()
        with pytest.raises(Unreachable, match=r"stopped on purpose less than 30 s ago; run: cosession start"):
            carry_out(target_of(None, spawn=True, env=env), seconds=30, again=True)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
    def test_a_forbidden_socket(self, env, home, listen):
        listen(f"{home}/run/d.sock")
        (home / "run").chmod(0)
        with pytest.raises(Unreachable, match="see: cosession sockname"):
            carry_out(no_spawn(env))

    @pytest.mark.parametrize(
        ("env", "advice"),
        [
            ({}, "check who may open it, see: cosession sockname"),
            ({"CODEX_SANDBOX": "seatbelt"}, "allow this path in the settings of Codex's"),
        ],
    )
    def test_a_sandbox_that_forbids_the_socket(self, home, env, advice, monkeypatch):
        def forbidden(*_, **__):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(socket, "socket", forbidden)
        env = {"COSESSION_HOME": str(home), **env}
        with pytest.raises(Unreachable, match=f"Operation not permitted; {advice}") as caught:
            carry_out(target_of(None, spawn=True, env=env))
        assert caught.value.data["path"] == f"{home}/run/d.sock"


class TestSomebodyThere:
    def test_connected(self, env, home, listen):
        listen(f"{home}/run/d.sock")
        found, took_s = carry_out(no_spawn(env))
        with found:
            assert peer.uid_of(found) == os.geteuid()
            assert not os.get_inheritable(found.fileno())
        assert took_s < 0.5

    @pytest.mark.parametrize("again", [False, True])
    def test_somebody_elses_daemon_gets_no_byte(self, env, home, listen, monkeypatch, again):
        server = listen(f"{home}/run/d.sock")
        monkeypatch.setattr(peer, "uid_of", lambda _: os.geteuid() + 1)
        with pytest.raises(NotAllowed, match=rf"runs as uid {os.geteuid() + 1}, not as yours \({os.geteuid()}\)"):
            carry_out(no_spawn(env), again=again)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""

    @pytest.mark.skipif(sys.platform == "darwin", reason="a full backlog is refused there, not busy")
    def test_a_full_backlog_is_waited_for(self, env, home, listen):
        server = listen(f"{home}/run/d.sock", backlog=0)
        target = no_spawn(env)
        first, _ = carry_out(target)
        steps = opening(target, time.monotonic() + 5, again=True)
        with first:
            next(steps)
            server.accept()[0].close()
            found, _ = carry_out(target, again=True)
            found.close()
        steps.close()


class TestLockFile:
    def write(self, home, content):
        (home / "state").mkdir(exist_ok=True)
        (home / "state" / "daemon.lock").write_bytes(content)

    def test_it_names_a_socket_elsewhere(self, env, home, listen):
        listen(f"{home}/elsewhere.sock")
        lock = {"pid": 1, "start_time": 2, "socket": f"{home}/elsewhere.sock", "version": "0", "boot_id": "b"}
        self.write(home, json.dumps(lock).encode())
        assert bound_socket(env) == f"{home}/elsewhere.sock"
        found, _ = carry_out(no_spawn(env))
        found.close()

    def test_no_other_socket_will_do_than_the_one_of_the_variable(self, env, home, listen):
        server = listen(f"{home}/elsewhere.sock")
        self.write(home, json.dumps({"socket": f"{home}/elsewhere.sock"}).encode())
        with pytest.raises(Unreachable) as caught:
            carry_out(target_of(None, spawn=True, env={**env, "COSESSION_SOCKET": "/nonexistent/x"}))
        assert caught.value.message == (
            "cannot reach the daemon at /nonexistent/x: no socket is there, and the running daemon listens on "
            f"{home}/elsewhere.sock; unset COSESSION_SOCKET (or drop --socket), or name that one"
        )
        assert caught.value.data["elsewhere"] == f"{home}/elsewhere.sock"
        server.accept()[0].close()

    def test_a_lock_that_nobody_holds_any_more_is_no_obstacle_to_the_variable(self, env, home):
        """Where no daemon runs one is started that listens where the variable says; here starting is forbidden."""
        self.write(home, json.dumps({"socket": f"{home}/elsewhere.sock"}).encode())
        with pytest.raises(Unreachable, match="no socket is there, and starting it is forbidden"):
            carry_out(no_spawn(env, COSESSION_SOCKET=f"{home}/own.sock"))

    def test_it_is_not_asked_when_the_caller_named_the_socket(self, env, home, listen):
        listen(f"{home}/elsewhere.sock")
        self.write(home, json.dumps({"socket": f"{home}/elsewhere.sock"}).encode())
        with pytest.raises(Unreachable):
            carry_out(target_of(home / "named.sock", spawn=False, env=env))

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b'{"socket": 1}', b'{"socket": "relative"}', b"\xff", b'{"socket": "/x' + b"x" * 5000],
    )
    def test_nonsense_in_it_says_nothing(self, env, home, content):
        self.write(home, content)
        assert bound_socket(env) == ""

    def test_a_link_is_not_followed(self, env, home):
        self.write(home, b"")
        lock = home / "state" / "daemon.lock"
        lock.rename(home / "real")
        (home / "real").write_bytes(b'{"socket": "/x"}')
        lock.symlink_to(home / "real")
        assert bound_socket(env) == ""

    def test_a_fifo_is_not_waited_for(self, env, home):
        (home / "state").mkdir()
        os.mkfifo(home / "state" / "daemon.lock")
        assert bound_socket(env) == ""


class TestStart:
    def test_what_a_daemon_gets_of_our_environment(self, monkeypatch):
        monkeypatch.chdir("/tmp")
        env = {
            "HOME": "/u",
            "PATH": "/bin",
            "LANG": "C",
            "LC_ALL": "C",
            "TMPDIR": "/t",
            "XDG_RUNTIME_DIR": "/r",
            "COSESSION_HOME": "/h",
            "COSESSION_SPOOL": "spool",
            "COSESSION_LOG_LEVEL": "debug",
        }
        dropped = {
            "COSESSION_TOKEN": "secret",
            "COSESSION_SESSION": "s",
            "COSESSION_PROJECT": "p",
            "COSESSION_NO_SPAWN": "1",
            "PYTHONPATH": "/evil",
            "LD_PRELOAD": "/evil",
            "AWS_SECRET_ACCESS_KEY": "x",
        }
        assert spawn_environment({**env, **dropped}) == {**env, "COSESSION_SPOOL": f"{Path.cwd()}/spool"}

    def test_the_command(self, monkeypatch):
        assert spawn_command()[-3:] == ["-m", "cosessiond", "--detach"]
        assert spawn_command()[0] == sys.executable
        monkeypatch.setattr("site.ENABLE_USER_SITE", True)
        monkeypatch.setattr("site.getusersitepackages", lambda: "/nowhere")
        assert spawn_command()[1:-3] == ["-I"]
        monkeypatch.setattr("site.getusersitepackages", lambda: str(Path(reach.__file__).parent.parent))
        assert spawn_command()[1:-3] == ["-E", "-P"]

    def starting(self, env, monkeypatch, program):
        monkeypatch.setattr(reach, "spawn_command", lambda: [sys.executable, "-c", program])
        return target_of(None, spawn=True, env={**env, "PATH": os.environ["PATH"]})

    def test_a_start_that_fails_says_why(self, env, monkeypatch):
        target = self.starting(env, monkeypatch, "import sys; print('no room\\nat all', file=sys.stderr); sys.exit(78)")
        with pytest.raises(Unreachable, match="it ended with 78: no room\nat all; run: cosessiond") as caught:
            carry_out(target, seconds=20)
        assert caught.value.data["exit_code"] == 78

    @pytest.mark.parametrize(
        ("ends_with", "code", "exit_code"), [(78, "config", 78), (70, "io_error", 70), (1, "unreachable", 69)]
    )
    def test_what_the_daemon_says_is_passed_on_with_its_exit_code(self, env, monkeypatch, ends_with, code, exit_code):
        """The cause and the remedy are the daemon's: nothing is added that would lead away from them."""
        program = (
            f"import sys; sys.stderr.write('cosessiond: cannot use X: it is a link; move it'); sys.exit({ends_with})"
        )
        with pytest.raises(Unreachable) as caught:
            carry_out(self.starting(env, monkeypatch, program), seconds=20)
        assert caught.value.message == "cannot start the daemon: it cannot use X: it is a link; move it"
        assert (caught.value.code, caught.value.exit_code) == (code, exit_code)

    def test_a_start_that_is_refused_all_the_time_says_why_in_the_end(self, env, monkeypatch):
        told = "cosessiond: cannot start: already running (pid 7), but nobody answers on its socket; run: kill 7"
        target = self.starting(env, monkeypatch, f"import sys; sys.stderr.write({told!r}); sys.exit(75)")
        for seconds in (1, 5, 30):  # as long as it takes the child to say it
            with pytest.raises(Unreachable) as caught:
                carry_out(target, seconds=seconds)
            if "pid 7" in caught.value.message:
                break
        assert caught.value.message.endswith(" s; " + told.removeprefix("cosessiond: "))

    def test_one_that_says_very_much_does_not_hang(self, env, monkeypatch):
        target = self.starting(env, monkeypatch, "import os; [os.write(2, b'x' * 4096) for _ in range(256)]; 1/0")
        with pytest.raises(Unreachable, match="ZeroDivisionError"):
            carry_out(target, seconds=20)

    def test_one_that_never_ends_is_ended_at_the_deadline(self, env, monkeypatch):
        target, before = self.starting(env, monkeypatch, "import time; time.sleep(600)"), children()
        with pytest.raises(Unreachable, match="it is being started; waited"):
            carry_out(target, seconds=0.3)
        assert children() <= before

    def test_giving_up_on_the_way_ends_it_too(self, env, monkeypatch):
        target, before = self.starting(env, monkeypatch, "import time; time.sleep(600)"), children()
        steps = opening(target, time.monotonic() + 60)
        next(steps)
        next(steps)
        assert children() - before, "nothing was started, so that its end would show nothing"
        steps.close()
        assert children() <= before

    def test_a_loser_waits_for_the_winners_socket(self, env, home, monkeypatch):
        path = str(home / "run" / "d.sock")
        (home / "run").mkdir()
        winner = (
            "import os, socket, sys, time\n"
            "if os.fork(): sys.exit(75)\n"
            "os.close(2); time.sleep(0.3); s = socket.socket(socket.AF_UNIX)\n"
            f"s.bind({path!r}); s.listen(); s.accept()[0].recv(1)"
        )
        found, took_s = carry_out(self.starting(env, monkeypatch, winner), seconds=20)
        found.close()
        assert took_s > 0.3

    def test_nothing_is_started_where_python_is_unknown(self, env, monkeypatch):
        monkeypatch.setattr(sys, "executable", "")
        with pytest.raises(Unreachable, match="does not know its Python"):
            carry_out(target_of(None, spawn=True, env=env))

    def test_a_command_that_cannot_run(self, env, monkeypatch):
        monkeypatch.setattr(reach, "spawn_command", lambda: ["/no/such/python"])
        with pytest.raises(Unreachable, match=r"cannot start the daemon: .*No such file"):
            carry_out(target_of(None, spawn=True, env=env))


def children() -> set[psutil.Process]:
    """The children of this process, those that ended and wait to be reaped among them.

    Not `waitpid(-1)`: it would reap, or trip over, the daemon that another test of this worker has running.
    """
    return set(psutil.Process().children())


def test_sandbox_of():
    assert sandbox_of({}) == ""
    assert sandbox_of({"CODEX_SANDBOX": "seatbelt"}) == "Codex's sandbox"


def test_both_sides_agree_on_the_latch_file(env, home):
    assert paths.stop_latch(env) == f"{home}/state/stopped"
