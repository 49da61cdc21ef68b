"""An I/O error while committing (P13): the daemon stops at once and answers nothing more; the next start recovers.

The errors are real ones of the kernel: a write that fails, by a limit on the size of files put on the running daemon,
and a sync that fails, by strace.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosessiond.store.wal import Wal
from harness import Daemon
from process.starting import EXIT_IO
from rawclient import Answer, Pack
from server.daemons import eventually

#: Room for a part of the requests below, so that the error comes in the middle of them.
ROOM_BYTES = 256 * 1024
VALUE = "x" * 5_000
REQUESTS = 60

Breaking = Callable[[Daemon], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def failing_writes(daemon: Daemon) -> Iterator[None]:
    """From now on the daemon can write to no file far behind what its log holds now: beyond that it fails (EFBIG)."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limits of another process can be set on Linux only")
    size = Wal(Path(f"{daemon.database}-wal")).bytes() + ROOM_BYTES
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, size))
    yield


@contextlib.contextmanager
def failing_syncs(daemon: Daemon) -> Iterator[None]:
    """From now on every sync of the daemon fails (EIO), as on a disk that has lost what it had taken."""
    with injecting(daemon, "fsync,fdatasync", "EIO"):
        yield


@contextlib.contextmanager
def injecting(daemon: Daemon, calls: str, error: str) -> Iterator[None]:
    """While this lasts, these system calls of the daemon fail."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(daemon.pid)]
    command += ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            eventually(lambda: traced(daemon.pid) or tracer.poll() is not None, "strace is attached")
            if tracer.poll() is not None:
                pytest.skip(f"strace may not attach here: {tracer.communicate()[1].strip()}")
            yield
        finally:
            tracer.terminate()


def traced(pid: int) -> bool:
    """Whether every thread of a process is traced."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ended meanwhile
        return all("TracerPid:\t0\n" not in (thread / "status").read_text(encoding="ascii") for thread in threads)
    return False


def request(number: int) -> dict[str, Any]:
    """Request `number`, of two entries that belong together."""
    writes = [{"op": "put", "key": f"{half}/{number:02}", "value": VALUE} for half in ("left", "right")]
    return {"then": writes, "request_id": f"request-{number}"}


def answered(peer: Pack) -> list[Answer]:
    """All requests sent at once, and what is answered until the connection ends."""
    frames = [Pack.encode(number, "txn", request(number)) for number in range(1, REQUESTS + 1)]
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the daemon may be gone before it has read all
        peer.send(b"".join(frames))
    return list(peer.until_ended())


def kept(peer: Pack) -> set[int]:
    """The requests that the store holds: each whole, once, or not at all."""
    entries = peer.reply("range")["entries"]
    found = {half: {int(e["key"][-2:]) for e in entries if e["key"].startswith(half)} for half in ("left", "right")}
    assert found["left"] == found["right"], "a half of a batch is there"
    assert {(entry["value"], entry["version"]) for entry in entries} <= {(VALUE, 1), ("before", 1)}
    return found["left"]


@pytest.mark.parametrize("breaking", [failing_writes, failing_syncs])
def test_an_error_while_committing_ends_the_daemon_unanswered_and_the_next_start_recovers(home, breaking):
    daemon = Daemon(home).start()
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="before", value="before")
        with breaking(daemon):
            answers = answered(peer)
            assert daemon.wait() == EXIT_IO
    assert "stopping at once" in daemon.stderr()
    assert "Traceback" not in daemon.stderr()
    acknowledged = [answer.id for answer in answers]
    assert {answer.kind for answer in answers} <= {"reply"}, "nothing is refused: nobody knows what is on the disk"
    assert acknowledged == list(range(1, len(answers) + 1)), "in order, and nothing behind the first without an answer"
    assert len(answers) < REQUESTS
    with daemon, Pack(daemon.socket) as peer:
        assert peer.reply("get", key="before")["entry"]["value"] == "before"
        recovered = kept(peer)
        assert recovered >= set(acknowledged)
        assert recovered == set(range(1, len(recovered) + 1)), "what was sent later did not get ahead"
        for number in range(1, REQUESTS + 1):
            again = peer.reply("txn", **request(number))
            assert again["repeated"] is (number in recovered)
        assert kept(peer) == set(range(1, REQUESTS + 1))
        assert len(peer.reply("history", key="left/01")["versions"]) == 1


def test_a_quota_that_is_used_up_is_a_full_disk_and_no_broken_one(home: Path) -> None:
    """SQLite calls EDQUOT an I/O error while writing; the disk says that all is free."""
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="before", value="before")
        peer.reply("put", key="once", value=VALUE, request_id="once")
        eventually(lambda: peer.reply("status")["reserve_bytes"] > 0, "there is a reserve to let go of")
        with injecting(daemon, "pwrite64", "EDQUOT"):
            assert peer.call("put", key="after", value=VALUE).code == "disk_full"
            assert peer.call("put", key="after", value=VALUE).code == "disk_full"
            assert peer.reply("get", key="before")["entry"]["value"] == "before"
            assert peer.reply("put", key="once", value=VALUE, request_id="once")["repeated"]
            assert peer.reply("status")["disk"] == "low"
            assert peer.call("delete", key="before").code == "disk_full"
            assert peer.reply("status")["disk"] == "spent"
        eventually(lambda: peer.call("put", key="after", value=VALUE).kind == "reply", "writing resumes by itself")
        assert peer.reply("delete", key="before")["written"]


def test_a_broken_disk_is_not_taken_for_a_full_one(home: Path) -> None:
    daemon = Daemon(home).start()
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="before", value="before")
        with injecting(daemon, "pwrite64", "EIO"):
            peer.send(Pack.encode(1, "put", {"key": "after", "value": VALUE}))
            assert not list(peer.until_ended())
            assert daemon.wait() == EXIT_IO
