"""What a purge leaves in the files: nothing, whatever the store has been through, and whenever it was killed.

Rule: every file of the directory is searched for the bytes of the values, not only those that are known to have them.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from cosessiond.store import purging, schema
from cosessiond.store.engine import Engine, Window
from cosessiond.store.sqlite import SqliteEngine
from store.engines import EPOCH, Place, batch, commit, delete, id_of, put, trim_all

KILLED = Path(__file__).with_name("purging_until_killed.py")
KEY = "secret"


def held(directory: Path, text: bytes) -> list[str]:
    """The files that have these bytes."""
    return [path.name for path in sorted(directory.rglob("*")) if path.is_file() and text in path.read_bytes()]


def purge_all(engine: Engine, key: str) -> None:
    after, more = 0, True
    while more:
        done = engine.purge(id_of(key), before=1 << 40, after=after, rows_max=64)
        assert done is not None
        after, more = done.reached, done.more
    assert engine.erase()


@pytest.fixture
def sqlite(tmp_path: Path) -> Place:
    return Place("sqlite", tmp_path)


def fill(engine: Engine, seed: int, versions: int = 400) -> None:
    """Many entries of all sizes that come, change and go, so that SQLite moves rows; the secret among them."""
    chance = random.Random(seed)
    group = []
    for number in range(versions):
        size = chance.choice((0, 10, 200, 600, 3_000, 20_000))
        text = f"<secret {number:05d}>" + "x" * size
        writes = [put(KEY, text), put(f"k{chance.randrange(300)}", "y" * chance.randrange(900))]
        if chance.random() < 0.3:
            writes.append(delete(f"k{chance.randrange(300)}"))
        ids = {write.id for write in writes}
        group.append(batch(*(writes if len(ids) == len(writes) else writes[:2]), request=f"r{number}"))
        if len(group) == 20:
            engine.apply(group)
            group = []
        if chance.random() < 0.1:
            engine.settle(50)
        if chance.random() < 0.05:
            engine.move()
    engine.apply(group)
    commit(engine, delete(KEY))


@pytest.mark.parametrize("window", [Window(), Window(log_revisions=50)], ids=["whole", "trimmed"])
def test_no_byte_of_the_values_is_left_in_any_file(sqlite: Place, window: Window) -> None:
    engine = sqlite.open(window)
    fill(engine, seed=len(str(window)))
    trim_all(engine)
    assert held(sqlite.directory, b"<secret")
    purge_all(engine, KEY)
    assert held(sqlite.directory, b"<secret") == []
    commit(engine, put("after", 1))
    engine = sqlite.reopen()
    assert held(sqlite.directory, b"<secret") == []
    assert engine.position().epoch == EPOCH
    sqlite.close()


def test_without_writing_the_file_anew_bytes_would_be_left(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the search can find something: with an emptied WAL alone, copies stay where SQLite has moved rows."""
    chance = random.Random(0)
    engine = sqlite.open(Window(log_revisions=200))
    for number in range(0, 1_200, 50):
        texts = [f"<secret {number + each:05d}>" + "x" * chance.randrange(1_500) for each in range(50)]
        engine.apply([batch(put(f"k{chance.randrange(10**6)}", text)) for text in texts])
        engine.settle(1 << 20)
        trim_all(engine)
    keys = [entry.id[2] for entry in engine.entries()]
    engine.apply([batch(delete(key)) for key in keys[::3]])
    monkeypatch.setattr(purging, "erase", schema.checkpoint)
    for key in keys[::3]:
        assert engine.purge(id_of(key), before=1 << 40, after=0, rows_max=64)
    assert engine.erase()
    raw = (sqlite.directory / "store.db").read_bytes()
    standing = {entry.value[3:20] for entry in engine.entries()}
    texts = [f"<secret {number:05d}>".encode() for number in range(1_200)]
    left = [text for text in texts if text in raw and not any(text in each for each in standing)]
    assert left, "no copy was left behind: is the rewrite still needed?"


@pytest.mark.parametrize("slices", [0, 1, 3, 20])
def test_killed_at_any_moment_it_is_finished_by_doing_it_again(tmp_path: Path, slices: int) -> None:
    engine = SqliteEngine.open(tmp_path, window=Window(), new_epoch=lambda: EPOCH)
    fill(engine, seed=slices, versions=200)
    engine.close()
    killed = subprocess.run([sys.executable, KILLED, tmp_path, str(slices)], check=False)
    assert killed.returncode == -9
    engine = SqliteEngine.open(tmp_path, window=Window(), new_epoch=lambda: EPOCH)
    assert len(engine.changes(0, 10_000, 1 << 40)) == engine.position().revision
    purge_all(engine, KEY)
    assert held(tmp_path, b"<secret") == []
    engine.close()
    assert held(tmp_path, b"<secret") == []
