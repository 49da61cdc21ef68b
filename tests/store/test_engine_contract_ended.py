"""The contract of `store.engine`, keys that have ended: their history goes when the window passes their deletion.

Rule: as in part 1, only the `Engine` protocol is used; `test_ended_only` has what only the tables show.
"""

from __future__ import annotations

import pytest

from cosessiond.store.engine import Engine, EntryId, Put, Window
from store.engines import Place, batch, commit, delete, id_of, keys_now, one, put, raw, trim_all, value_now


def revisions(engine: Engine, key: str | EntryId) -> list[int]:
    """The revisions that the history of a key shows."""
    return [row.mod_revision for row in engine.history(id_of(key) if isinstance(key, str) else key, 99, 0)]


def pass_by(engine: Engine, compact_revision: int) -> None:
    """Write elsewhere until the window begins at this revision."""
    while engine.position().compact_revision < compact_revision:
        commit(engine, put("other"))
        trim_all(engine, 3)
    assert engine.position().compact_revision == compact_revision


@pytest.fixture
def narrow(place: Place) -> Engine:
    """A store whose window has three batches."""
    return place.open(Window(log_revisions=3, versions=4))


@pytest.mark.parametrize("kind", ["delete", "expire"])
def test_the_history_of_a_key_goes_when_its_deletion_leaves_the_window(place: Place, narrow: Engine, kind: str) -> None:
    for each in (put("a", 1), put("a", 2), delete("a", kind)):  # type: ignore[arg-type]
        commit(narrow, each)
    pass_by(narrow, 3)
    assert revisions(narrow, "a") == [3, 2, 1], "it is the oldest of the window"
    pass_by(narrow, 4)
    assert revisions(narrow, "a") == []
    assert revisions(place.reopen(), "a") == []


def test_reads_in_the_window_are_as_before(narrow: Engine) -> None:
    commit(narrow, put("a", 1), put("b", 1))
    commit(narrow, delete("a"))
    pass_by(narrow, 3)
    for revision in (3, 4, 5):
        assert narrow.entry_at(id_of("a"), revision) is None
        assert keys_now(narrow, revision=revision, prefix="a") == []
    assert value_now(narrow, "b") == 1


def test_one_that_was_put_again_in_time_keeps_what_it_had(narrow: Engine) -> None:
    for each in (put("a", 1), delete("a"), put("other"), put("a", 2)):
        commit(narrow, each)
    pass_by(narrow, 20)
    assert revisions(narrow, "a") == [4, 2, 1]
    commit(narrow, delete("a"))
    pass_by(narrow, 24)
    assert revisions(narrow, "a") == []


def test_one_that_is_put_again_too_late_begins_anew(place: Place, narrow: Engine) -> None:
    commit(narrow, put("a", 1))
    commit(narrow, delete("a"))
    pass_by(narrow, 3)
    commit(narrow, put("a", 2))
    assert revisions(narrow, "a") == [6]
    pass_by(narrow, 9)
    assert revisions(narrow, "a") == [6]
    assert revisions(place.reopen(), "a") == [6]


@pytest.mark.parametrize("rows_max", [1, 3, 100])
def test_many_that_end_at_once_are_all_over_at_once(narrow: Engine, rows_max: int) -> None:
    """However small the slices are: nobody sees a history that is half there."""
    keys = [f"k{number:02}" for number in range(40)]
    for number in range(3):
        commit(narrow, *[put(key, number) for key in keys])
    commit(narrow, *[delete(key) for key in keys])
    for _ in range(3):
        commit(narrow, put("other"))
    while narrow.trim(rows_max):
        below = narrow.position().compact_revision > 4
        assert {len(revisions(narrow, key)) for key in keys} == {0 if below else 4}
        assert keys_now(narrow) == ["other"]
        for revision in range(narrow.position().compact_revision, 8):
            assert len(keys_now(narrow, revision=revision, prefix="k")) == (40 if revision < 4 else 0)
    assert narrow.position().compact_revision == 5


def test_what_is_put_again_while_the_rest_still_goes_shows_nothing_of_it(place: Place, narrow: Engine) -> None:
    keys = [f"k{number:02}" for number in range(20)]
    first = batch(*[put(key, "x" * 9_000) for key in keys], request="r")
    one(narrow, first)
    commit(narrow, *[put(key, "x" * 9_000) for key in keys])
    commit(narrow, *[delete(key) for key in keys])
    for _ in range(3):
        commit(narrow, put("other"))
    while narrow.position().compact_revision <= 3:
        assert narrow.trim(1)
    commit(narrow, *[put(key, "again") for key in keys])
    for restarted in (False, True):
        engine = place.reopen() if restarted else narrow
        assert {tuple(revisions(engine, key)) for key in keys} == {(7,)}
        assert {row.version for key in keys for row in engine.history(id_of(key), 9, 0)} == {1}
        repeated = one(engine, first)
        assert {change.value for change in repeated.changes} == {b""}  # type: ignore[union-attr]
        trim_all(engine, 2)
        assert {tuple(revisions(engine, key)) for key in keys} == {(7,)}
        assert len(keys_now(engine, prefix="k")) == 20


def test_compact_ends_them_as_well(place: Place) -> None:
    engine = place.open()
    commit(engine, put("a"))
    commit(engine, delete("a"))
    commit(engine, put("b"))
    engine.compact(2)
    trim_all(engine)
    assert revisions(engine, "a") == [2, 1]
    engine.compact(3)
    trim_all(engine)
    assert revisions(engine, "a") == []


def test_an_entry_of_ours_keeps_one_version(place: Place, narrow: Engine) -> None:
    claim = id_of("c", "$claims")
    for number in range(5):
        commit(narrow, Put(claim, raw(number)), put("a", number))
    for restarted in (False, True):
        engine = place.reopen() if restarted else narrow
        assert revisions(engine, claim) == [5]
        assert [row.mod_revision for row in engine.history(claim, 9, 5)] == []
        assert engine.entry_at(claim, 4).value == raw(3), "in the window it is read as it was"  # type: ignore[union-attr]
        assert revisions(engine, "a") == [5, 4, 3, 2]
        trim_all(engine)
