"""The contract of `store.engine`, part 4: the audit. A record is there if and only if what it tells of is.

Rule: only the `Engine` protocol is used, and each test says one sentence of the contract.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosessiond.store.engine import Conflicted, Engine, Refused, Window
from cosessiond.store.record import AuditSpan
from store.audit import FAULTS, WINDOW, Group, audit_differences, cut_all, ids, note, numbers, oracle
from store.engines import EPOCH, Place, batch, expect, put


def test_a_new_store_has_no_record(engine: Engine) -> None:
    assert engine.audit_span() == AuditSpan(first=1, last=0, size=0, first_ms=0)
    assert ids(engine) == []
    assert engine.audit_since(0) == 1


def test_a_record_is_written_with_the_batch_it_goes_with(engine: Engine) -> None:
    engine.apply([batch(put("a")), batch(put("b"))], [(0, note(1)), (1, note(2)), (1, note(3))])
    assert numbers(engine) == [1, 2, 3]
    assert ids(engine) == [1, 2, 3]


def test_a_record_is_not_written_when_its_batch_is_a_conflict_or_is_refused(engine: Engine) -> None:
    outcomes = engine.apply(
        [batch(put("a"), when=(expect("a", "version", 9),)), batch(put("b", "x" * 300_000)), batch(put("c"))],
        [(0, note(1)), (1, note(2)), (2, note(3))],
    )
    assert isinstance(outcomes[0], Conflicted)
    assert isinstance(outcomes[1], Refused)
    assert numbers(engine) == [3]


def test_nor_when_its_batch_is_a_repeat_or_changes_nothing(engine: Engine) -> None:
    engine.apply([batch(put("a"), request="r")], [(0, note(1))])
    engine.apply([batch(put("a"), request="r"), batch()], [(0, note(2)), (1, note(3))])
    assert numbers(engine) == [1]


def test_a_record_that_goes_alone_needs_no_batch(engine: Engine) -> None:
    assert engine.apply([], [(None, note(1))]) == []
    engine.apply([batch(put("a"), when=(expect("a", "version", 9),))], [(None, note(2)), (0, note(3))])
    assert numbers(engine) == [1, 2]


def test_records_change_neither_revision_nor_hashes(engine: Engine) -> None:
    engine.apply([batch(put("a"))])
    before = engine.position()
    engine.apply([], [(None, note(number)) for number in range(5)])
    assert engine.position() == before


def test_a_page_lies_strictly_between_two_ids_from_either_end(engine: Engine) -> None:
    engine.apply([], [(None, note(number)) for number in range(1, 11)])
    assert ids(engine, after=3, before=7) == [4, 5, 6]
    assert ids(engine, after=3, before=7, newest_first=True) == [6, 5, 4]
    assert ids(engine, after=3, limit=2) == [4, 5]
    assert ids(engine, before=7, limit=2, newest_first=True) == [6, 5]
    assert ids(engine, limit=0) == ids(engine, after=10) == ids(engine, after=6, before=7) == []


def test_the_oldest_records_go_when_all_have_too_many_bytes(place: Place) -> None:
    size = note(1).size
    engine = place.open(Window(audit_bytes=3 * size))
    engine.apply([], [(None, note(number)) for number in range(1, 8)])
    assert cut_all(engine) == 4
    assert numbers(engine) == [5, 6, 7]
    assert engine.audit_span() == AuditSpan(first=5, last=7, size=3 * size, first_ms=1_000)


def test_and_when_the_newest_is_so_much_younger_but_not_the_newest_few(place: Place) -> None:
    engine = place.open(Window(audit_ms=100, audit_min=2))
    engine.apply([], [(None, note(number, time_ms=number * 60)) for number in range(1, 6)])
    cut_all(engine)
    assert numbers(engine) == [4, 5], "60 ms before the newest is not too old, 120 is"
    engine.apply([], [(None, note(6, time_ms=1_000_000))])
    cut_all(engine)
    assert numbers(engine) == [5, 6], "whatever their age"


def test_the_newest_record_always_stays_and_ids_never_begin_anew(place: Place) -> None:
    engine = place.open(Window(audit_bytes=1))
    engine.apply([], [(None, note(number)) for number in range(1, 4)])
    cut_all(engine)
    assert ids(engine) == [3]
    engine = place.reopen()
    assert engine.audit_span().first == 3
    engine.apply([], [(None, note(4))])
    assert ids(engine) == [3, 4]


def test_trimming_is_done_in_slices_and_nothing_else_goes_with_the_audit(place: Place) -> None:
    engine = place.open(Window(audit_bytes=1))
    engine.apply([batch(put("a"))], [(None, note(number)) for number in range(1, 11)])
    assert engine.cut(3) == 3
    assert ids(engine)[0] == 4
    cut_all(engine)
    assert engine.changes(0, 9, 1 << 40) != []


def test_what_is_of_a_time_or_later_lies_at_or_above_an_id_that_is_found(engine: Engine) -> None:
    times = [10, 20, 15, 40, 30, 50]  # the wall clock was set back twice
    engine.apply([], [(None, note(number, time_ms=time_ms)) for number, time_ms in enumerate(times, 1)])
    assert [engine.audit_since(time_ms) for time_ms in (0, 10, 11, 20, 21, 41, 51)] == [1, 1, 2, 2, 4, 6, 7]


def test_records_outlive_a_restart(place: Place) -> None:
    engine = place.open()
    engine.apply([batch(put("a"))], [(0, note(1)), (None, note(2))])
    before = engine.audited(after=0, before=0, limit=9, newest_first=False)
    engine = place.reopen()
    assert engine.audited(after=0, before=0, limit=9, newest_first=False) == before
    engine.apply([], [(None, note(3))])
    assert ids(engine) == [1, 2, 3]


# ------------------------------------------------------------------------------------------- against the specification

_batches = st.lists(
    st.builds(
        lambda key, wrong, request: batch(
            put(key), when=(expect(key, "version", 99),) if wrong else (), request=request, content=b"c"
        ),
        st.sampled_from(["a", "b"]),
        st.booleans(),
        st.sampled_from(["", "r1", "r2"]),
    ),
    max_size=3,
)


@st.composite
def _groups(draw: st.DrawFn) -> Group:
    batches = draw(_batches)
    where = st.sampled_from([None, *range(len(batches))])
    record = st.builds(note, st.integers(0, 99), time_ms=st.integers(0, 2_000), size=st.integers(4, 200))
    return batches, draw(st.lists(st.tuples(where, record), max_size=4))


_MANY = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)


@_MANY
@given(groups=st.lists(_groups(), max_size=8))
def test_sqlite_and_the_specification_cannot_be_told_apart(
    groups: list[Group], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place("sqlite", tmp_path_factory.mktemp("audit"))
    try:
        assert audit_differences(place.open(WINDOW), oracle(), groups) == []
    finally:
        place.close()


def _work() -> list[Group]:
    """A short day: records of a commit, a conflict and a repeat, and more of them than the window keeps."""
    return [
        ([batch(put("a"), request="r"), batch(put("b"))], [(0, note(1)), (1, note(2)), (None, note(3))]),
        ([batch(put("a"), when=(expect("a", "version", 9),))], [(0, note(4))]),
        ([batch(put("a"), request="r")], [(0, note(5))]),
        *[([], [(None, note(number, time_ms=number * 20))]) for number in range(60, 75)],
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_seeded_fault_is_seen(fault) -> None:  # type: ignore[no-untyped-def]
    assert audit_differences(fault(EPOCH, WINDOW), oracle(), _work()) != []


def test_without_a_fault_nothing_is_seen() -> None:
    assert audit_differences(oracle(), oracle(), _work()) == []
