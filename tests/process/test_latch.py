"""A disk that fails again and again: the daemon comes back read-only, and stays so until a user says otherwise (P13).

What counts together is decided by numbers here; that a daemon really notes its end, with failing writes and failing
syncs of the kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cosessiond.process import latch as latch_module
from cosessiond.process.latch import LATCH, STOPS, STOPS_MAX, WINDOW_S, FailStop, Latch, too_many
from harness import Daemon
from process.starting import EXIT_IO
from process.test_io_error import VALUE, failing_syncs, failing_writes
from rawclient import Pack
from server.daemons import eventually

BOOT = "boot-1"


def stop(monotonic_s: float, boot: str = BOOT, reason: str = "disk I/O error") -> FailStop:
    return FailStop(boot, monotonic_s, 1_000, reason)


@pytest.fixture
def places(home: Path) -> Iterator[tuple[Path, Path, Latch]]:
    state, run = home / "state", home / "run"
    for place in (state, run):
        place.mkdir(mode=0o700)
    descriptor = os.open(state, os.O_RDONLY)
    try:
        yield state, run, Latch(state, descriptor, run)
    finally:
        os.close(descriptor)


#: Moments and boots of fail-stops, and whether they are too many.
CASES: tuple[tuple[Sequence[FailStop], bool], ...] = (
    ((), False),
    ((stop(1), stop(2)), False),
    ((stop(1), stop(2), stop(3)), True),
    ((stop(0), stop(1), stop(WINDOW_S)), True),
    ((stop(0), stop(1), stop(WINDOW_S + 1)), False),
    ((stop(0), stop(5_000), stop(5_001), stop(5_002)), True),
    ((stop(1, "boot-0"), stop(2), stop(3)), False),
    ((stop(5_000, "boot-0"), stop(1), stop(2)), False),
    ((stop(5_000, ""), stop(1, ""), stop(2, "")), False),
)


def judged() -> list[bool]:
    return [latch_module.too_many(stops) for stops, _ in CASES]


def test_three_within_ten_minutes_of_one_boot_are_too_many() -> None:
    assert judged() == [expected for _, expected in CASES]


def any_boot(stops: Sequence[FailStop]) -> bool:
    return too_many([stop(each.monotonic_s) for each in stops])


def any_time(stops: Sequence[FailStop]) -> bool:
    return len(stops) >= STOPS_MAX


def by_wall_clock(stops: Sequence[FailStop]) -> bool:
    return too_many([stop(each.time_ms / 1000, each.boot_id) for each in stops])


@pytest.mark.parametrize("bug", [any_boot, any_time, by_wall_clock])
def test_a_wrong_way_to_count_is_caught(
    bug: Callable[[Sequence[FailStop]], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latch_module, "too_many", bug)
    assert judged() != [expected for _, expected in CASES]


def test_the_third_writes_the_latch_and_only_clear_removes_it(places: tuple[Path, Path, Latch]) -> None:
    state, _, latch = places
    assert latch.reason() == ""
    assert not latch.clear()
    for at in range(STOPS_MAX):
        assert not (state / LATCH).exists()
        assert latch.note(stop(at, reason=f"error {at}"))
    assert (state / LATCH).stat().st_mode & 0o777 == 0o600
    reason = latch.reason()
    assert "3 times within 10 min" in reason
    assert "error 2" in reason
    assert "cosession start --force" in reason
    latch.note(stop(9_000))
    assert latch.reason(), "time alone does not end it"
    assert latch.clear()
    assert sorted(path.name for path in state.iterdir()) == []
    assert latch.reason() == ""


def test_what_cannot_be_read_is_a_latch_all_the_same(places: tuple[Path, Path, Latch]) -> None:
    state, _, latch = places
    (state / LATCH).write_bytes(b"")
    assert "cosession start --force" in latch.reason()
    (state / LATCH).unlink()
    (state / LATCH).symlink_to("nowhere")
    assert latch.reason()
    assert latch.clear()


def test_a_record_that_does_not_match_its_hash_counts_for_nothing(places: tuple[Path, Path, Latch]) -> None:
    state, _, latch = places
    latch.note(stop(1))
    latch.note(stop(2))
    text = (state / STOPS).read_text()
    (state / STOPS).write_text(text.replace("disk I/O error", "disk I/O errors"))
    latch.note(stop(3))
    assert latch.reason() == ""


def test_what_the_disk_does_not_take_goes_beside_the_socket_and_is_taken_in_later(
    places: tuple[Path, Path, Latch], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, run, latch = places
    latch.note(stop(1))

    def fails(*_: Any) -> None:
        raise OSError("the disk is broken")

    with monkeypatch.context() as broken:
        broken.setattr(latch_module, "write_whole", fails)
        latch.note(stop(2))
        assert latch.reason() == ""
        latch.note(stop(3))
        assert latch.reason(), "also where nothing of it can be put in its place"
        assert not (state / LATCH).exists()
        assert (run / STOPS).exists()
    assert latch.reason()
    assert (state / LATCH).exists()
    assert not (run / STOPS).exists()


def test_a_daemon_whose_disk_failed_three_times_serves_reads_until_it_is_forced(home: Path) -> None:
    daemon = Daemon(home).start()
    try:
        read_only_until_forced(daemon)
    finally:
        if daemon.running:
            daemon.kill()


def read_only_until_forced(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        for number in range(5):
            peer.reply("put", key=f"k{number}", value=number, **({"ttl_s": 0.2} if number == 4 else {}))
        eventually(lambda: peer.reply("get", key="k4")["entry"] is None, "it has expired")
        session = peer.reply("session.register", name="otter")["session"]["id"]
        revision = peer.reply("ping")["revision"]
    for breaking in (failing_writes, failing_syncs, failing_writes):
        if not daemon.running:
            daemon.start()
        with Pack(daemon.socket) as peer, breaking(daemon):
            frames = [Pack.encode(n, "put", {"key": "new", "value": VALUE * 10}) for n in range(1, 20)]
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be gone before all is sent
                peer.send(b"".join(frames))
            list(peer.until_ended())
            assert daemon.wait() == EXIT_IO
    with daemon, Pack(daemon.socket) as peer:
        database = daemon.database.read_bytes()
        status = peer.reply("status")
        assert "failed 3 times" in status["read_only"]
        for method, params in (
            ("put", {"key": "k", "value": 1}),
            ("delete", {"key": "k0"}),
            ("compact", {"revision": 1}),
            ("session.register", {"name": "badger"}),
            ("session.close", {"session": session}),
        ):
            refused = peer.call(method, **params)
            assert refused.code == "read_only", method
            assert "cosession start --force" in refused.body["message"]
        assert [entry["key"] for entry in peer.reply("range", prefix="k")["entries"]] == ["k0", "k1", "k2", "k3"]
        assert peer.reply("history", key="k4")["versions"]
        with Pack(daemon.socket) as watcher:
            watcher.reply("watch", prefix="k", start_revision=1)
            assert watcher.next().body["revision"] == 1
        assert peer.reply("ping")["revision"] >= revision
        assert daemon.database.read_bytes() == database
    daemon.start()  # a restart does not end it
    forced(daemon)


def forced(daemon: Daemon) -> None:
    """`cosession start --force` replaces the daemon that is read-only by one that writes, and that is on record."""
    env = {**daemon.env, "COSESSION_NO_SPAWN": "0"}
    command = [str(Path(sys.executable).with_name("cosession")), "start", "--force", "--json"]
    before = daemon.pid
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    assert answer["started"]
    assert daemon.wait() == 0, before
    with Pack(daemon.socket) as peer:
        assert peer.reply("status")["read_only"] == ""
        assert peer.reply("put", key="after", value=1)["written"]
        eventually(lambda: "unlatch" in operations(peer), "it is in the audit")
        peer.reply("admin.stop")
    eventually(lambda: not daemon.processes(), "it has ended")
    assert not (daemon.home / "state" / LATCH).exists()


def operations(peer: Pack) -> list[str]:
    return [record["operation"] for record in peer.reply("audit")["records"]]
