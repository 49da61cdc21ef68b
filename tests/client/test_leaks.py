"""After close nothing is left: no descriptor, no thread, no task, no child."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from cosession import Unreachable

DESCRIPTORS = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts /proc/self/fd")


def held():
    """Open descriptors and threads now."""
    gc.collect()
    return len(list(DESCRIPTORS.iterdir())), threading.active_count()


@pytest.fixture
def nothing_left(run):
    """Run a body three times (the first may open what stays, such as a module's own descriptors) and compare."""

    def check(body):
        run(body())
        before = held()
        for _ in range(3):
            run(body())
        assert held() == before

    return check


def test_a_client(connect, daemon, nothing_left):
    async def body():
        async with connect(daemon.socket) as client:
            await client.put("k", 1)

    nothing_left(body)


def test_a_client_with_everything(connect, daemon, nothing_left):
    async def body():
        async with connect(daemon.socket) as client:
            await client.session(heartbeat_s=0.1)
            await client.session(heartbeat_s=20)
            watch = await client.watch("k", timeout_s=5)
            await client.put("k", 1)
            await watch.next(5)
            await client.watch("l")

    nothing_left(body)


def test_watches_and_sessions_that_are_closed_before_the_client(connect, daemon, nothing_left):
    async def body():
        async with connect(daemon.socket) as client:
            for _ in range(3):
                async with client.watch(), client.session(heartbeat_s=0.1):
                    pass

    nothing_left(body)


def test_a_client_that_lost_its_daemon(connect, daemon, nothing_left):
    async def body():
        async with connect(daemon.socket) as client:
            watch = await client.watch()
            await client.session(heartbeat_s=0.1)
            daemon.kill()
            daemon.start()
            await client.put("k", 1)
            await watch.next(5)

    nothing_left(body)


def test_a_client_that_found_none(connect, home, nothing_left):
    async def body():
        with pytest.raises(Unreachable):
            async with connect(home / "no.sock"):
                pass

    nothing_left(body)


def test_errors_on_the_way(connect, scripted, nothing_left):
    async def body():
        scripted.script += ["hang up"] * 5
        async with connect(scripted.path) as client:
            with pytest.raises(Unreachable):
                await client.get("k")
        for connection in scripted.connections:
            connection.close()
        for thread in scripted._threads[1:]:
            thread.join()
        del scripted._threads[1:], scripted.connections[:]

    nothing_left(body)
