"""The contract of `store.engine`, purging: what goes, what stays, and that nothing brings it back.

Rule: as in part 1, only the `Engine` protocol is used.
"""

from __future__ import annotations

import pytest

from cosessiond.store import hash
from cosessiond.store.engine import Committed, Engine, Purged, ValuePurged, Window
from store.engines import Place, append, batch, commit, delete, id_of, one, put, raw, trim_all, value_now

HIDDEN = "hunter2 and all that"
A = id_of("a")


def purge_all(engine: Engine, key: str, *, before: int = 1 << 40, rows_max: int = 2) -> int:
    """Purge in slices; how many values went."""
    after = total = 0
    while True:
        done = engine.purge(id_of(key), before=before, after=after, rows_max=rows_max)
        assert done is not None
        total += done.values
        if not done.more:
            assert engine.erase()
            return total
        assert done.reached > after
        after = done.reached


def written(engine: Engine) -> None:
    """Five versions of a key, others beside them, and its end."""
    for number in range(4):
        commit(engine, put("a", f"{HIDDEN} {number}"), put("b", number), request=f"r{number}", content=b"c")
    commit(engine, delete("a"))


def test_values_go_and_the_rest_of_each_version_stays(engine: Engine) -> None:
    written(engine)
    before = engine.history(A, 9, 0)
    assert purge_all(engine, "a") == 4
    after = engine.history(A, 9, 0)
    assert [row.value for row in after] == [b"", *[hash.trace_of(row.value) for row in before[1:]]]
    assert [hash.value_hash(row.value) for row in after[1:]] == [hash.value_hash(row.value) for row in before[1:]]
    bare = [(row.kind, row.version, row.mod_revision, row.time_ms, row.origin) for row in after]
    assert bare == [(row.kind, row.version, row.mod_revision, row.time_ms, row.origin) for row in before]
    assert value_now(engine, "b") == 3


def test_the_chain_holds_as_it_is_also_after_a_restart(place: Place) -> None:
    engine = place.open()
    written(engine)
    position = engine.position()
    purge_all(engine, "a")
    assert engine.position() == position
    assert place.reopen().position() == position
    assert commit(place.reopen(), put("a", 1)).revision == 6


def test_the_changes_of_the_log_carry_traces(engine: Engine) -> None:
    written(engine)
    purge_all(engine, "a")
    values = [change.value for each in engine.changes(0, 99, 1 << 30) for change in each.changes if change.id == A]
    assert values == [*[hash.trace_of(raw(f"{HIDDEN} {number}")) for number in range(4)], b""]


def test_reading_what_was_purged_is_refused_and_its_neighbours_are_read(engine: Engine) -> None:
    written(engine)
    purge_all(engine, "a")
    with pytest.raises(ValuePurged) as refused:
        engine.entry_at(A, 3)
    assert refused.value.args == (A, 3)
    with pytest.raises(ValuePurged):
        engine.range_at("context", "p", prefix="", after="", limit=1, revision=3)
    page = engine.range_at("context", "p", prefix="", after="a", limit=9, revision=3)
    assert [(entry.id[2], entry.value) for entry in page.entries] == [("b", raw(2))]
    assert engine.entry_at(A, 5) is None


def test_only_versions_below_the_bound_go(engine: Engine) -> None:
    written(engine)
    assert purge_all(engine, "a", before=3) == 2
    values = [row.value for row in engine.history(A, 9, 0)]
    assert values[1:3] == [raw(f"{HIDDEN} 3"), raw(f"{HIDDEN} 2")]
    assert all(map(hash.is_trace, values[3:]))


def test_the_live_entry_keeps_its_value_whatever_the_bound(engine: Engine) -> None:
    for number in range(3):
        commit(engine, put("a", number))
    assert purge_all(engine, "a") == 2
    assert value_now(engine, "a") == 2
    assert not hash.is_trace(engine.history(A, 1, 0)[0].value)


def test_doing_it_again_does_nothing(engine: Engine) -> None:
    written(engine)
    assert purge_all(engine, "a") == 4
    shown = (engine.position(), engine.history(A, 9, 0), engine.changes(0, 99, 1 << 30))
    assert purge_all(engine, "a") == 0
    assert engine.purge(id_of("never"), before=9, after=0, rows_max=9) == Purged(8, 0, more=False)
    assert (engine.position(), engine.history(A, 9, 0), engine.changes(0, 99, 1 << 30)) == shown


def test_a_repeat_of_what_wrote_it_does_not_bring_it_back(place: Place) -> None:
    engine = place.open()
    written(engine)
    purge_all(engine, "a")
    for restarted in (False, True):
        each = place.reopen() if restarted else engine
        again = one(each, batch(put("a", f"{HIDDEN} 1"), put("b", 1), request="r1", content=b"c"))
        assert isinstance(again, Committed)
        assert (again.repeated, again.revision) == (True, 2)
        assert [change.value for change in again.changes] == [b"", raw(1)]


def test_a_new_life_is_untouched(engine: Engine) -> None:
    written(engine)
    commit(engine, append("a", 1))
    purge_all(engine, "a", before=6)
    commit(engine, append("a", 2))
    assert value_now(engine, "a") == [1, 2]


def test_trimming_goes_on_over_what_was_purged(place: Place) -> None:
    window = Window(log_revisions=3, versions=2)
    engine = place.open(window)
    written(engine)
    purge_all(engine, "a", before=4)
    commit(engine, put("a", "again"))
    for number in range(4):
        commit(engine, put("b", number))
    trim_all(engine)
    assert engine.position().compact_revision == 8
    assert [row.mod_revision for row in engine.history(A, 9, 0)] == [6, 5], "of two, which are no traces"
    assert purge_all(engine, "a") == 0
    assert place.reopen().position().revision == 10


def test_what_was_purged_whole_goes_with_its_deletion(place: Place) -> None:
    engine = place.open(Window(log_revisions=3, versions=2))
    written(engine)
    purge_all(engine, "a")
    commit(engine, put("b"), put("c"))
    commit(engine, put("b"))
    trim_all(engine)
    assert [hash.is_trace(row.value) for row in engine.history(A, 9, 0)] == [False, True]
    commit(engine, put("b"))
    trim_all(engine)
    assert engine.history(A, 9, 0) == []
