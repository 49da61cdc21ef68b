"""What only the audit over SQLite has: damage is noticed, a kill leaves both or neither, a full disk neither, and a
filter that passes over a great many records costs each slice the same.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cosessiond.audit.paging import SLICE_ROWS, Query, look
from cosessiond.audit.records import Admin, Denial, record
from cosessiond.store.engine import Committed, Refused, StoreBroken, Window
from cosessiond.store.sqlite import SqliteEngine
from store.audit import ids, note, numbers
from store.engines import EPOCH, Place, batch, put

MANY = 200_000


def opened(directory: Path, window: Window | None = None) -> SqliteEngine:
    return SqliteEngine.open(directory, window=window or Window(), new_epoch=lambda: EPOCH)


def damaged(directory: Path, statement: str) -> SqliteEngine:
    """A store with ten records to which somebody did something."""
    engine = opened(directory)
    engine.apply([], [(None, note(number)) for number in range(1, 11)])
    engine.close()
    with closing(sqlite3.connect(directory / "store.db")) as db:
        db.execute(statement)
        db.commit()
    return opened(directory)


CHANGES = (
    "UPDATE audit SET kind = 'tool' WHERE id = 5",
    "UPDATE audit SET session = 's9' WHERE id = 5",
    "UPDATE audit SET body = x'00' WHERE id = 5",
    "UPDATE audit SET time_ms = 7 WHERE id = 5",
    "UPDATE audit SET latest_ms = 0 WHERE id = 5",
    "UPDATE audit SET total_bytes = 1 WHERE id = 5",
    "DELETE FROM audit WHERE id = 5",
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("newest_first", [True, False])
def test_a_damaged_or_missing_record_is_noticed_and_the_others_are_read(
    tmp_path: Path, change: str, newest_first: bool
) -> None:
    engine = damaged(tmp_path, change)
    assert ids(engine, before=5) == [1, 2, 3, 4]
    assert ids(engine, after=5) == [6, 7, 8, 9, 10]
    with pytest.raises(StoreBroken, match="audit record"):
        ids(engine, newest_first=newest_first)
    engine.close()


def test_the_ends_of_the_audit_are_looked_at_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreBroken, match="audit record 10 does not match its hash"):
        damaged(tmp_path, "UPDATE audit SET session = 's9' WHERE id = 10")


def test_after_a_kill_a_record_is_there_if_and_only_if_its_batch_is(tmp_path: Path) -> None:
    place = Place("sqlite", tmp_path)
    engine = place.open()
    for number in range(1, 6):
        outcomes = engine.apply([batch(put(f"k{number}"))], [(0, note(number))])
        assert isinstance(outcomes[0], Committed)
        engine = place.crash()
        assert numbers(engine) == list(range(1, number + 1))
        assert engine.position().revision == number
    place.close()


def test_on_a_full_disk_neither_is_written_and_ids_stay_dense(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.apply([batch(put("a"))], [(0, note(1))])
    (pages,) = engine._db.execute("PRAGMA page_count").fetchone()
    engine._db.execute(f"PRAGMA max_page_count={pages}")
    big = note(2, size=3_000)
    outcomes = engine.apply([batch(put("b", "x" * 100_000))], [(0, big), *((None, big) for _ in range(20))])
    assert isinstance(outcomes[0], Refused)
    assert outcomes[0].code == "disk_full"
    assert engine.apply([], [(None, big) for _ in range(200)]) == []
    assert engine.audit_span().last == 1
    engine._db.execute("PRAGMA max_page_count=100000")
    engine.apply([batch(put("c"))], [(0, note(3)), (None, note(4))])
    assert ids(engine) == [1, 2, 3]
    assert numbers(engine) == [1, 3, 4]
    engine.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> SqliteEngine:
    """A store with 200,000 records: one denial in a thousand, the rest of another kind; a second apart."""
    engine = opened(tmp_path_factory.mktemp("many"))
    rare = {"operation": "put", "outcome": "not_allowed", "session": "s7", "project": "p7"}
    for start in range(0, MANY, 10_000):
        group = [
            record(number * 1_000, Denial(), **rare)
            if number % 1_000 == 7
            else record(number * 1_000, Admin(revision=number), operation="start", outcome="ok")
            for number in range(start, start + 10_000)
        ]
        engine.apply([], [(None, each) for each in group])
    return engine


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_filter_that_lets_few_through_finds_them_all_and_no_slice_looks_at_more(
    many: SqliteEngine, newest_first: bool
) -> None:
    query = Query(kind="denial", newest_first=newest_first)
    position, found, looked, slices = 0, [], 0, 0
    while True:
        part = look(many, query, position, records_max=1_000, bytes_max=1 << 20)
        assert part.looked <= SLICE_ROWS
        found += part.records
        looked += part.looked
        slices += 1
        position = part.reached
        if part.done:
            break
    wanted = [number + 1 for number in range(MANY) if number % 1_000 == 7]
    assert [each.id for each in found] == (wanted[::-1] if newest_first else wanted)
    assert looked == MANY
    assert slices == MANY // SLICE_ROWS + 1


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_bound_of_time_is_found_without_looking_at_what_lies_before(many: SqliteEngine, newest_first: bool) -> None:
    since_ms = (MANY - 50) * 1_000
    part = look(many, Query(since_ms=since_ms, newest_first=newest_first), 0, records_max=1_000, bytes_max=1 << 20)
    assert part.looked == len(part.records) == 50
    assert part.done


def test_every_filter_is_asked_of_every_record(many: SqliteEngine) -> None:
    def found(**filters: object) -> list[int]:
        query = Query(newest_first=False, **filters)  # type: ignore[arg-type]
        return [each.id for each in look(many, query, 0, records_max=1_000, bytes_max=1 << 20).records]

    assert found(session="s7") == found(project="p7") == found(kind="denial") == [8]
    assert found(session="s7", kind="admin") == found(project="p8") == []
    assert found(until_ms=7_000) == [1, 2, 3, 4, 5, 6, 7]
    assert found(since_ms=6_000, until_ms=8_000) == [7, 8]


def test_a_page_ends_at_its_bytes_and_at_its_count(many: SqliteEngine) -> None:
    few = look(many, Query(), 0, records_max=3, bytes_max=1 << 20)
    assert [each.id for each in few.records] == [MANY, MANY - 1, MANY - 2]
    assert (few.reached, few.done) == (MANY - 2, False)
    small = look(many, Query(), 0, records_max=1_000, bytes_max=1_000)
    assert 1 < len(small.records) < 20
    one = look(many, Query(), 0, records_max=1_000, bytes_max=0)
    assert len(one.records) == 1
