"""Backups of a real daemon: while it is written to, killed, stopped, on a full disk; and what becomes of them (P10)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from cosessiond.store.sqlite import SqliteEngine
from durability import backup_sabotage
from durability.loop import ScriptedDaemon
from harness import Daemon
from process.test_disk_full import daemon_of, fill, small
from rawclient import Pack
from server.daemons import eventually

__all__ = ["small"]


def names(home: Path) -> list[str]:
    """What lies there."""
    return sorted(path.name for path in (home / "state" / "backups").iterdir())


class Writers:
    """Four that write as fast as they can, and know what was acknowledged: (revision, key, value)."""

    def __init__(self, daemon: Daemon) -> None:
        self.acked: list[tuple[int, str, Any]] = []
        self._daemon = daemon
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        number = 0
        with Pack(self._daemon.socket) as peer:
            while not self._done.is_set():
                number += 1
                key = f"w{writer}/{number % 50}"
                written = peer.reply("put", key=key, value=[number, "y" * 500])["written"]
                self.acked.append((written["mod_revision"], key, number))


def test_a_backup_made_while_four_write_is_a_prefix_of_the_log(daemon: Daemon) -> None:
    """And large enough to be proved by a process of its own."""
    with Pack(daemon.socket) as peer:
        for number in range(200):
            peer.reply("put", key=f"k{number}", value="x" * 4_000)
        with Writers(daemon) as writers:
            eventually(lambda: len(writers.acked) > 50, "writers at work")
            made = [peer.reply("backup.now")["backup"] for _ in range(2)]
        assert [each["state"] for each in made] == ["valid", "valid"]
        assert not peer.reply("backup.verify", name=made[0]["name"])["wrong"]
    for each in made:
        stand = {f"k{number}": number + 1 for number in range(200)}
        stand |= {key: revision for revision, key, _ in sorted(writers.acked) if revision <= each["revision"]}
        path = daemon.home / "state" / "backups" / f"{each['name']}.db"
        engine = SqliteEngine.rehearse(path)
        assert {entry.id[2]: entry.mod_revision for entry in engine.entries()} == stand
        assert engine.position().revision == each["revision"]
    assert made[0]["revision"] < made[1]["revision"], "each has all that was committed before it was asked for"


def test_two_callers_get_the_same_backup(daemon: Daemon) -> None:
    """Both calls come in one piece, so that the daemon has taken both before the first step of the copy is done."""
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
        peer.send(b"".join(peer.encode(id, "backup.now", {}) for id in (98, 99)))
        answers = peer.take(2)
        assert {each.id for each in answers} == {98, 99}
        first, second = (each.body["backup"] for each in answers)
        assert first == second
        assert [each["name"] for each in peer.reply("backup.list")["backups"]] == [first["name"]]
        peer.reply("put", key="a", value=2)
        assert peer.reply("backup.now")["backup"]["revision"] == 2, "which is not in that one"


def test_a_disk_that_does_not_answer_a_backup_holds_up_no_end(home: Path) -> None:
    daemon = ScriptedDaemon(home, command=[sys.executable, backup_sabotage.__file__, "hung"])
    with daemon:
        with Pack(daemon.socket) as peer:
            peer.reply("put", key="a", value=1)
        assert daemon.stop() == 0
        assert "no time for a backup before the end" in daemon.stderr()
        assert "the disk does not answer" in daemon.stderr()
        daemon.command = ()
        daemon.start()
        assert [name for name in names(home) if "partial" in name] == []


def test_a_stop_leaves_a_backup_of_the_last_write_and_a_start_takes_up_from_it(home: Path) -> None:
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
    (made,) = [name for name in names(home) if name.endswith(".db")]
    assert made.endswith("-shutdown.db")
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        status = peer.reply("status")["backups"]
        assert (status["count"], status["newest"]["revision"], status["error"]) == (1, 1, "")
    assert len(names(home)) == 2, "nothing had changed"


def test_what_a_crash_left_is_removed_and_what_is_not_whole_is_told_of(home: Path) -> None:
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
        first = peer.reply("backup.now")["backup"]["name"]
        second = peer.reply("backup.now")["backup"]["name"]
    place = home / "state" / "backups"
    (place / f"{first}.json").unlink()
    third = f"{int(first[:20]) + 5:020d}-20260101T000000Z-demand"
    (place / f"{third}.db.partial").write_bytes(b"part")
    (place / f"{third}.json").write_bytes((place / f"{second}.json").read_bytes())
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert names(home) == sorted([f"{first}.db", f"{second}.db", f"{second}.json"])
        found = {each["name"]: each["state"] for each in peer.reply("backup.list")["backups"]}
        assert found == {first: "no_manifest", second: "valid"}
        assert "no_manifest" in daemon.stderr()
        assert peer.reply("backup.verify", name=first)["wrong"] == "its manifest is missing or damaged"


def test_a_damaged_backup_is_found_and_not_used_any_more(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value="some words")
        names = [peer.reply("backup.now")["backup"]["name"] for _ in range(2)]
        path = daemon.home / "state" / "backups" / f"{names[1]}.db"
        path.write_bytes(path.read_bytes().replace(b"some words", b"some w0rds"))
        assert "does not match its hash" in peer.reply("backup.verify")["wrong"]
        found = {each["name"]: each["state"] for each in peer.reply("backup.list")["backups"]}
        assert found == {names[0]: "valid", names[1]: "damaged"}
        assert peer.reply("status")["backups"]["newest"]["name"] == names[0]
        assert peer.code("backup.verify", name="../../etc/passwd") == "not_found"


def test_a_purge_leaves_no_backup_with_the_value(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="before", value=1)
        clean = peer.reply("backup.now")["backup"]["name"]
        peer.reply("put", key="token", value="the secret of the house")
        for _ in range(2):
            peer.reply("backup.now")
        reply = peer.reply("purge", key="token")
        assert (len(reply["backups_dropped"]), reply["backups"]) == (2, [])
        left = [each["name"] for each in peer.reply("backup.list")["backups"]]
        assert left[1:] == [clean]
        assert left[0].endswith("-purge")
    for path in (daemon.home / "state").rglob("*"):
        assert path.is_dir() or b"the secret of" not in path.read_bytes(), path


def test_there_is_a_backup_of_what_compact_drops(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        for number in range(20):
            peer.reply("put", key="a", value=number)
        peer.reply("compact", revision=10)
        (made,) = peer.reply("backup.list")["backups"]
        assert (made["reason"], made["revision"]) == ("compact", 20)
        peer.reply("compact", revision=15)
        assert len(peer.reply("backup.list")["backups"]) == 1, "it has those as well"


@pytest.fixture
def tight(small: Path) -> Iterator[Daemon]:
    """A daemon on a small disk that has no room for a copy."""
    daemon = daemon_of(small)
    with daemon:
        yield daemon


def test_on_a_full_disk_none_is_begun_and_everything_else_goes_on(tight: Daemon) -> None:
    with Pack(tight.socket) as peer:
        peer.reply("put", key="a", value="x" * 50_000)
        ballast = fill(tight.home, leave=1_500_000)
        refused = peer.call("backup.now")
        assert refused.code == "disk_full"
        error = refused.body
        assert error["data"]["needed_bytes"] > error["data"]["free_bytes"]
        assert names(tight.home) == []
        assert "the disk has" in peer.reply("status")["backups"]["error"]
        ballast.unlink()
        assert peer.reply("backup.now")["backup"]["state"] == "valid"
        assert peer.reply("status")["backups"]["error"] == ""
