"""What one slice of the store's thread may cost, whatever was written: counted in steps of SQLite's virtual machine.

Rule: no clocks. `Counter` asks SQLite itself (the progress handler), so a statement that looks at everything is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from cosessiond.store import pacing, reads
from cosessiond.store.engine import PAST_BYTES, PAST_KEYS, Page, Window, Write
from cosessiond.store.sqlite import SqliteEngine
from store.engines import EPOCH, batch, delete, id_of, put

EVERY = 100


class Counter:
    """Steps of the virtual machine while it is asked, to about a hundred."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._steps = 0
        engine._db.set_progress_handler(self._count, EVERY)

    def _count(self) -> int:
        self._steps += EVERY
        return 0

    def of(self, call: Callable[[], object]) -> int:
        """What one call takes."""
        self._steps = 0
        call()
        return self._steps


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Callable[[Window], SqliteEngine]]:
    opened: list[SqliteEngine] = []

    def make(window: Window = Window()) -> SqliteEngine:  # noqa: B008 - a frozen struct
        opened.append(SqliteEngine.open(tmp_path, window=window, new_epoch=lambda: EPOCH))
        return opened[-1]

    yield make
    for engine in opened:
        engine.close()


def write(engine: SqliteEngine, *groups: list[Write]) -> None:
    """Each group as one batch, everything settled."""
    engine.apply([batch(*writes) for writes in groups])
    while engine.unsettled_rows:
        assert engine.settle(4_096)


def wide(number: int, writes: int = 128) -> list[Write]:
    return [put(f"k{each}", number) for each in range(writes)]


SHAPES: dict[str, Callable[[int], list[Write]]] = {
    "narrow": lambda number: [put(f"k{number % 50}", number)],
    "one hot key": lambda number: [put("hot", number)],
    "128 writes": wide,
    "deletes": lambda number: [(delete if number % 2 else put)(f"k{each}") for each in range(64)],
    "large values": lambda number: [put(f"k{each}", "x" * 200_000) for each in range(number % 4 + 1)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_slice_of_trimming_costs_the_same_whatever_the_shape(
    open_engine: Callable[[Window], SqliteEngine], shape: str
) -> None:
    engine = open_engine(Window(log_revisions=4, versions=3))
    write(engine, *[SHAPES[shape](number) for number in range(60)])
    count = Counter(engine)
    slices = [count.of(lambda: engine.trim(16)) for _ in range(1_000) if any(engine.surplus)]
    assert len(slices) > 1
    assert max(slices) < 16 * 120, "a look among the versions of a key is about 60 steps, a deletion as much"
    assert engine.position().compact_revision == 57


def test_old_versions_that_become_surplus_all_at_once_go_in_slices(
    open_engine: Callable[[Window], SqliteEngine],
) -> None:
    """They were the newest until others took their place; the first of these to leave the window ends them all."""
    engine = open_engine(Window(log_revisions=200, versions=60))

    def trim() -> list[int]:
        return [count.of(lambda: engine.trim(64)) for _ in range(1_000) if any(engine.surplus)]

    count = Counter(engine)
    write(engine, *[[put("k", "x" * 20_000)] for _ in range(60)])
    write(engine, *[[put("other", number)] for number in range(200)])
    trim()
    write(engine, *[[put("k", number)] for number in range(200)])
    trim()
    versions = "SELECT count(*) FROM versions WHERE key = 'k'"
    assert engine._db.execute(versions).fetchone() == (260,)
    write(engine, [put("other")], [put("other")])
    slices = trim()
    assert len(slices) >= 60 * 5 // 64, "a row and four pages each"
    assert max(slices) < 64 * 120
    assert engine._db.execute(versions).fetchone() == (199,)


def deleted_keys(engine: SqliteEngine, keys: int) -> None:
    """Each was there, with three versions, and is gone."""
    for number in range(0, keys, 128):
        names = [f"k{each:06}" for each in range(number, min(keys, number + 128))]
        write(engine, [put(name) for name in names], [put(name, 2) for name in names], [delete(name) for name in names])


def test_a_range_over_keys_that_were_deleted_since_is_read_in_slices(
    open_engine: Callable[[Window], SqliteEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "PAST_KEYS", 100)
    engine = open_engine(Window())
    deleted_keys(engine, 1_000)
    write(engine, [put("k999999")])
    count = Counter(engine)
    now = engine.position().revision
    pages: list[Page] = []

    def look(after: str) -> None:
        pages.append(engine.range_at("context", "p", prefix="k", after=after, limit=50, revision=now))

    after = ""
    while not pages or pages[-1].more:
        assert count.of(partial(look, after)) < 150 * 100
        assert not pages[-1].more or pages[-1].reached > after, "it goes on"
        after = pages[-1].reached
    assert len(pages) >= 10
    assert [entry.id[2] for each in pages for entry in each.entries] == ["k999999"]


def test_versions_without_number_of_a_few_keys_cost_a_range_nothing(
    open_engine: Callable[[Window], SqliteEngine],
) -> None:
    engine = open_engine(Window())
    write(engine, *[[put("k1", number)] for number in range(3_000)], [put("k2")], [put("k3")])
    count = Counter(engine)
    for revision in (1, 1_500, 3_002):
        assert count.of(partial(engine.entry_at, id_of("k1"), revision)) <= 200
        whole = partial(engine.range_at, "context", "p", prefix="", after="", limit=9, revision=revision)
        assert count.of(whole) < 1_000
    assert count.of(lambda: engine.history(id_of("k1"), 50, 0)) < 5_000


def test_large_values_end_a_page_of_the_past(open_engine: Callable[[Window], SqliteEngine]) -> None:
    engine = open_engine(Window())
    large = "x" * 100_000
    write(engine, *[[put("k", large)] for _ in range(10)], *[[put(f"k{number}", large)] for number in range(10)])
    rows = engine.history(id_of("k"), 50, 0)
    assert 1 <= len(rows) <= PAST_BYTES // 100_000 + 1
    older = engine.history(id_of("k"), 50, rows[-1].mod_revision)
    assert older[0].mod_revision == rows[-1].mod_revision - 1
    found = engine.range_at("context", "p", prefix="", after="", limit=50, revision=20)
    assert found.more
    assert 1 <= len(found.entries) <= PAST_BYTES // 100_000 + 1
    assert found.reached == found.entries[-1].id[2]


def test_the_counter_sees_a_statement_that_looks_at_everything(open_engine: Callable[[Window], SqliteEngine]) -> None:
    """What a range at a revision was before."""
    engine = open_engine(Window())
    deleted_keys(engine, 1_000)
    count = Counter(engine)
    grouped = "SELECT key, max(mod_revision), kind FROM versions GROUP BY key HAVING kind = 'put' LIMIT 50"
    assert count.of(lambda: engine._db.execute(grouped).fetchall()) > 100 * 100


def test_the_bounds_are_those_that_a_slice_was_measured_with() -> None:
    assert (pacing.SLICE_ROWS, PAST_KEYS, PAST_BYTES) == (512, 1_024, 256 * 1024)


@pytest.mark.parametrize(("operation", "steps_max"), [("txn", 200), ("put", None)])
def test_the_repeat_of_a_wide_transaction_costs_little(
    open_engine: Callable[[], SqliteEngine], operation: str, steps_max: int | None
) -> None:
    """Its answer shows no value, so none is looked up; one that shows them is the seeded bug."""
    engine = open_engine()
    sent = batch(*wide(1), request="r1")
    sent = replace(sent, origin=replace(sent.origin, operation=operation))
    engine.apply([sent])
    while engine.unsettled_rows:
        assert engine.settle(4_096)
    steps = Counter(engine).of(lambda: engine.apply([sent]))
    assert steps <= steps_max if steps_max else steps > 1_000
