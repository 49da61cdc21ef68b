"""The contract of `store.engine`, part 3 of 3: changes, reads at a revision, history, and what trimming leaves.

Rule: as in part 1, only the `Engine` protocol is used.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cosessiond.store.engine import BelowWindow, Committed, Engine, Origin, Put, VersionRow, Window, Write
from store.engines import (
    UNBOUNDED,
    Place,
    batch,
    commit,
    delete,
    expect,
    id_of,
    keys_now,
    merge,
    one,
    put,
    raw,
    trim_all,
    value_now,
)

# ------------------------------------------------------------------------------------------------------------ reads


def test_an_entry_is_read_as_it_was_at_each_revision(engine: Engine) -> None:
    writes = (put("b"), put("a", 1), merge("a", 2), put("b"), delete("a"), put("b"), put("a", 3))
    stood = []
    for write in writes:
        commit(engine, write)
        stood.append(next((entry for entry in engine.entries() if entry.id == id_of("a")), None))
    assert [entry and entry.value for entry in stood] == [None, raw(1), raw(2), raw(2), None, None, raw(3)]
    assert [engine.entry_at(id_of("a"), revision) for revision in range(1, 8)] == stood


def test_a_range_is_read_as_it_was_at_each_revision(engine: Engine) -> None:
    writes = (put("k/b", 1), put("k/a", 2), put("k/b", 3), put("x"), delete("k/a"), put("k/c", 4), put("k/a", 5))
    stood = []
    for write in writes:
        commit(engine, write)
        stood.append(tuple(entry for entry in engine.entries() if entry.id[2].startswith("k/")))
    for revision in range(1, 8):
        page = engine.range_at("context", "p", prefix="k/", after="", limit=9, revision=revision)
        assert (page.entries, page.more) == (stood[revision - 1], False)


def test_a_revision_that_is_not_there_yet_reads_as_the_present(engine: Engine) -> None:
    commit(engine, put("a", 1))
    assert engine.entry_at(id_of("a"), 99) == engine.entry_at(id_of("a"), 1)
    assert keys_now(engine, revision=99) == ["a"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7])
def test_pages_of_a_range_join_to_the_whole_and_say_whether_more_follows(engine: Engine, limit: int) -> None:
    keys = [f"k{number}" for number in range(6)]
    for key in ["a", *reversed(keys), "z"]:
        commit(engine, put(key))
    found: list[str] = []
    more = True
    while more:
        after = found[-1] if found else ""
        page = engine.range_at("context", "p", prefix="k", after=after, limit=limit, revision=8)
        assert len(page.entries) <= limit
        found += [entry.id[2] for entry in page.entries]
        assert page.more == (found != keys)
        more = page.more
    assert found == keys


def test_keys_that_were_deleted_fill_no_page_and_are_not_more(engine: Engine) -> None:
    keys = [f"k{number}" for number in range(8)]
    commit(engine, *[put(key) for key in keys])
    commit(engine, *[delete(key) for key in keys if key not in ("k2", "k5")])
    page = engine.range_at("context", "p", prefix="k", after="", limit=1, revision=2)
    assert ([entry.id[2] for entry in page.entries], page.more) == (["k2"], True)
    page = engine.range_at("context", "p", prefix="k", after="k2", limit=1, revision=2)
    assert ([entry.id[2] for entry in page.entries], page.more) == (["k5"], False)


def test_a_page_of_no_entries_says_whether_there_are_any(engine: Engine) -> None:
    commit(engine, put("a"))
    assert engine.range_at("context", "p", prefix="a", after="", limit=0, revision=1).more
    assert not engine.range_at("context", "p", prefix="b", after="", limit=0, revision=1).more


def test_a_range_may_begin_outside_its_prefix(engine: Engine) -> None:
    for key in ("a", "k1", "k2", "z"):
        commit(engine, put(key))
    assert keys_now(engine, prefix="k", after="a") == ["k1", "k2"]
    assert keys_now(engine, prefix="k", after="k") == ["k1", "k2"]
    assert keys_now(engine, prefix="k", after="k10") == ["k2"]
    assert keys_now(engine, prefix="k", after="z") == []


def test_ranges_and_entries_keep_spaces_and_projects_apart(engine: Engine) -> None:
    ids = [id_of("k"), id_of("k", project="q"), id_of("k", project=""), id_of("a", space="$mail"), id_of("z")]
    for id in ids:
        commit(engine, Put(id, raw(1)))
    assert [entry.id for entry in engine.entries()] == sorted(ids)
    for space, project in {id[:2] for id in ids}:
        page = engine.range_at(space, project, prefix="", after="", limit=9, revision=5)
        assert [entry.id for entry in page.entries] == sorted(id for id in ids if id[:2] == (space, project))


LAST = "\U0010ffff"
# Ordered by UTF-8 bytes, which is by code points; UTF-16 would put U+FF5E after U+1F600, a locale "é" beside "e".
ODD_KEYS = [
    "\x00", "\x00a", "%", "*", "A", "[a]", "_", "a", "a\x00", "a\x00b", "a%b", "ab", "aé", "a\u0301", "a" + LAST,
    "a" + LAST + "b", "a" + LAST + LAST, "a" + LAST + LAST + "b", "b", "e", "é", "ﬁ", "\uff5e", "😀", LAST, LAST + LAST,
]  # fmt: skip


def test_keys_are_ordered_by_their_utf_8_bytes(engine: Engine) -> None:
    assert sorted(ODD_KEYS, key=str.encode) == ODD_KEYS
    commit(engine, *[put(key) for key in reversed(ODD_KEYS)])
    assert [entry.id[2] for entry in engine.entries()] == ODD_KEYS
    assert keys_now(engine) == ODD_KEYS
    for number, key in enumerate(ODD_KEYS):
        assert keys_now(engine, after=key) == ODD_KEYS[number + 1 :]


@pytest.mark.parametrize("prefix", ["", *ODD_KEYS, "absent"])
def test_a_prefix_is_taken_literally_whatever_characters_it_has(engine: Engine, prefix: str) -> None:
    commit(engine, *[put(key) for key in ODD_KEYS])
    expected = [key for key in ODD_KEYS if key.startswith(prefix)]
    assert keys_now(engine, prefix=prefix) == expected
    space, project, _ = id_of("")
    page = engine.range_at(space, project, prefix=prefix, after=expected[0] if expected else "", limit=1, revision=1)
    assert [entry.id[2] for entry in page.entries] == expected[1:2]
    assert page.more == (len(expected) > 2)


# ---------------------------------------------------------------------------------------------------------- history


def test_history_has_every_version_newest_first(engine: Engine) -> None:
    origins = [Origin("h", f"s{number}", "i", "put", f"r{number}", b"c") for number in range(5)]
    writes: list[Write] = [put("a", 1), merge("a", {"n": 2}), delete("a", "expire"), put("b"), put("a", 3)]
    for number, write in enumerate(writes):
        commit(engine, write, session=f"s{number}", request=f"r{number}", content=b"c", time_ms=10 * number)
    a = id_of("a")
    assert engine.history(a, 99, 0) == [
        VersionRow(a, "put", raw(3), 1, 5, 5, 40, origins[4]),
        VersionRow(a, "expire", b"", 0, 1, 3, 20, origins[2]),
        VersionRow(a, "put", raw({"n": 2}), 2, 1, 2, 10, origins[1]),
        VersionRow(a, "put", raw(1), 1, 1, 1, 0, origins[0]),
    ]


def test_history_is_paged_by_before_and_limit(engine: Engine) -> None:
    for number in range(6):
        commit(engine, put("a", number), put(f"b{number}"))

    def revisions(limit: int, before: int) -> list[int]:
        return [row.mod_revision for row in engine.history(id_of("a"), limit, before)]

    assert revisions(2, 0) == [6, 5]
    assert revisions(2, 5) == [4, 3]
    assert revisions(9, 3) == [2, 1]
    assert revisions(9, 1) == []
    assert revisions(9, -1) == [6, 5, 4, 3, 2, 1]
    assert revisions(0, 0) == []


def test_only_the_newest_versions_are_shown_whatever_is_still_kept(place: Place) -> None:
    engine = place.open(Window(versions=3))
    for write in (put("a", 1), put("a", 2), delete("a"), put("a", 3), put("b")):
        commit(engine, write)
    for _ in range(2):
        assert [row.mod_revision for row in engine.history(id_of("a"), 99, 0)] == [4, 3, 2]
        assert [row.mod_revision for row in engine.history(id_of("a"), 99, 3)] == [2]
        assert engine.history(id_of("a"), 99, 2) == []
        assert engine.entry_at(id_of("a"), 1) is not None
        trim_all(engine)


# ---------------------------------------------------------------------------------------------------------- changes


def ten_batches(engine: Engine) -> list[Committed]:
    return [commit(engine, put("a", "x" * 1_000), put(f"b{number}")) for number in range(10)]


def test_changes_are_the_batches_whole_and_in_order_as_they_were_answered(engine: Engine) -> None:
    committed = [
        commit(engine, put("a", 1, ttl_ms=3, owner="o"), put("b", 2), session="s1", request="r1", content=b"h"),
        commit(engine, delete("b", "expire"), merge("a", {"n": None}), time_ms=2_000),
        commit(engine, when=(expect("a", "version", 9),), otherwise=(delete("a"),)),
    ]
    commit(engine, delete("absent"))
    one(engine, batch(put("a"), when=(expect("a", "version", 9),)))
    one(engine, batch(put("a"), request="r1", content=b"h"))
    assert [engine.changes(after, 9, UNBOUNDED) for after in range(4)] == [committed[after:] for after in range(4)]


def test_no_changes_follow_the_newest_revision(engine: Engine) -> None:
    commit(engine, put("a"))
    assert engine.changes(1, 9, UNBOUNDED) == []
    assert engine.changes(2, 9, UNBOUNDED) == []
    assert engine.changes(99, 9, UNBOUNDED) == []


@pytest.mark.parametrize(("rows_max", "bytes_max"), [(1, UNBOUNDED), (9, 1), (0, 0), (9, 0), (0, UNBOUNDED)])
def test_there_is_at_least_one_batch_if_there_is_any(engine: Engine, rows_max: int, bytes_max: int) -> None:
    committed = ten_batches(engine)
    for after in range(10):
        assert engine.changes(after, rows_max, bytes_max) == [committed[after]]


def test_changes_are_bounded_by_batches_and_by_bytes(engine: Engine) -> None:
    committed = ten_batches(engine)
    assert engine.changes(2, 4, UNBOUNDED) == committed[2:6]
    assert engine.changes(2, 100, 4_900) == committed[2:6]  # each has a little over 1,000 bytes
    assert engine.changes(2, 3, 4_900) == committed[2:5]
    assert engine.changes(8, 3, 4_900) == committed[8:]


# ------------------------------------------------------------------------------------------------------------- trim


def test_there_is_nothing_to_trim_inside_the_window(place: Place) -> None:
    engine = place.open(Window(log_revisions=10, versions=2))
    before = ten_batches(engine), engine.position()
    assert engine.trim(99) == 0
    assert (engine.changes(0, 99, UNBOUNDED), engine.position()) == before


def test_the_oldest_batches_beyond_the_count_go_and_compact_revision_rises(place: Place) -> None:
    engine = place.open(Window(log_revisions=4))
    committed = ten_batches(engine)
    before = engine.position()
    assert trim_all(engine) >= 6
    assert engine.position().compact_revision == 7
    assert engine.position().revision == 10
    assert (engine.position().chain_hash, engine.position().state_hash) == (before.chain_hash, before.state_hash)
    assert engine.changes(6, 99, UNBOUNDED) == committed[6:]


def test_the_oldest_batches_beyond_the_bytes_go(place: Place) -> None:
    engine = place.open(Window(log_bytes=4_900))  # each batch has a little over 1,000
    ten_batches(engine)
    trim_all(engine)
    assert engine.position().compact_revision == 7


@pytest.mark.parametrize("window", [Window(log_revisions=1), Window(log_bytes=1), Window(log_revisions=0)])
def test_the_newest_batch_always_stays(place: Place, window: Window) -> None:
    engine = place.open(window)
    committed = ten_batches(engine)
    trim_all(engine)
    assert engine.position().compact_revision == 10
    assert engine.changes(9, 9, UNBOUNDED) == committed[9:]


def test_trimming_goes_in_slices_of_about_the_rows_asked_for(place: Place) -> None:
    engine = place.open(Window(log_revisions=4))
    ten_batches(engine)
    before = engine.position().compact_revision
    while engine.trim(2):
        reached = engine.position().compact_revision
        assert before <= reached <= before + 2
        before = reached
    assert engine.position().compact_revision == 7


CALLS: list[Callable[[Engine, int], object]] = [
    lambda engine, revision: engine.changes(revision - 1, 9, UNBOUNDED),
    lambda engine, revision: engine.entry_at(id_of("a"), revision),
    lambda engine, revision: engine.entry_at(id_of("never there"), revision),
    lambda engine, revision: engine.range_at("context", "p", prefix="", after="", limit=9, revision=revision),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("trims", [False, True])
def test_every_read_below_the_window_raises_with_the_compact_revision(
    place: Place, call: Callable[[Engine, int], object], *, trims: bool
) -> None:
    engine = place.open(Window(log_revisions=4))
    ten_batches(engine)
    if trims:
        trim_all(engine)
    compact = engine.position().compact_revision
    assert compact == (7 if trims else 1)
    call(engine, compact)
    for revision in range(-1, compact):
        with pytest.raises(BelowWindow) as raised:
            call(engine, revision)
        assert raised.value.args == (compact,)


def test_an_empty_store_has_no_revision_to_read_at(engine: Engine) -> None:
    with pytest.raises(BelowWindow) as raised:
        engine.entry_at(id_of("a"), 0)
    assert raised.value.args == (1,)
    with pytest.raises(BelowWindow):
        engine.changes(-1, 9, UNBOUNDED)


def eventful(engine: Engine) -> None:
    """Lives, deletions and rebirths of entries, some written often, some once and long ago."""
    commit(engine, put("once", 1), put("gone", 1), put("often", 0))
    commit(engine, delete("gone"), put("twice", 1))
    for number in range(12):
        commit(engine, merge("often", {str(number): number}), put(f"new{number % 5}", number))
        if number % 4 == 3:
            commit(engine, delete("often", "expire"), put("twice", number))
    commit(engine, delete("twice"), delete("new1"))


def reads(engine: Engine) -> dict[int, object]:
    """Every entry and range at every revision of the window, and the changes after it."""
    position = engine.position()
    keys = ["once", "gone", "often", "twice", *[f"new{number}" for number in range(5)]]
    return {
        revision: (
            [engine.entry_at(id_of(key), revision) for key in keys],
            engine.range_at("context", "p", prefix="", after="", limit=99, revision=revision),
            engine.range_at("context", "p", prefix="new", after="new0", limit=2, revision=revision),
            engine.changes(revision - 1, 99, UNBOUNDED),
        )
        for revision in range(position.compact_revision, position.revision + 1)
    }


@pytest.mark.parametrize("rows_max", [1, 3, 1_000])
@pytest.mark.parametrize("window", [Window(log_revisions=5, versions=2), Window(log_revisions=1, versions=1)])
def test_reads_at_compact_revision_and_above_are_the_same_before_and_after_trimming(
    place: Place, window: Window, rows_max: int
) -> None:
    engine = place.open(window)
    eventful(engine)
    before = reads(engine)
    entries = list(engine.entries())
    while engine.trim(rows_max):
        after = reads(engine)
        assert after == {revision: before[revision] for revision in after}
    assert len(reads(engine)) == window.log_revisions
    assert list(engine.entries()) == entries
    engine = place.reopen()
    after = reads(engine)
    assert after == {revision: before[revision] for revision in after}


def test_history_is_the_same_before_and_after_trimming_but_of_what_was_deleted_below_the_window(place: Place) -> None:
    engine = place.open(Window(log_revisions=2, versions=3))
    eventful(engine)
    keys = ("once", "gone", "often", "twice", "new1", "new2")
    before = [engine.history(id_of(key), 99, 0) for key in keys]
    assert [len(rows) for rows in before] == [1, 2, 3, 3, 3, 2]
    trim_all(engine, 3)
    before[keys.index("gone")] = []
    assert [engine.history(id_of(key), 99, 0) for key in keys] == before


def test_a_trimmed_store_goes_on(place: Place) -> None:
    engine = place.open(Window(log_revisions=2, versions=2))
    for number in range(40):
        commit(engine, put("a", number), put(f"b{number % 3}", number))
        trim_all(engine)
        assert engine.position().compact_revision == max(1, number)
        assert value_now(engine, "a") == number
    assert [row.version for row in engine.history(id_of("a"), 99, 0)] == [40, 39]
    assert [row.version for row in engine.history(id_of("b1"), 99, 0)] == [13, 12]


def test_versions_nobody_can_ask_for_are_dropped_although_their_entry_was_written_since(place: Place) -> None:
    """Seen through a repeat, the one call that shows whether a version is still there."""
    engine = place.open(Window(log_revisions=2, versions=2))
    early = batch(put("a", "early"), request="early")
    one(engine, early)
    for write in (put("a", 2), put("b"), put("c")):
        commit(engine, write)
    trim_all(engine)
    again = one(engine, early)
    assert isinstance(again, Committed)
    assert again.changes[0].value == raw("early")  # one of the newest two
    commit(engine, put("a", 3))
    trim_all(engine)
    again = one(engine, early)
    assert isinstance(again, Committed)
    assert again.changes[0].value == b""
