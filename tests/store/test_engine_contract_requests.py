"""The contract of `store.engine`, part 2 of 3: request ids, how repeats are told from reuse, and what is forgotten.

Rule: as in part 1, only the `Engine` protocol is used.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cosession.messages.limits import VALUE_BYTES_MAX
from cosessiond.store.engine import (
    Committed,
    Conflicted,
    Engine,
    Refused,
    Window,
)
from store.engines import (
    Place,
    batch,
    commit,
    delete,
    expect,
    merge,
    one,
    put,
    trim_all,
    value_now,
)


def repeated(outcome: Committed) -> Committed:
    return replace(outcome, repeated=True)


def test_a_repeat_gives_the_original_outcome_and_writes_nothing(engine: Engine) -> None:
    write = batch(put("a", 1), put("b", "two"), request="r1", content=b"h", session="s5", time_ms=77)
    first = one(engine, write)
    commit(engine, put("a", 2))
    before = engine.position()
    assert isinstance(first, Committed)
    again = replace(write, time_ms=99)  # a repeat may come with another time
    assert one(engine, again) == repeated(first)
    assert engine.position() == before
    assert value_now(engine, "a") == 2


@pytest.mark.parametrize("operation", ["txn", "revert"])
def test_the_repeat_of_a_wide_operation_has_no_values(engine: Engine, operation: str) -> None:
    write = batch(put("a", 1), delete("b"), put("c", 3), request="r1")
    write = replace(write, origin=replace(write.origin, operation=operation))
    first = one(engine, write)
    assert isinstance(first, Committed)
    bare = tuple(replace(change, value=b"") for change in first.changes)
    assert one(engine, write) == replace(first, changes=bare, repeated=True)


def test_a_repeat_is_one_although_its_compares_fail_by_now(engine: Engine) -> None:
    write = batch(put("a"), when=(expect("a", "version", 0),), request="r1")
    first = one(engine, write)
    assert isinstance(first, Committed)
    assert one(engine, write) == repeated(first)


def test_a_repeat_of_otherwise_and_of_a_deletion_is_told_as_it_was(engine: Engine) -> None:
    commit(engine, put("a"))
    write = batch(when=(expect("a", "version", 7),), otherwise=(delete("a"), put("b", 5)), request="r1")
    first = one(engine, write)
    assert isinstance(first, Committed)
    assert not first.succeeded
    assert one(engine, write) == repeated(first)


def test_the_same_request_id_with_other_content_is_refused(engine: Engine) -> None:
    commit(engine, put("a", 1), request="r1", content=b"one")
    outcome = one(engine, batch(put("a", 2), request="r1", content=b"two"))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.revision) == ("request_id_reused", 1)
    assert value_now(engine, "a") == 1


def test_request_ids_are_known_within_the_group_they_came_with(engine: Engine) -> None:
    first, second, third = engine.apply(
        [
            batch(put("a", 1), request="r1", content=b"x"),
            batch(put("a", 1), request="r1", content=b"x"),
            batch(put("a", 1), request="r1", content=b"y"),
        ]
    )
    assert isinstance(first, Committed)
    assert second == repeated(first)
    assert isinstance(third, Refused)
    assert engine.position().revision == 1


def test_request_ids_are_known_after_the_store_was_opened_again(place: Place, engine: Engine) -> None:
    write = batch(put("a", [1]), delete("absent"), request="r1", content=b"h")
    first = one(engine, write)
    assert isinstance(first, Committed)
    engine = place.reopen()
    assert one(engine, write) == repeated(first)
    assert isinstance(one(engine, batch(put("a"), request="r1", content=b"other")), Refused)


def test_batches_without_a_request_id_are_never_repeats(engine: Engine) -> None:
    assert [commit(engine, put("a")).repeated, commit(engine, put("a")).repeated] == [False, False]
    assert engine.position().revision == 2


def test_only_outcomes_that_changed_something_are_kept_under_their_request_id(engine: Engine) -> None:
    commit(engine, put("a"))
    commit(engine, delete("absent"), request="nothing", content=b"1")
    assert isinstance(one(engine, batch(put("b"), when=(expect("a", "version", 9),), request="conflict")), Conflicted)
    assert isinstance(one(engine, batch(merge("a", "x" * VALUE_BYTES_MAX), request="refused")), Refused)
    for request in ("nothing", "conflict", "refused"):
        outcome = commit(engine, put("b"), request=request, content=b"2")
        assert not outcome.repeated
    assert engine.position().revision == 4


def test_a_repeat_has_no_value_for_a_version_that_is_no_longer_kept(place: Place) -> None:
    engine = place.open(Window(log_revisions=1, versions=1))
    write = batch(put("a", 1), put("b", 2), request="r1")
    first = one(engine, write)
    commit(engine, put("a", 3))
    trim_all(engine)
    assert isinstance(first, Committed)
    lost, kept = first.changes
    assert one(engine, write) == replace(repeated(first), changes=(replace(lost, value=b""), kept))


def test_the_versions_of_the_same_group_count_too(place: Place) -> None:
    engine = place.open(Window(log_revisions=1, versions=3))
    write = batch(put("a", 1), request="r1")
    first = one(engine, write)
    commit(engine, put("a", 2))
    commit(engine, put("b", 3))
    trim_all(engine)
    assert isinstance(first, Committed)
    two_newer = engine.apply([batch(put("a", 3)), write])
    assert two_newer[1] == repeated(first)
    third_in_the_group = engine.apply([batch(put("a", 4)), write])
    assert third_in_the_group[1] == replace(repeated(first), changes=(replace(first.changes[0], value=b""),))


def is_kept(engine: Engine, request: str) -> bool:
    """Whether `request` is known, asked so that neither answer changes anything."""
    return isinstance(one(engine, batch(delete("absent"), request=request, content=b"other")), Refused)


def test_the_oldest_request_ids_beyond_the_count_are_forgotten(place: Place) -> None:
    engine = place.open(Window(request_ids=2))
    for request in ("r1", "", "r2", "r3"):
        commit(engine, put("a"), request=request)
    for _ in range(2):
        assert [is_kept(engine, request) for request in ("r1", "r2", "r3")] == [False, True, True]
        engine = place.reopen()


def test_a_forgotten_request_id_is_a_new_one(place: Place) -> None:
    engine = place.open(Window(request_ids=2))
    for request in ("r1", "r2", "r3"):
        commit(engine, put("a"), request=request)
    assert not commit(engine, put("a"), request="r1", content=b"new").repeated
    assert commit(engine, put("a"), request="r1", content=b"new").repeated
    assert [is_kept(engine, request) for request in ("r1", "r2", "r3")] == [True, False, True]


def test_the_age_of_a_request_id_is_measured_at_the_newest_commit(place: Place) -> None:
    engine = place.open(Window(request_id_ms=100))
    commit(engine, put("a"), request="r1", time_ms=1_000)
    commit(engine, put("a"), request="r2", time_ms=1_001)
    commit(engine, put("a"), time_ms=1_100)
    assert [is_kept(engine, "r1"), is_kept(engine, "r2")] == [True, True]
    one(engine, batch(delete("absent"), time_ms=9_000))  # changes nothing, so it is no commit
    assert commit(engine, put("a"), request="r1", time_ms=9_000).repeated  # and this is none either
    commit(engine, put("a"), time_ms=1_101)
    assert [is_kept(engine, "r1"), is_kept(engine, "r2")] == [False, True]


def test_a_step_of_the_wall_clock_forgets_none_of_the_newest(place: Place) -> None:
    engine = place.open(Window(request_id_ms=100, request_ids_min=2))
    for request in ("r1", "r2", "r3"):
        commit(engine, put("a"), request=request, time_ms=1_000)
    for _ in range(3):
        commit(engine, put("a"), time_ms=90_000_000)
        assert [is_kept(engine, request) for request in ("r1", "r2", "r3")] == [False, True, True]
        engine = place.reopen()


def test_a_commit_forgets_at_most_its_two_oldest_request_ids(place: Place) -> None:
    engine = place.open(Window(request_id_ms=100))
    requests = [f"r{number}" for number in range(5)]
    for request in requests:
        commit(engine, put("a"), request=request, time_ms=1_000)
    engine.apply([batch(put("a"), time_ms=2_000), batch(put("a"), time_ms=2_000)])
    assert [is_kept(engine, request) for request in requests] == [False, False, False, False, True]


@pytest.mark.parametrize("trims", [False, True])
def test_what_is_forgotten_depends_on_the_batches_and_not_on_trimming(place: Place, *, trims: bool) -> None:
    engine = place.open(Window(request_id_ms=100, log_revisions=2))
    for request, time_ms in (("r1", 1_000), ("r2", 1_000), ("r3", 1_000), ("far", 9_000), ("r5", 1_050)):
        commit(engine, put("a"), request=request, time_ms=time_ms)
        if trims:
            trim_all(engine)
    kept = [request for request in ("r1", "r2", "r3", "far", "r5") if is_kept(engine, request)]
    assert kept == ["r3", "far", "r5"]  # the wall clock went back: what had been forgotten stays so, r3 is young again
