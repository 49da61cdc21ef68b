"""A full disk: writes are refused and say so, reads and watches go on, and writing resumes by itself (P12).

On a small file system of its own, which only root can mount.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Daemon
from process.starting import attempt
from rawclient import Pack, Peer
from server.daemons import eventually

SIZE = 8 << 20
BALLAST = 64 * 1024


def mounted(path: Path) -> bool:
    """Whether a small file system could be mounted there."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(home: Path) -> Iterator[Path]:
    """A home on a file system of 8 MiB."""
    place = home / "small"
    place.mkdir()
    if not mounted(place):
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def daemon_of(home: Path) -> Daemon:
    """A daemon whose log is elsewhere, so that what it says of a full disk can be read."""
    daemon = Daemon(home)
    daemon.log = home.parent / "stderr.log"
    return daemon


def fill(home: Path, *, leave: int = 0) -> Path:
    """Take all the space but `leave` bytes; the ballast."""
    ballast = home / "ballast"
    with ballast.open("ab", buffering=0) as file:
        size = BALLAST
        while size:
            try:
                if not file.write(b"x" * size):
                    size //= 2
            except OSError:
                size //= 2
        if leave:
            file.truncate(max(0, file.tell() - leave))
    return ballast


def written(peer: Peer, key: str, size: int) -> str:
    found = peer.call("put", key=key, value="x" * size)
    return found.code or found.kind


def test_writes_are_refused_reads_go_on_and_writing_resumes_by_itself(small: Path) -> None:
    with daemon_of(small) as daemon, Pack(daemon.socket) as peer, Pack(daemon.socket) as watcher:
        watcher.reply("watch", prefix="k", start_revision=1)
        assert written(peer, "k0", 1000) == "reply"
        ballast = fill(small)
        revision = peer.reply("ping")["revision"]
        outcomes = [written(peer, f"k{number}", 50_000) for number in range(1, 20)]
        assert "disk_full" in outcomes
        full_from = outcomes.index("disk_full")
        assert set(outcomes[full_from:]) == {"disk_full"}, "no write slips through while the disk is full"
        error = peer.call("put", key="k", value="x" * 50_000)
        assert error.body["retryable"]
        assert "free space" in error.body["message"]
        assert peer.reply("ping")["revision"] == revision + full_from, "what was refused took no revision"
        assert peer.reply("get", key="k0")["entry"]["value"] == "x" * 1000
        assert len(peer.reply("range")["entries"]) == full_from + 1
        assert peer.reply("history", key="k0")["versions"]
        assert peer.reply("get", key="k0", at_revision=revision)["entry"]
        with Pack(daemon.socket) as another:
            assert another.reply("watch", prefix="k")
            assert another.next().body["kind"] == "snapshot"
        ballast.unlink()
        assert written(peer, "after", 50_000) == "reply", "at once, without a restart"
        events = [watcher.next().body for _ in range(full_from + 1)]
        assert [event["revision"] for event in events] == list(range(1, full_from + 2)), "the watch has no gap"
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        daemon.start()
        with Pack(daemon.socket) as fresh:
            assert fresh.reply("get", key="after")["entry"]
            assert len(fresh.reply("range", prefix="k")["entries"]) == full_from + 1


def test_a_group_that_does_not_fit_is_refused_whole_and_nothing_of_it_is_there(small: Path) -> None:
    with daemon_of(small) as daemon, Pack(daemon.socket) as peer:
        fill(small, leave=200_000)
        frames = (Pack.encode(number, "put", {"key": f"k{number}", "value": "x" * 20_000}) for number in range(1, 101))
        peer.send(b"".join(frames))
        answers = peer.take(100)
        kept = {f"k{answer.id}" for answer in answers if answer.kind == "reply"}
        assert {answer.code for answer in answers if answer.kind == "error"} == {"disk_full"}
        assert {entry["key"] for entry in peer.reply("range", keys_only=True)["entries"]} == kept


def test_a_request_id_that_was_refused_for_space_is_free(small: Path) -> None:
    with daemon_of(small) as daemon, Pack(daemon.socket) as peer:
        ballast = fill(small)
        while (found := peer.call("put", key="k", value="x" * 50_000, request_id="once")).kind == "reply":
            peer.reply("put", key="filler", value="x" * 50_000)
        assert found.code == "disk_full"
        ballast.unlink()
        again = peer.reply("put", key="k", value="x" * 50_000, request_id="once")
        assert again["repeated"] in (False, True)
        assert peer.reply("put", key="k", value="x" * 50_000, request_id="once")["repeated"]


def reserve(peer: Peer) -> int:
    """Bytes in reserve; all of them, when what fills up the disk has gone."""
    held: int = peer.reply("status")["reserve_bytes"]
    return held


def is_whole(peer: Peer) -> bool:
    status = peer.reply("status")
    return bool(status["disk"] == "enough" and status["reserve_bytes"] == status["reserve_bytes_max"] > 0)


def test_what_ends_goes_on_out_of_the_reserve_until_that_is_spent(small: Path) -> None:
    """Deletions, the time of an entry, the end of a session: on a disk without a byte left."""
    with daemon_of(small) as daemon, Pack(daemon.socket) as peer, Pack(daemon.socket) as watcher:
        for number in range(64):
            peer.reply("put", key=f"k{number:02}", value="x" * 500)
        session = peer.reply("session.register", name="otter")["session"]["id"]
        peer.reply("put", key="own", value=1, ephemeral=True, session=session)
        eventually(lambda: is_whole(peer), "the reserve is held")
        whole = reserve(peer)
        assert (small / "state" / "reserve").stat().st_blocks * 512 >= whole, "really"
        peer.reply("put", key="leased", value=1, ttl_s=0.5)
        watcher.reply("watch", prefix="leased", start_revision=peer.reply("ping")["revision"] + 1)
        ballast = fill(small)
        assert written(peer, "more", 1) == "disk_full", "not even a little"
        assert watcher.next().body["changes"][0]["kind"] == "expire"
        assert peer.reply("session.close", session=session)["session"]["state"] == "closed"
        assert peer.reply("get", key="own")["entry"] is None
        number = 0
        while (found := peer.call("delete", key=f"k{number:02}")).kind == "reply":
            number += 1
            fill(small)  # whatever the daemon lets go of, somebody else is faster with most of it
        assert number > 2
        assert found.code == "disk_full"
        assert "reserve is spent" in found.body["message"]
        status = peer.reply("status")
        assert (status["disk"], status["reserve_bytes"]) == ("spent", 0)
        assert status["counters"]["reserve.given_up_bytes"] == whole
        assert status["counters"]["limit.disk_spent"] >= 1
        assert "the reserve is spent" in daemon.stderr()
        ballast.unlink()
        eventually(lambda: is_whole(peer), "it is held again, though nobody writes")
        assert "writing goes on" in daemon.stderr()
        assert written(peer, "after", 1000) == "reply"
        left = {entry["key"] for entry in peer.reply("range", prefix="k", keys_only=True)["entries"]}
        assert left == {f"k{each:02}" for each in range(number, 64)}
    assert (small / "state" / "reserve").stat().st_size == whole


def test_the_answer_to_a_repeat_is_its_outcome_also_on_a_full_disk(small: Path) -> None:
    with daemon_of(small) as daemon, Pack(daemon.socket) as peer:
        first = peer.reply("put", key="k", value=1, request_id="once")
        fill(small)
        assert written(peer, "filler", 1000) == "disk_full"
        again = peer.reply("put", key="k", value=1, request_id="once")
        assert again["repeated"]
        assert again["written"] == first["written"]
        assert peer.call("put", key="k", value=2, request_id="once").code == "request_id_reused"


def test_a_daemon_stops_in_order_and_starts_again_on_a_full_disk(small: Path) -> None:
    """Reads are served from the first moment; nothing is lost by either."""
    daemon = daemon_of(small).start()
    with Pack(daemon.socket) as peer:
        for number in range(10):
            peer.reply("put", key=f"k{number}", value="x" * 20_000)
        ballast = fill(small)
        assert written(peer, "filler", 50_000) == "disk_full"
    assert daemon.stop() == 0, daemon.stderr()
    fill(small)
    try:
        daemon.start()
        with Pack(daemon.socket) as peer:
            assert len(peer.reply("range", prefix="k")["entries"]) == 10
            ballast.unlink()
            eventually(lambda: written(peer, "after", 50_000) == "reply", "writing resumes")
    finally:
        if daemon.running:
            daemon.stop()


def test_a_first_start_on_a_full_disk_is_refused_with_the_reason(small: Path) -> None:
    ballast = fill(small)
    ended = attempt(small)
    assert ended.returncode in (70, 78), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "full" in ended.stderr or "space" in ended.stderr
    assert "restore a backup" not in ended.stderr, "that is not what helps"
    ballast.unlink()
    with daemon_of(small) as daemon, Pack(daemon.socket) as peer:
        assert peer.reply("put", key="a", value=1)
