"""A log of SQLite of which a part is not as it was synced: above the mark nobody else would notice; and that this is
seen when the look at it is missing.
"""

from __future__ import annotations

import random

import pytest

from cosessiond.store import walcheck
from cosessiond.store.engine import StoreBroken
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.walcheck import FRAME_BYTES, HEADER_BYTES
from store.engines import EPOCH, Place, commit, put

BATCHES = 40
#: So many are in the database.
MOVED = 9
REFUSED = -1
FRAME = FRAME_BYTES + 4_096
SEEDS = range(25)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A store with most in its log, and how much of that is used without its last transaction."""
    place = Place("sqlite", tmp_path_factory.mktemp("store"))
    engine = place.open()
    for number in range(BATCHES - 1):
        if number == MOVED:
            engine.move()
        commit(engine, put(f"k{number}", "v" * 500))
    used = engine.unmoved_bytes
    commit(engine, put("last"))
    found = [(place.directory / name).read_bytes() for name in ("store.db", "store.db-wal")]
    place.close()
    return *found, used


def revision_of(directory, database, log):
    """Where a store of these files opens."""
    (directory / "store.db").write_bytes(database)
    (directory / "store.db-wal").write_bytes(log)
    try:
        engine = SqliteEngine.open(
            directory, window=Place("", directory)._window, new_epoch=lambda: EPOCH, was_used=True
        )
    except StoreBroken:
        return REFUSED
    try:
        return engine.position().revision
    finally:
        engine.close()


def shortened(tmp_path, files):
    """The revisions at which a store with a damaged log opened as if nothing were missing."""
    database, log, used = files
    found = []
    for seed in SEEDS:
        drawn, changed = random.Random(seed), bytearray(log)
        at = drawn.randrange(HEADER_BYTES, used)
        changed[at] ^= 1 << drawn.randrange(8)
        directory = tmp_path / str(seed)
        directory.mkdir()
        revision = revision_of(directory, database, bytes(changed))
        if revision not in (REFUSED, BATCHES):
            found.append(revision)
    return found


def test_every_bit_of_a_frame_before_its_page_counts(tmp_path, files):
    """The salts among them, over which SQLite takes no sum: it stops at a frame that has others."""
    database, log, used = files
    at = HEADER_BYTES + used // FRAME // 2 * FRAME
    for byte in range(FRAME_BYTES):
        directory = tmp_path / str(byte)
        directory.mkdir()
        assert revision_of(directory, database, flipped(log, at + byte)) in (REFUSED, BATCHES), byte


def test_every_bit_of_the_header_counts(tmp_path, files):
    database, log, _ = files
    gone = bytes(HEADER_BYTES) + log[HEADER_BYTES:]
    for number, changed in enumerate([gone, *(flipped(log, byte) for byte in range(HEADER_BYTES))]):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert revision_of(directory, database, changed) == REFUSED, number


def flipped(log, byte):
    changed = bytearray(log)
    changed[byte] ^= 1 << byte % 8
    return bytes(changed)


def test_a_log_that_was_laid_out_or_never_begun_is_none(tmp_path, files):
    for number, log in enumerate([b"", bytes(HEADER_BYTES - 1), bytes(64 * 1024)]):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert revision_of(directory, files[0], log) == MOVED


def test_a_damaged_log_is_refused_or_harmless(tmp_path, files):
    assert shortened(tmp_path, files) == []
    whole = tmp_path / "whole"
    whole.mkdir()
    assert revision_of(whole, *files[:2]) == BATCHES


@pytest.mark.parametrize(
    ("name", "bug"),
    [("torn", lambda _: ""), ("_later", lambda *_: ""), ("_Log.sums", lambda _log, frame, _before: frame.sums)],
    ids=["nobody looks", "nothing behind it counts", "every frame holds"],
)
def test_a_look_that_misses_it_is_caught(tmp_path, files, monkeypatch, name, bug):
    monkeypatch.setattr(f"cosessiond.store.walcheck.{name}", bug)
    assert shortened(tmp_path, files)


def test_a_look_that_believes_every_header_is_caught(tmp_path, files, monkeypatch):
    monkeypatch.setattr(walcheck, "_unlike_a_header", lambda *_: "")
    assert revision_of(tmp_path, files[0], flipped(files[1], 17)) == MOVED
