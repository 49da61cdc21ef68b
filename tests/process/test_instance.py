"""One daemon per home: the second says who is there and goes, whatever is left of dead ones is cleared away, and a
daemon that has lost its lock or socket to somebody stops.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cosession._version import __version__
from cosession.errors import CosessionError
from cosessiond import app
from cosessiond.process.lock import InstanceLock
from cosessiond.store.schema import open_database
from harness import Daemon
from process.starting import EXIT_CONFIG, EXIT_RUNNING, environment, filled, refusal, serves, tree
from rawclient import Pack
from server.inprocess import Inside

ROUNDS = 20

#: What the daemon that serves changes by itself: a lock that is gone, the reserve that is being laid out.
OWN = ("daemon.lock", "reserve")


def test_a_second_daemon_names_the_first_and_leaves_it_unharmed(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
        lock = (daemon.home / "state" / "daemon.lock").read_text()
        for arguments in ((), ("--detach",)):
            said = refusal(daemon.home, *arguments, code=EXIT_RUNNING)
            assert f"already running (pid {daemon.pid}, version {__version__})" in said
        assert (daemon.home / "state" / "daemon.lock").read_text() == lock
        assert peer.reply("get", key="a")["entry"]["value"] == 1, "the same connection, the same daemon"
        assert peer.reply("put", key="a", value=2)
    with Pack(daemon.socket) as peer:
        assert peer.reply("get", key="a")["entry"]["value"] == 2, "and new ones find it"


def test_the_lock_tells_clients_where_the_daemon_listens(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        daemon_id = peer.reply("hello")["daemon_id"]
    holder = json.loads((daemon.home / "state" / "daemon.lock").read_text())
    assert (holder["pid"], holder["socket"], holder["version"]) == (daemon.pid, str(daemon.socket), __version__)
    assert holder["daemon_id"] == daemon_id


def test_a_second_daemon_is_refused_while_the_first_is_stopped_by_a_signal(daemon: Daemon) -> None:
    """Alive but not answering is still running: nothing is taken from it."""
    daemon.signal(signal.SIGSTOP)
    try:
        assert f"pid {daemon.pid}" in refusal(daemon.home, code=EXIT_RUNNING)
    finally:
        daemon.signal(signal.SIGCONT)
    with Pack(daemon.socket) as peer:
        assert peer.reply("ping")


def test_a_socket_left_by_a_killed_daemon_is_cleared_away(daemon: Daemon) -> None:
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    with Pack(daemon.socket) as peer:
        assert peer.reply("ping")


def test_an_orderly_end_leaves_no_socket_and_lets_the_next_in(daemon: Daemon) -> None:
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
    daemon.start()


def test_of_two_daemons_started_at_the_same_moment_exactly_one_serves(home: Path) -> None:
    for number in range(ROUNDS):
        daemon = Daemon(home)
        command = [sys.executable, "-m", "cosessiond"]
        pair = [subprocess.Popen(command, env=daemon.env, cwd="/", stderr=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            loser = _first_to_end(pair)
            winner = pair[1 - pair.index(loser)]
            assert loser.returncode == EXIT_RUNNING, loser.communicate()
            said = loser.stderr.read() if loser.stderr else ""
            assert "already running" in said
            while not daemon.accepts():
                assert winner.poll() is None, f"round {number}: nobody serves"
                time.sleep(0.005)
            with Pack(daemon.socket) as peer:
                assert peer.reply("ping")["pid"] == winner.pid, "the one that has the lock has the socket"
            if "pid" in said:
                assert f"pid {winner.pid}," in said, f"round {number}: it named {said}"
        finally:
            for process in pair:
                process.terminate()
            codes = sorted(process.wait(10) for process in pair)
            for process in pair:
                if process.stderr:
                    process.stderr.close()
        assert codes == [0, EXIT_RUNNING]


def _first_to_end(pair: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    while True:
        for process in pair:
            if process.poll() is not None:
                return process
        time.sleep(0.005)


def test_a_daemon_of_another_home_does_not_take_a_socket_that_answers(daemon: Daemon, tmp_path: Path) -> None:
    """Two state directories, one COSESSION_SOCKET: the lock does not see it, the socket does."""
    env = {**environment(tmp_path), "COSESSION_SOCKET": str(daemon.socket)}
    ended = subprocess.Popen([sys.executable, "-m", "cosessiond"], env=env, cwd="/", stderr=subprocess.PIPE, text=True)
    try:
        with Pack(daemon.socket) as peer:
            first = peer.reply("hello")["daemon_id"]
        try:
            code = ended.wait(3)
        except subprocess.TimeoutExpired:
            code = None
        with Pack(daemon.socket) as peer:
            assert peer.reply("hello")["daemon_id"] == first, "the socket still leads to the first"
        assert code in (EXIT_RUNNING, EXIT_CONFIG)
    finally:
        ended.terminate()
        ended.communicate()


# -- the guard -------------------------------------------------------------------------------------------------------


class Log:
    """Takes what is logged."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, event: str, **_: object) -> None:
        """Like structlog."""
        self.errors.append(event)


class Guarded:
    """The daemon's own guard over a real lock file and a real path, on a virtual clock."""

    def __init__(self, home: Path) -> None:
        self.inside = Inside()
        self.lock_path = home / "daemon.lock"
        self.socket_path = home / "d.sock"
        self.lock = InstanceLock(self.lock_path, lambda _: None)
        self.socket_path.touch()
        self.log = Log()
        app._guard(self.inside.core, self.lock, self.socket_path, self.log, lambda: None)

    def after(self, rounds: int = 1) -> bool:
        """Whether the daemon was told to stop within so many looks."""
        self.inside.world.advance(app.GUARD_S * rounds + 0.001)
        return bool(self.inside.stopped)


@pytest.fixture
def guarded(home: Path):
    found = Guarded(home)
    yield found
    found.lock.release()


def test_a_daemon_that_has_its_lock_and_its_socket_goes_on(guarded: Guarded) -> None:
    assert not guarded.after(rounds=100)
    assert not guarded.log.errors


@pytest.mark.parametrize("harm", ["lock removed", "lock replaced", "socket removed", "socket replaced"])
def test_a_daemon_that_has_lost_its_lock_or_socket_stops_at_the_next_look(guarded: Guarded, harm: str) -> None:
    assert not guarded.after()
    path = guarded.lock_path if harm.startswith("lock") else guarded.socket_path
    path.unlink()
    if harm.endswith("replaced"):
        (path.parent / "filler").touch()  # so that the inode is not given out again
        path.touch()
    assert guarded.after()
    assert guarded.log.errors
    assert len(guarded.inside.stopped) == 1


def test_whoever_lost_the_socket_does_not_unlink_the_one_that_is_there_now(daemon: Daemon) -> None:
    daemon.socket.rename(daemon.home / "run" / "old")
    daemon.socket.write_text("somebody else's")
    assert daemon.stop() == 0
    assert daemon.socket.read_text() == "somebody else's"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_lock_that_was_removed_lets_no_second_daemon_beside_the_first(daemon: Daemon, *, stopped: bool) -> None:
    """What is left when somebody cleans up by hand: the socket tells who serves, also when it does not answer."""
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
        (daemon.home / "state" / "daemon.lock").unlink()
        before = tree(daemon.home / "state", ignored=OWN)
        if stopped:
            daemon.signal(signal.SIGSTOP)
        try:
            said = refusal(daemon.home, code=EXIT_RUNNING)
        finally:
            daemon.signal(signal.SIGCONT)
        assert f"already running (pid {daemon.pid}) on the socket {daemon.socket}" in said
        assert tree(daemon.home / "state", ignored=OWN) == before
        assert peer.reply("put", key="a", value=2)["written"]["version"] == 2


def test_without_lock_and_socket_the_database_itself_keeps_the_second_daemon_out(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
        (daemon.home / "state" / "daemon.lock").unlink()
        daemon.socket.unlink()
        before = tree(daemon.home / "state", ignored=OWN)
        said = refusal(daemon.home, code=EXIT_RUNNING)
        assert f"cannot open {daemon.database}: already running" in said
        assert "end that process" in said
        assert tree(daemon.home / "state", ignored=OWN) == before
        assert peer.reply("put", key="a", value=2)["written"]["version"] == 2


def test_a_second_daemon_says_so_when_the_first_has_lost_its_socket(daemon: Daemon) -> None:
    daemon.socket.unlink()
    said = refusal(daemon.home, code=EXIT_RUNNING)
    assert f"already running (pid {daemon.pid}, version {__version__}, but nobody answers on its socket" in said
    assert said.rstrip().endswith(f"run: kill {daemon.pid}, then: cosession start")


def test_nobody_waits_for_a_database_that_somebody_else_has_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One daemon has it; so nothing is to be gained by waiting."""
    filled(home)
    waits: list[float] = []
    connect = sqlite3.connect

    def spied(*args: Any, timeout: float = 5.0, **more: Any) -> sqlite3.Connection:
        waits.append(timeout)
        return connect(*args, timeout=timeout, **more)

    with contextlib.closing(connect(home / "state" / "store.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", spied)
        with pytest.raises(CosessionError, match="already running, another process has it open") as caught:
            open_database(home / "state" / "store.db", was_used=True)
        assert caught.value.code == "already_running"
    assert waits == [0]


def test_what_a_dead_daemon_left_in_the_lock_says_nothing(home: Path) -> None:
    filled(home)
    lock = home / "state" / "daemon.lock"
    for left in (b"", b"garbage\xff", b'{"pid": "x"}', b"x" * 100_000):
        lock.write_bytes(left)
        serves(home, keys=3)
