"""Keys that have ended, in SQLite: how much stays, what one slice takes, what older code left; and a random life.

Rule: rows are counted in the database itself; no clocks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from cosessiond.store.ended import Ended
from cosessiond.store.engine import Delete, EntryId, Put, StoreBroken, Window
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.migrations import SCHEMA
from cosessiond.store.sqlite import SqliteEngine
from store.engines import EPOCH, NAMES, Place, batch, commit, delete, id_of, put, raw, trim_all
from store.seeded import FAULTS
from store.test_bounded_work import Counter

WINDOW = Window(log_revisions=20, versions=50, request_ids=50)
SMALL = Window(log_revisions=5, versions=4)

Open = Callable[[], SqliteEngine]


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Open]:
    """Opens the store of this test, closing what was open of it."""
    opened: list[SqliteEngine] = []

    def make(window: Window = WINDOW) -> SqliteEngine:
        for engine in opened:
            engine.close()
        opened.clear()
        opened.append(SqliteEngine.open(tmp_path, window=window, new_epoch=lambda: EPOCH))
        return opened[0]

    yield make
    for engine in opened:
        engine.close()


def count(engine: SqliteEngine, table: str, where: str = "true") -> int:
    """How many rows there are."""
    (rows,) = engine._db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()  # noqa: S608 - of this file
    return int(rows)


def settle(engine: SqliteEngine) -> None:
    while engine.unsettled_rows:
        assert engine.settle(4_096)


def churn(engine: SqliteEngine, first: int, keys: int, value: str = "") -> None:
    """New keys that are put and deleted, 25 in a group; trimmed as it goes."""
    for start in range(first, first + keys, 25):
        names = [f"k{number}" for number in range(start, start + 25)]
        engine.apply([batch(write) for name in names for write in (put(name, value), delete(name))])
        settle(engine)
        trim_all(engine)


def test_ever_new_keys_leave_nothing_but_what_the_window_holds(open_engine: Open) -> None:
    engine = open_engine()
    commit(engine, put("stays", 1))
    sizes = []
    for round_ in range(4):
        churn(engine, 1_000 * round_, 1_000, "x" * 300)
        assert count(engine, "versions") <= 2 + WINDOW.log_revisions
        assert count(engine, "log") == WINDOW.log_revisions
        assert (count(engine, "entries"), count(engine, "ended")) == (1, 0)
        sizes.append(engine.stored_bytes)
    assert max(sizes) < 1.5 * sizes[0]


def test_that_they_would_stay_is_seen(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ended, "end", lambda *_: 1)
    engine = open_engine()
    churn(engine, 0, 200)
    assert count(engine, "versions") == 400


def large_ends(engine: SqliteEngine, keys: int = 8) -> int:
    """Keys with versions of 20 KiB that all end in one batch, which has left the window; how many pages they take."""
    for _ in range(10):
        commit(engine, *[put(f"k{number}", "x" * 20_000) for number in range(keys)])
    commit(engine, *[delete(f"k{number}") for number in range(keys)])
    for _ in range(WINDOW.log_revisions):
        commit(engine, put("other"))
    settle(engine)
    return 10 * keys * 5


def test_what_ends_at_once_goes_in_slices(open_engine: Open) -> None:
    engine = open_engine()
    pages = large_ends(engine)
    steps = Counter(engine)
    slices = []
    while any(engine.surplus):
        slices.append(steps.of(lambda: engine.trim(64)))
        assert count(engine, "ended") == engine.surplus.ended <= 8
    assert len(slices) > pages // 64
    assert max(slices) < 64 * 120
    assert count(engine, "versions") == WINDOW.log_revisions


def test_a_start_in_the_middle_of_it_goes_on(open_engine: Open) -> None:
    engine = open_engine()
    large_ends(engine)
    while not count(engine, "ended"):
        assert engine.trim(16)
    left = count(engine, "ended")
    assert count(engine, "versions", "key LIKE 'k%'") > left
    engine = open_engine()
    assert engine.surplus.ended == left
    assert engine.history(id_of("k7"), 9, 0) == []
    trim_all(engine)
    assert (count(engine, "ended"), count(engine, "versions", "key LIKE 'k%'")) == (0, 0)


def test_a_full_disk_changes_nothing_of_it(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full when keys have ended and are noted already: they have not, and are whole."""
    engine = open_engine()
    large_ends(engine)
    keys = [id_of(f"k{number}") for number in range(8)]
    while engine.position().compact_revision < 11:
        assert engine.trim(1)
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    ends = Ended.end

    def full(self: Ended, id: EntryId, revision: int, rows_max: int) -> int:
        ends(self, id, revision, rows_max)
        if id == keys[-1]:
            raise error
        return 1

    with monkeypatch.context() as patched:
        patched.setattr(Ended, "end", full)
        assert engine.trim(2_000) == 0
    assert [len(engine.history(key, 99, 0)) for key in keys] == [11] * 8
    assert engine.surplus.ended == 0
    trim_all(engine)
    assert [engine.history(key, 99, 0) for key in keys] == [[]] * 8


def test_a_note_that_does_not_match_its_hash_is_damage(open_engine: Open) -> None:
    engine = open_engine()
    large_ends(engine)
    while not count(engine, "ended"):
        assert engine.trim(16)
    engine._db.execute("UPDATE ended SET before_revision = before_revision + 100")
    with pytest.raises(StoreBroken, match="what is left of"):
        open_engine()


# ------------------------------------------------------------------------------------------- what older code left


def as_schema_2(engine: SqliteEngine) -> None:
    """What schema 2 had of it: nothing."""
    engine._db.execute("DROP TABLE ended")
    engine._db.execute("DROP TABLE sweep")
    engine._db.execute("PRAGMA user_version = 2")


def old_store(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of schema 2 with 300 keys that had ended, one that lives, one deleted in the window, and two of ours."""
    claims = [id_of(f"c{number}", "$claims") for number in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(Ended, "end", lambda *_: 1)
        patched.setattr(Window, "versions_in", lambda self, _: self.versions)
        engine = open_engine()
        for number in range(5):
            commit(engine, *[Put(claim, raw(number)) for claim in claims], put("stays", number))
        churn(engine, 0, 300, "x" * 100)
        commit(engine, put("late"))
        commit(engine, delete("late"))
        settle(engine)
        as_schema_2(engine)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_store_of_schema_2_is_rid_of_what_had_ended_in_slices(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, *, restarts: bool
) -> None:
    old_store(open_engine, monkeypatch)
    engine = open_engine()
    assert count(engine, "versions") > 600
    assert (engine.surplus.ended, count(engine, "sweep")) == (1, 1)
    slices, steps = [], Counter(engine)
    while any(engine.surplus):
        slices.append(steps.of(partial(engine.trim, 64)))
        if restarts and len(slices) == 5:
            engine = open_engine()
            steps = Counter(engine)
            assert 0 < count(engine, "versions") < 600, "it has begun, and goes on from there"
    assert len(slices) > 600 // 64
    assert max(slices) < 64 * 120
    assert count(engine, "versions") == 2 + 5 + WINDOW.log_revisions
    assert [row.mod_revision for row in engine.history(id_of("stays"), 9, 0)] == [5, 4, 3, 2, 1]
    assert len(engine.history(id_of("late"), 9, 0)) == 2
    assert count(engine, "sweep") == 0
    (schema,) = engine._db.execute("PRAGMA user_version").fetchone()
    assert schema == SCHEMA
    assert open_engine().surplus.ended == 0


def test_a_new_store_has_nothing_to_sweep(open_engine: Open) -> None:
    assert open_engine().surplus.ended == 0


def test_a_key_that_is_put_again_before_the_sweep_comes_to_it_stays_whole(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_store(open_engine, monkeypatch)
    engine = open_engine()
    commit(engine, put("k7", "again"))
    trim_all(engine)
    assert len(engine.history(id_of("k7"), 9, 0)) == 3
    assert engine.history(id_of("k8"), 9, 0) == []


def test_a_new_epoch_which_passes_the_whole_window_is_swept(open_engine: Open) -> None:
    engine = open_engine()
    commit(engine, put("a"), put("b"))
    commit(engine, delete("a"))
    engine.begin_epoch("epoch-2", known=[], time_ms=1)
    assert engine.surplus.ended == 1
    trim_all(engine)
    assert engine.history(id_of("a"), 9, 0) == []
    assert len(engine.history(id_of("b"), 9, 0)) == 1


# ----------------------------------------------------------------------------------------------- beside the oracle


def differing(place: Place, oracle: MemoryEngine, seed: int, *, steps: int = 150) -> list[str]:
    """What tells the store at `place` from the oracle in a life of few keys that are put and deleted all the time."""
    random = Random(seed)
    engine = place.open(SMALL)
    keys = [id_of(key) for key in "abcdef"]
    for step in range(steps):
        chosen = random.sample(keys, random.randint(1, 4))
        group = [batch(*[Put(id, raw("x" * random.choice((1, 9_000)))) if random.random() < 0.5 else Delete(id)
                 for id in chosen]) for _ in range(random.randint(0, 2))]  # fmt: skip
        engine.apply(group)
        oracle.apply(group)
        if random.random() < 0.05:
            engine = place.reopen()
        if random.random() < 0.7:
            engine.settle(random.choice((1, 50)))
            engine.trim(random.choice((1, 2, 20)))
            while oracle.position().compact_revision < engine.position().compact_revision:
                if not oracle.trim(1):
                    return [f"step {step}: trimmed more than the window allows"]
        for id in keys:
            if (shown := engine.history(id, 99, 0)) != (expected := oracle.history(id, 99, 0)):
                return [f"step {step}: history of {id}: {shown}, expected {expected}"]
    return []


@pytest.mark.parametrize("name", NAMES)
def test_a_random_life_shows_what_the_specification_shows(tmp_path: Path, name: str) -> None:
    for seed in range(2 if name == "settled" else 4):
        (directory := tmp_path / str(seed)).mkdir()
        place = Place(name, directory)
        assert differing(place, MemoryEngine(EPOCH, SMALL), seed) == []
        place.close()


@pytest.mark.parametrize("name", ["KeepsWhatEnded", "EndsTooEarly", "EndsWhatWasPutAgain"])
def test_a_random_life_finds_a_seeded_fault(tmp_path: Path, name: str) -> None:
    assert any(differing(Place("memory", tmp_path), FAULTS[name](EPOCH, SMALL), seed) for seed in range(6))
