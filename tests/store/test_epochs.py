"""A new epoch over an old store: what goes on, what ends, and which numbers are never given out twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cosessiond.store import epochs
from cosessiond.store.engine import BelowWindow, Position, Put
from cosessiond.store.sqlite import SqliteEngine
from store.engines import Place, commit, delete, id_of, keys_now, put, raw, value_now

STEP = epochs.EPOCH_STEP


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place("sqlite", tmp_path)
    yield place
    place.close()


def begun(place: Place, *, known: tuple[int, ...] = ()) -> Position:
    """Where the new epoch of the engine open in `place` has begun."""
    engine = place._engine
    assert isinstance(engine, SqliteEngine)
    return engine.begin_epoch("epoch-2", known=known, time_ms=2_000)


@pytest.mark.parametrize(
    ("known", "first"),
    [((), STEP), ((0,), STEP), ((STEP - 1,), STEP), ((STEP,), 2 * STEP), ((5, 3 * STEP + 1, 7), 4 * STEP)],
)
def test_it_begins_at_the_next_multiple_above_all_that_is_known(known: tuple[int, ...], first: int) -> None:
    assert epochs.first_revision(known) == first


def test_entries_and_their_history_stay_and_the_next_write_is_above_all(place: Place) -> None:
    engine = place.open()
    commit(engine, put("a", 1))
    commit(engine, put("a", 2))
    commit(engine, put("b", 1))
    commit(engine, delete("b"))
    position = begun(place, known=(STEP + 7,))
    assert (position.epoch, position.revision, position.compact_revision) == ("epoch-2", 2 * STEP, 2 * STEP)
    engine = place.reopen()
    assert engine.position() == position
    assert value_now(engine, "a") == 2
    assert keys_now(engine) == ["a"]
    assert [row.mod_revision for row in engine.history(id_of("a"), 10, 0)] == [2, 1]
    assert [row.kind for row in engine.history(id_of("b"), 10, 0)] == ["delete", "put"]
    assert commit(engine, put("a", 3)).revision == position.revision + 1
    assert [each.revision for each in engine.changes(position.revision - 1, 10, 1 << 20)] == [
        position.revision,
        position.revision + 1,
    ]
    with pytest.raises(BelowWindow):
        engine.changes(2, 10, 1 << 20)


def test_request_ids_do_not_cross(place: Place) -> None:
    engine = place.open()
    first = commit(engine, put("a", 1), request="r1")
    begun(place)
    again = commit(engine, put("a", 2), request="r1")
    assert not again.repeated
    assert again.revision > first.revision
    engine = place.crash()
    assert commit(engine, put("a", 2), request="r1").repeated


def test_leases_end_in_batches_that_a_client_can_be_sent(place: Place) -> None:
    engine = place.open()
    commit(engine, put("stays", 1))
    for number in range(129):
        commit(engine, put(f"timed{number:03}", 1, ttl_ms=60_000))
    commit(engine, put("owned", 1, owner="s1"))
    commit(engine, Put(id_of("path:a", space=epochs.LEASES), raw(1)))
    begun(place)
    assert keys_now(engine) == ["stays"]
    engine = place.reopen()
    assert [entry.id[2] for entry in engine.entries()] == ["stays"], "no claim either"
    first, *ends = engine.changes(STEP - 1, 10, 1 << 20)
    assert (first.revision, first.changes) == (STEP, ())
    assert [len(each.changes) for each in ends] == [128, 3]
    assert {change.kind for each in ends for change in each.changes} == {"expire"}


def test_two_epochs_of_one_copy_part_at_their_first_revision(tmp_path: Path) -> None:
    heads = set()
    for epoch in ("one", "two"):
        directory = tmp_path / epoch
        directory.mkdir()
        place = Place("sqlite", directory)
        engine = place.open()
        commit(engine, put("a", 1))
        assert isinstance(engine, SqliteEngine)
        heads.add(engine.begin_epoch(epoch, known=(), time_ms=2_000).chain_hash)
        place.close()
    assert len(heads) == 2


def test_what_was_behind_is_settled_first_and_a_crash_loses_nothing(place: Place) -> None:
    engine = place.open()
    for number in range(50):
        commit(engine, put(f"k{number}", number))
    assert engine.unsettled_rows
    position = begun(place)
    engine = place.crash()
    assert engine.position() == position
    assert len(keys_now(engine)) == 50
