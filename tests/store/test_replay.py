"""The same batches in the same order give the same store in every engine, however they are grouped.

Rule: engines are compared by `comparing.differences` alone, the driver that the seeded faults are tried on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from cosessiond.store.engine import Batch, Committed, Delete, Engine, Put, Window, Write
from cosessiond.store.memory import MemoryEngine
from store.comparing import answers, apply_both, differences, grouped, ids_of, unequal
from store.engines import EPOCH, UNBOUNDED, Place
from store.generated import SMALL_WINDOW, groupings, sequences

_MANY = settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the store
_FEWER = settings(_MANY, max_examples=40)
_ROOMY = Window(versions=3, request_ids=3, request_id_ms=100)


@contextmanager
def _sqlite(window: Window) -> Iterator[Engine]:
    """A new store of its own for each example."""
    with tempfile.TemporaryDirectory() as directory:
        place = Place("sqlite", Path(directory))
        try:
            yield place.open(window)
        finally:
            place.close()


@_MANY
@given(batches=sequences, groups=groupings)
def test_sqlite_and_the_specification_cannot_be_told_apart(batches: Sequence[Batch], groups: list[int]) -> None:
    with _sqlite(SMALL_WINDOW) as engine:
        assert differences(engine, MemoryEngine(EPOCH, SMALL_WINDOW), batches, groups=groups) == []


@_FEWER
@given(batches=sequences, groups=groupings)
def test_nor_while_everything_is_inside_the_window(batches: Sequence[Batch], groups: list[int]) -> None:
    with _sqlite(_ROOMY) as engine:
        assert differences(engine, MemoryEngine(EPOCH, _ROOMY), batches, groups=groups) == []


@_FEWER
@given(batches=sequences, groups=groupings, others=groupings)
def test_how_batches_are_grouped_changes_nothing(
    batches: Sequence[Batch], groups: list[int], others: list[int]
) -> None:
    ids = ids_of(batches)
    with _sqlite(_ROOMY) as engine, _sqlite(_ROOMY) as other:
        outcomes = [outcome for group in grouped(batches, groups) for outcome in engine.apply(group)]
        assert [outcome for group in grouped(batches, others) for outcome in other.apply(group)] == outcomes
        assert unequal("grouped otherwise", answers(engine, ids), answers(other, ids)) == []


@_FEWER
@given(batches=sequences)
def test_a_store_rebuilt_from_its_changes_alone_is_the_same(batches: Sequence[Batch]) -> None:
    """What a log holds is enough: values, lives, leases, times and origins, thus both hashes."""
    with _sqlite(_ROOMY) as engine:
        engine.apply(batches)
        rebuilt = MemoryEngine(EPOCH, _ROOMY)
        log = [_as_batch(each) for each in engine.changes(0, 1_000, UNBOUNDED)]
        outcomes = rebuilt.apply(log)
        assert [isinstance(outcome, Committed) and len(outcome.changes) for outcome in outcomes] == [
            len(each.then) for each in log
        ]
        asked = answers(engine, ids_of(batches)).items()
        of_state = {question: answer for question, answer in asked if not question.startswith(("changes", "below"))}
        again = answers(rebuilt, ids_of(batches))
        assert unequal("rebuilt", of_state, {question: again.get(question) for question in of_state}) == []


def _as_batch(committed: Committed) -> Batch:
    """The batch that does what `committed` says, without its compares."""
    writes: list[Write] = []
    for change in committed.changes:
        if change.kind == "put":
            writes.append(Put(change.id, change.value, change.ttl_ms, change.owner))
        else:
            writes.append(Delete(change.id, change.kind))
    return Batch(1, committed.time_ms, committed.origin, (), tuple(writes))


@_FEWER
@given(batches=sequences, groups=groupings)
def test_a_store_that_is_opened_again_goes_on_as_if_it_had_not_been(
    batches: Sequence[Batch], groups: list[int]
) -> None:
    middle = len(batches) // 2
    oracle = MemoryEngine(EPOCH, SMALL_WINDOW)
    with tempfile.TemporaryDirectory() as directory:
        place = Place("sqlite", Path(directory))
        try:
            found = apply_both(place.open(SMALL_WINDOW), oracle, batches[:middle], groups=groups)
            assert found + differences(place.reopen(), oracle, batches[middle:], groups=groups) == []
        finally:
            place.close()
