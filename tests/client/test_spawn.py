"""Starting the daemon on demand: one by many, never where it is forbidden."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import psutil
import pytest

from cosession import Unreachable
from harness import Daemon


def importable_when_isolated():
    command = [sys.executable, "-I", "-c", "import cosessiond.__main__"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(
    not importable_when_isolated(), reason="cosessiond is not installed: python -I finds none"
)


@pytest.fixture
def place(home, monkeypatch):
    """A home where daemons may be started; whatever runs there is ended, and must end well."""
    monkeypatch.setenv("COSESSION_HOME", str(home))
    monkeypatch.delenv("COSESSION_NO_SPAWN")
    yield home
    with contextlib.ExitStack() as stack:
        stack.callback(Daemon(home).close)  # fails when something is left
        for process in Daemon(home).processes():
            process.terminate()
            stack.callback(process.wait, 10)


def test_a_client_starts_the_daemon_it_needs(connect, run, place):
    async def body():
        async with connect() as client:
            await client.put("k", 1)
            status = await client.status()
            assert status.socket == f"{place}/run/d.sock"
            return status.pid

    daemon = psutil.Process(run(body()))
    assert daemon.cwd() == "/"
    assert os.getsid(daemon.pid) != os.getsid(0)
    assert {name for name in daemon.environ() if name.startswith("COSESSION_")} == {"COSESSION_HOME"}
    assert "PYTEST_CURRENT_TEST" not in daemon.environ()
    ended = [each for each in psutil.Process().children() if each.status() == psutil.STATUS_ZOMBIE]
    assert not ended, "nobody is left for us to collect"
    assert daemon.ppid() != os.getpid()


@pytest.mark.usefixtures("place")
def test_the_next_one_finds_it(connect, run):
    async def body():
        async with connect() as client:
            return (await client.ping()).pid

    assert run(body()) == run(body())


@pytest.mark.usefixtures("place")
def test_a_daemon_that_died_is_started_again_by_the_next_call(connect, run):
    async def body():
        async with connect() as client:
            await client.put("k", 1)
            first = psutil.Process((await client.ping()).pid)
            first.kill()
            first.wait(5)
            assert (await client.get("k")).value == 1
            assert (await client.ping()).pid != first.pid

    run(body())


CONNECT_AND_TELL = """
import sys, cosession
sys.stdin.readline()
with cosession.connect(timeout_s=30) as client:
    print(client.ping().pid)
"""


@pytest.mark.parametrize("stale", [False, True])
def test_eight_at_once_make_one_daemon(place, stale):
    if stale:  # with what a killed daemon leaves behind
        with Daemon(place) as before:
            before.kill()
    command = [sys.executable, "-c", CONNECT_AND_TELL]
    clients = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for client in clients:
        client.stdin.write("go\n")
        client.stdin.flush()
    pids = {client.communicate(timeout=60)[0] for client in clients}
    assert [client.returncode for client in clients] == [0] * 8
    assert {int(pid) for pid in pids} == {process.pid for process in Daemon(place).processes()}
    assert len(pids) == 1


@pytest.mark.parametrize("variable", ["COSESSION_NO_SPAWN", "CODEX_SANDBOX", "SANDBOX_RUNTIME"])
def test_where_it_is_forbidden(connect, run, place, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")

    async def body():
        with pytest.raises(Unreachable, match="run: cosession start"):
            async with connect():
                pass

    run(body())
    assert Daemon(place).processes() == []


def test_spawn_false(connect, run, place):
    async def body():
        with pytest.raises(Unreachable, match="spawn=False"):
            async with connect(spawn=False):
                pass

    run(body())
    assert not (place / "state").exists()


def test_the_stop_latch(connect, run, place):
    latch = place / "state" / "stopped"
    latch.parent.mkdir(mode=0o700)
    latch.touch()

    async def refused():
        began = time.monotonic()
        with pytest.raises(Unreachable, match="stopped on purpose"):
            async with connect():
                pass
        assert time.monotonic() - began < 2

    async def served():
        async with connect() as client:
            await client.ping()

    run(refused())
    os.utime(latch, (time.time() - 31, time.time() - 31))
    run(served())


def test_a_daemon_on_another_socket_is_found_by_its_lock(connect, run, place, monkeypatch):
    """As when client and daemon were started with different environments; but a variable that names one is obeyed."""

    async def body():
        async with connect() as client:
            return (await client.ping()).pid

    monkeypatch.setenv("COSESSION_SOCKET", f"{place}/other.sock")
    pid = run(body())
    monkeypatch.delenv("COSESSION_SOCKET")
    assert run(body()) == pid
    monkeypatch.setenv("COSESSION_SOCKET", f"{place}/third.sock")
    with pytest.raises(Unreachable, match="unset COSESSION_SOCKET"):
        run(body())


def test_a_start_that_cannot_work_says_why(connect, run, place):
    (place / "state").mkdir(mode=0o700)
    (place / "state" / "store.db").mkdir()  # no daemon can open that

    async def body():
        with pytest.raises(Unreachable, match="cannot start the daemon: it cannot ") as caught:
            async with connect():
                pass
        assert caught.value.data["stderr"]

    run(body())
