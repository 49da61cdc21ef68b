"""What only the SQLite engine has: a recorded position, and the cost of a range compare."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cosession.errors import ConfigError
from cosessiond.store import schema
from cosessiond.store.engine import (
    Committed,
    Conflicted,
    Engine,
    Entry,
    EntryId,
    RangeCompare,
    StoreBroken,
    Window,
    Write,
)
from cosessiond.store.live import Live
from cosessiond.store.sqlite import WAL_BYTES, SqliteEngine
from store.engines import EPOCH, Place, batch, commit, delete, expect, id_of, merge, one, put, value_now


def opened(directory: Path, *, was_used: bool = False) -> SqliteEngine:
    return SqliteEngine.open(directory, window=Window(), new_epoch=lambda: EPOCH, was_used=was_used)


def recorded(directory: Path, column: str) -> int:
    with closing(sqlite3.connect(directory / "store.db")) as db:
        (value,) = db.execute(f"SELECT {column} FROM meta").fetchone()  # noqa: S608 - of this file
    return int(value)


def test_the_position_counts_every_batch_also_those_that_changed_nothing(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    for _ in range(3):
        assert isinstance(one(engine, batch(put("a"), when=(expect("a", "version", 9),))), Conflicted)
    commit(engine, put("a"))
    engine.close()
    assert recorded(tmp_path, "applied_position") == 4
    assert recorded(tmp_path, "revision") == 1


def test_the_epoch_is_in_the_database_file_from_the_first_moment(tmp_path: Path) -> None:
    """So that whoever loses the log is behind in its epoch, and does not begin another one unnoticed."""
    engine = opened(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "store.db").write_bytes((tmp_path / "store.db").read_bytes())
    engine.close()
    again = SqliteEngine.open(copy, window=Window(), new_epoch=lambda: "another", was_used=True)
    assert again.position().epoch == EPOCH
    again.close()


def test_a_start_writes_and_syncs_anew_what_it_recovered(tmp_path: Path) -> None:
    """After a failed sync the system may show what is not on the disk, so the log alone is not believed for long."""
    engine = opened(tmp_path)
    commit(engine, put("a", "x" * 50_000))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("store.db", "store.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    engine.close()
    again = opened(copy, was_used=True)
    assert again.unmoved_bytes == 0
    assert value_now(again, "a") == "x" * 50_000
    assert (copy / "store.db").stat().st_size > 100_000
    again.close()


@pytest.mark.parametrize("settled", [0, 3, 6])
def test_a_start_brings_the_tables_up_to_the_log(tmp_path: Path, settled: int) -> None:
    """After a SIGKILL everything is as if the tables had never been behind."""
    place = Place("sqlite", tmp_path)
    engine = place.open()
    writes: list[Write] = [put("a"), put("b", {"x": 1}, ttl_ms=5, owner="s"), merge("b", {"y": 2}), delete("a")]
    for number, write in enumerate([*writes, put("a", "again"), put("c")]):
        commit(engine, write, session="s1", request=f"r{number}")
    for _ in range(settled):
        assert engine.settle(1)

    def everything(engine: Engine) -> list[object]:
        ids = [id_of(key) for key in "abc"]
        past = [engine.entry_at(id, revision) for id in ids for revision in range(1, 7)]
        return [list(engine.entries()), engine.position(), [engine.history(id, 50, 0) for id in ids], past]

    expected = everything(engine)
    again = place.crash()
    assert again.unsettled_rows == 0
    assert everything(again) == expected
    repeated = one(again, batch(put("c"), session="s1", request="r5"))
    assert isinstance(repeated, Committed)
    assert (repeated.repeated, repeated.revision) == (True, 6)
    place.close()
    assert recorded(place.directory, "applied_revision") == 6


def test_an_id_that_was_forgotten_and_used_again_is_known_while_it_is_behind(tmp_path: Path) -> None:
    """Writing what its first use left behind must not take its second one along."""
    engine = SqliteEngine.open(tmp_path, window=Window(request_ids=1), new_epoch=lambda: EPOCH)
    for request in ("r1", "r2", "r1"):
        commit(engine, put("a"), request=request)
    assert engine.settle(1)
    repeated = one(engine, batch(put("a"), request="r1"))
    assert isinstance(repeated, Committed)
    assert (repeated.repeated, repeated.revision) == (True, 3)
    engine.close()


def test_the_tables_follow_the_log_in_slices(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    for number in range(10):
        commit(engine, put(f"k{number}"), request=f"r{number}")
    behind = engine.unsettled_rows
    assert engine.settle(behind // 2)
    assert 0 < engine.unsettled_rows < behind
    assert engine.settle(behind)
    assert engine.unsettled_rows == 0
    engine.close()


def test_a_full_disk_keeps_what_is_behind_and_shows_it_all_the_same(tmp_path: Path) -> None:
    """Reads of the past go on; when there is room again nothing is missing."""
    engine = opened(tmp_path)
    for number in range(100):
        commit(engine, put("a", "x" * 1_000 + str(number)))
    (pages,) = engine._db.execute("PRAGMA page_count").fetchone()
    engine._db.execute(f"PRAGMA max_page_count = {pages}")
    assert not engine.settle(1_000)
    assert len(engine.history(id_of("a"), 50, 0)) == 50
    past = engine.entry_at(id_of("a"), 42)
    assert past is not None
    assert past.mod_revision == 42
    assert engine.trim(1_000) == 0
    engine._db.execute("PRAGMA max_page_count = 1000000")
    assert engine.settle(1_000)
    assert engine.entry_at(id_of("a"), 42) == past
    engine.close()


def test_the_log_of_sqlite_is_overwritten_and_not_grown(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    wal = tmp_path / "store.db-wal"
    for number in range(50):
        commit(engine, put("a", "x" * 1_000 + str(number)))
    full = engine.unmoved_bytes
    size = wal.stat().st_size
    assert full > 50 * 1_000
    engine.move()
    assert engine.unmoved_bytes == 0
    assert wal.stat().st_size == size
    commit(engine, put("a"))
    assert 0 < engine.unmoved_bytes < full
    assert wal.stat().st_size == size
    assert engine.erase()
    assert engine.unmoved_bytes == 0
    assert wal.stat().st_size == WAL_BYTES
    engine.close()


def test_a_used_directory_without_a_position_is_no_new_store(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as db, db:
        db.execute("DELETE FROM meta")
    with pytest.raises(StoreBroken, match="position is gone"):
        opened(tmp_path, was_used=True)


def test_a_full_disk_refuses_the_group_and_denies_nothing_that_was_committed(tmp_path: Path) -> None:
    """The limit on pages makes SQLite say what it says on a full disk."""
    engine = opened(tmp_path)
    first = batch(put("a"), request="r1")
    done = one(engine, first)
    assert isinstance(done, Committed)
    (pages,) = engine._db.execute("PRAGMA page_count").fetchone()
    engine._db.execute(f"PRAGMA max_page_count = {pages}")
    fresh = batch(put("b"), request="r2")
    large = batch(put("large", "x" * 200_000))
    outcomes = engine.apply([first, fresh, fresh, large, batch(put("c"), when=(expect("b", "version", 1),))])
    assert [getattr(outcome, "code", "") for outcome in outcomes] == ["", *["disk_full"] * 4]
    assert outcomes[0] == replace(done, repeated=True)
    assert engine.position().revision == done.revision
    engine._db.execute("PRAGMA max_page_count = 1000000")
    again = one(engine, fresh)
    assert isinstance(again, Committed)
    assert not again.repeated
    engine.close()


def entry(key: str, revision: int) -> Entry:
    return Entry(id_of(key), b"", 1, revision, revision, 0, "", 0, "", b"")


class Counted(dict[EntryId, Entry]):
    """Counts how many entries were looked at."""

    looks = 0

    def __getitem__(self, id: EntryId) -> Entry:
        self.looks += 1
        return super().__getitem__(id)

    def values(self) -> Any:
        return Newest(self)


class Newest:
    """The entries of a `Counted`, newest first."""

    def __init__(self, entries: Counted) -> None:
        self._entries = entries

    def __reversed__(self) -> Iterator[Entry]:
        for id in reversed(self._entries):
            yield self._entries[id]


@pytest.mark.parametrize(
    ("prefix", "bound"),
    [("few/", 0), ("many/", 1_002), ("few/", 500), ("absent/", 0)],
    ids=["a small prefix", "a late bound", "both", "nothing there"],
)
def test_a_range_compare_looks_at_few_entries_when_few_can_matter(prefix: str, bound: int) -> None:
    entries = [entry(f"many/{number}", number + 1) for number in range(1_000)]
    entries += [entry(f"few/{number}", 1_001 + number) for number in range(3)]
    live = Live(entries)
    live._entries = counted = Counted(live._entries)
    newest_first = [each for each in entries if each.id[2].startswith(prefix) and each.mod_revision > bound]
    expected = min(newest_first, key=lambda each: each.id, default=None)
    assert live.first_newer(RangeCompare("context", "p", prefix, bound), hidden=()) == expected
    assert counted.looks <= 7


@pytest.mark.parametrize(("platform", "full"), [("darwin", 1), ("linux", 0)])
def test_sqlite_is_told_to_make_the_drive_of_a_mac_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, full: int
) -> None:
    monkeypatch.setattr(schema.sys, "platform", platform)
    with closing(schema.open_database(tmp_path / "store.db", was_used=False)) as db:
        shown = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("fullfsync", "checkpoint_fullfsync")]
        assert shown == [full, full]


def test_what_an_earlier_round_left_in_a_torn_frame_is_not_taken_for_another_program(tmp_path: Path) -> None:
    """A power cut may keep the head of a frame and lose its page, where the bytes of an earlier round still stand."""
    engine = opened(tmp_path)
    for size in (4_000, 4_000, 9_000):
        for number in range(60):
            commit(engine, put(f"{size}/{number}", "x" * size))
            engine.settle(512)
        if size < 9_000:
            engine.move()
    wal = tmp_path / "store.db-wal"
    revision, before = engine.position().revision, wal.read_bytes()
    commit(engine, put("torn", "x" * 60_000))
    after, frame = bytearray(wal.read_bytes()), 24 + int.from_bytes(before[8:12])
    heads = range(32, len(after) - frame, frame)
    (torn,) = [at for at in heads if before[at : at + 24] != after[at : at + 24] and after[at : at + 4] == b"\0\0\0\1"]
    after[torn + 24 : torn + frame] = b"x" * (frame - 24)  # a page of a large value
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "store.db").write_bytes((tmp_path / "store.db").read_bytes())
    (copy / "store.db-wal").write_bytes(after)
    engine.close()
    again = opened(copy, was_used=True)
    assert again.position().revision == revision
    again.close()


def test_two_frames_of_an_earlier_round_under_a_torn_transaction_are_no_damage(tmp_path: Path) -> None:
    """A power cut may keep the last frame of a transaction that was not synced, and lose those before it."""
    engine = opened(tmp_path)
    for number in range(40):  # one frame each, one behind the other
        commit(engine, put("early", number))
    engine.settle(512)
    engine.move()
    for number in range(5):
        commit(engine, put("late", number))
    wal = tmp_path / "store.db-wal"
    revision, before = engine.position().revision, wal.read_bytes()
    commit(engine, put("torn", "x" * 20_000))
    after, frame = bytearray(wal.read_bytes()), 24 + int.from_bytes(before[8:12])
    changed = [at for at in range(32, len(after) - frame, frame) if before[at : at + frame] != after[at : at + frame]]
    assert len(changed) > 3
    after[changed[0] : changed[-1]] = before[changed[0] : changed[-1]]
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "store.db").write_bytes((tmp_path / "store.db").read_bytes())
    (copy / "store.db-wal").write_bytes(after)
    engine.close()
    again = opened(copy, was_used=True)
    assert again.position().revision == revision
    again.close()


def test_what_a_killed_daemon_left_in_the_log_is_synced_before_anything_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut keeps what follows and loses that, which looks like damage."""
    engine = opened(tmp_path)
    commit(engine, put("a"))
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("store.db", "store.db-wal"):
        (killed / name).write_bytes((tmp_path / name).read_bytes())
    engine.close()
    inode = (killed / "store.db-wal").stat().st_ino
    happened: list[object] = []
    connect = sqlite3.connect
    monkeypatch.setattr(schema, "sync", lambda descriptor: happened.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(
        schema.sqlite3, "connect", lambda *given, **named: happened.append("connect") or connect(*given, **named)
    )
    opened(killed, was_used=True).close()
    assert happened == [inode, "connect"]


#: Of a database of one page of 4,096 bytes.
FIRST_SECTOR = (b"SQLite format 3\0" + bytes.fromhex("100002020040202000000001") + (1).to_bytes(4)).ljust(512, b"\0")


@pytest.mark.parametrize(
    "page",
    [bytes(4_096), bytes(512) + b"x" * 3_584, FIRST_SECTOR],
    ids=["only a length", "without the first sector", "only the first sector"],
)
def test_a_power_cut_in_the_very_first_page_is_a_beginning(tmp_path: Path, page: bytes) -> None:
    """SQLite writes it under a rollback journal, which empties the file again; the file alone is nobody's."""
    (tmp_path / "store.db").write_bytes(page)
    with pytest.raises((ConfigError, StoreBroken), match=r"not a cosession database|bytes are missing"):
        opened(tmp_path)
    magic, records, nonce, pages, sector_bytes, page_bytes = bytes.fromhex("d9d505f920a163d7"), 0, 1, 0, 512, 4_096
    header = magic + struct.pack(">5I", records, nonce, pages, sector_bytes, page_bytes)
    (tmp_path / "store.db-journal").write_bytes(header.ljust(sector_bytes, b"\0"))
    engine = opened(tmp_path)
    assert engine.position().revision == 0
    engine.close()
