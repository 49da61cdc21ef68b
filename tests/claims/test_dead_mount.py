"""A path on a mount that answers no more: whoever names it is told so in time, and nobody else waits.

The mount is a real one: a FUSE file system whose server never reads a request, so every look at it hangs.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cosession import InvalidRequest, TimedOut, aio, targets
from cosession.targets import resolve

MNT_DETACH = 2
#: What is waited for, and far more than any look of a living file system takes.
LOOK_S = 0.3


@pytest.fixture
def dead(tmp_path):
    """A directory below which nothing answers."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("a mount that hangs needs root and /dev/fuse")
    libc = ctypes.CDLL(None, use_errno=True)
    where = tmp_path / "dead"
    where.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", str(where).encode(), b"fuse", 0, options) != 0:
        os.close(server)
        pytest.skip(f"a mount that hangs cannot be made here: {os.strerror(ctypes.get_errno())}")
    yield where
    os.close(server)  # whoever hangs there is let go
    libc.umount2(str(where).encode(), MNT_DETACH)


def hanging():
    return [each for each in threading.enumerate() if each.name == "cosession targets"]


def test_a_dead_mount_is_told_in_time_and_let_go(dead, tmp_path):
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"cannot claim 'dead/a\.py': .*; look for a dead mount"):
        resolve(["dead/a.py"], str(tmp_path), look_s=LOOK_S)
    assert time.monotonic() - began >= LOOK_S
    assert hanging(), "the look itself cannot be ended"
    assert resolve(["beside.py"], str(tmp_path))[0] == [f"path:{str(tmp_path / 'beside.py').lstrip('/')}"]
    assert resolve(["name:x", "machine:port/1"], str(dead)) == (["name:x", "machine:port/1"], "")


def test_the_loop_of_a_program_goes_on_meanwhile(dead, monkeypatch, daemon, tmp_path):
    monkeypatch.setattr(targets, "LOOK_S", LOOK_S)
    monkeypatch.setitem(resolve.__kwdefaults__, "look_s", LOOK_S)

    async def body():
        async with aio.connect(daemon.socket) as client, client.session(heartbeat_s=0) as session:
            asking = asyncio.ensure_future(session.claim("dead/a.py", directory=str(tmp_path)).__aenter__())
            turns = 0
            while not asking.done():
                await asyncio.sleep(0.001)
                turns += 1
            assert turns > 1, "the loop stood still"
            with pytest.raises(TimedOut):
                await asking

    asyncio.run(body())
    assert dead.name == "dead"


def test_what_is_refused_in_the_thread_is_refused_here(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(InvalidRequest, match="outside"):
        resolve(["/etc/passwd"], str(tmp_path))
    with pytest.raises(InvalidRequest, match="names nothing"):
        resolve([""], str(tmp_path))
