"""The contract of `store.engine`, part 1 of 3: what applying a batch does. One suite for every engine.

Rule: only the `Engine` protocol is used, and each test says one sentence of the contract. Part 2 are the request ids,
part 3 the past: changes, reads at a revision, history, trimming.
"""

from __future__ import annotations

from typing import Literal

import pytest
from msgspec import msgpack

from cosession.messages.limits import BATCH_BYTES_MAX, VALUE_BYTES_MAX
from cosessiond.store import hash
from cosessiond.store.engine import (
    Applied,
    Batch,
    Committed,
    CompareField,
    Conflicted,
    Engine,
    Entry,
    EntryCompare,
    Merge,
    Position,
    Put,
    RangeCompare,
    Refused,
    Window,
    Write,
)
from store.engines import (
    EPOCH,
    UNBOUNDED,
    Place,
    batch,
    commit,
    delete,
    expect,
    id_of,
    keys_now,
    merge,
    nothing_newer,
    one,
    put,
    raw,
    trim_all,
    value_now,
)

# ------------------------------------------------------------------------------------------------------- revisions


def test_an_empty_store_stands_at_revision_0_with_compact_revision_1_and_zero_hashes(engine: Engine) -> None:
    assert engine.position() == Position(EPOCH, 0, 1, bytes(32), bytes(16))
    assert list(engine.entries()) == []
    assert engine.changes(0, 10, 1_000) == []
    assert engine.history(id_of("a"), 10, 0) == []
    assert engine.trim(10) == 0


def test_a_batch_that_changes_something_takes_the_next_revision(engine: Engine) -> None:
    assert [commit(engine, put("a")).revision, commit(engine, put("b"), delete("a")).revision] == [1, 2]
    assert engine.position().revision == 2


def test_a_batch_that_changes_nothing_takes_no_revision(engine: Engine) -> None:
    commit(engine, put("a"))
    before = engine.position()
    for writes in [(), (delete("b"),), (delete("b"), delete("c", "expire"))]:
        outcome = commit(engine, *writes, time_ms=7)
        assert outcome == Committed(1, True, 7, outcome.origin, ())
    assert engine.position() == before


def test_a_group_of_no_batches_does_nothing(engine: Engine) -> None:
    assert engine.apply([]) == []
    assert engine.position().revision == 0


def test_a_later_batch_of_a_group_sees_the_earlier_ones(engine: Engine) -> None:
    outcomes = engine.apply(
        [
            batch(put("a", {"n": 1})),
            batch(merge("a", {"m": 2}), when=(expect("a", "version", 1),)),
            batch(put("b", 1), when=(nothing_newer("", 2),)),
            batch(delete("a"), when=(expect("a", "mod_revision", 2),)),
            batch(put("a", 3), when=(expect("a", "create_revision", 0),)),
        ]
    )
    assert [(type(each), each.revision) for each in outcomes] == [(Committed, n) for n in (1, 2, 3, 4, 5)]
    assert value_now(engine, "a") == 3


def test_a_conflict_or_refusal_inside_a_group_undoes_no_other_batch(engine: Engine) -> None:
    outcomes = engine.apply(
        [
            batch(put("a")),
            batch(put("b"), when=(expect("a", "version", 9),)),
            batch(put("c")),
            batch(merge("c", "x" * VALUE_BYTES_MAX)),
            batch(put("d")),
        ]
    )
    assert [type(each) for each in outcomes] == [Committed, Conflicted, Committed, Refused, Committed]
    assert [each.revision for each in outcomes] == [1, 1, 2, 2, 3]
    assert keys_now(engine) == ["a", "c", "d"]


# ---------------------------------------------------------------------------------------------------------- writes


def test_a_put_keeps_every_field_and_the_hash_of_the_row(engine: Engine) -> None:
    commit(engine, put("other"))
    commit(engine, put("a", {"x": [1, None]}, ttl_ms=5_000, owner="s9"), session="s7", time_ms=42)
    entry = engine.entry_at(id_of("a"), 2)
    value = raw({"x": [1, None]})
    row = hash.row_hash(
        id_of("a"),
        value,
        version=1,
        create_revision=2,
        mod_revision=2,
        time_ms=42,
        session="s7",
        ttl_ms=5_000,
        owner="s9",
    )
    assert entry == Entry(id_of("a"), value, 1, 2, 2, 42, "s7", 5_000, "s9", row)
    assert entry in list(engine.entries())


def test_a_put_tells_which_version_by_which_session_it_replaced(engine: Engine) -> None:
    first = commit(engine, put("a", 1), session="s1")
    commit(engine, put("b"))
    second = commit(engine, put("a", 2, ttl_ms=9, owner="o"), session="s2")
    third = commit(engine, put("a", 3), session="s3")
    assert first.changes == (Applied(id_of("a"), "put", raw(1), 1, 1, 0, "", 0, ""),)
    assert second.changes == (Applied(id_of("a"), "put", raw(2), 2, 1, 9, "o", 1, "s1"),)
    assert third.changes == (Applied(id_of("a"), "put", raw(3), 3, 1, 0, "", 3, "s2"),)


def test_a_put_of_the_value_that_stands_makes_a_version_all_the_same(engine: Engine) -> None:
    commit(engine, put("a", 1))
    assert commit(engine, put("a", 1)).changes[0].version == 2


def test_a_put_without_a_lease_detaches_the_entry_from_the_one_it_had(engine: Engine) -> None:
    commit(engine, put("a", 1, ttl_ms=5, owner="s1"))
    commit(engine, put("a", 2))
    entry = engine.entry_at(id_of("a"), 2)
    assert entry is not None
    assert (entry.ttl_ms, entry.owner) == (0, "")


def test_a_put_over_the_largest_value_is_refused_and_one_of_exactly_that_size_is_not(engine: Engine) -> None:
    largest = raw("x" * (VALUE_BYTES_MAX - 5))
    assert len(largest) == VALUE_BYTES_MAX
    assert isinstance(one(engine, batch(Put(id_of("a"), largest))), Committed)
    outcome = one(engine, batch(Put(id_of("a"), largest + b"\x00")))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.revision) == ("too_large", 1)


@pytest.mark.parametrize("kind", ["delete", "expire"])
def test_a_deletion_removes_the_entry_and_tells_of_the_life_that_ended(
    engine: Engine, kind: Literal["delete", "expire"]
) -> None:
    commit(engine, put("b"))
    commit(engine, put("a", 1, ttl_ms=5, owner="o"), session="s1")
    commit(engine, put("a", 2, ttl_ms=5, owner="o"), session="s2")
    outcome = commit(engine, delete("a", kind), session="s3")
    assert outcome.changes == (Applied(id_of("a"), kind, b"", 0, 2, 0, "", 3, "s2"),)
    assert keys_now(engine) == ["b"]
    assert engine.history(id_of("a"), 1, 0)[0].kind == kind


def test_a_put_after_a_deletion_begins_a_new_life(engine: Engine) -> None:
    for write in (put("a", 1), put("a", 2), delete("a")):
        commit(engine, write)
    outcome = commit(engine, put("a", 3))
    assert outcome.changes == (Applied(id_of("a"), "put", raw(3), 1, 4, 0, "", 0, ""),)


def test_changes_stand_in_the_order_of_the_writes_without_those_that_did_nothing(engine: Engine) -> None:
    commit(engine, put("m"))
    outcome = commit(engine, put("z"), delete("absent"), delete("m"), put("a"))
    assert [(each.id[2], each.kind) for each in outcome.changes] == [("z", "put"), ("m", "delete"), ("a", "put")]


def test_a_batch_is_all_or_nothing(engine: Engine) -> None:
    commit(engine, put("old"))
    before = engine.position()
    outcome = one(engine, batch(put("new"), delete("old"), merge("big", "x" * VALUE_BYTES_MAX), put("last")))
    assert isinstance(outcome, Refused)
    assert outcome.code == "too_large"
    assert engine.position() == before
    assert keys_now(engine) == ["old"]
    assert engine.history(id_of("new"), 9, 0) == []


@pytest.mark.parametrize("second", [put("a", 2), merge("a", 2), delete("a")])
def test_writing_an_id_twice_in_one_branch_is_the_fault_of_the_caller(engine: Engine, second: Put | Merge) -> None:
    with pytest.raises(AssertionError):
        engine.apply([batch(put("a", 1), second)])
    assert engine.position().revision == 0


def test_both_branches_may_write_the_same_id(engine: Engine) -> None:
    commit(engine, put("a", 1), otherwise=(put("a", 2),))
    assert value_now(engine, "a") == 1


# ----------------------------------------------------------------------------------------------------------- merge

# RFC 7396, appendix A: original, patch, result.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), RFC_7396)
def test_a_merge_is_that_of_rfc_7396(engine: Engine, original: object, patch: object, result: object) -> None:
    commit(engine, put("a", original))
    outcome = commit(engine, merge("a", patch))
    assert outcome.changes[0].value == raw(result)
    assert value_now(engine, "a") == result


@pytest.mark.parametrize(
    ("patch", "result"), [({"a": {"b": 1, "c": None}, "d": None}, {"a": {"b": 1}}), ([None], [None]), (None, None)]
)
def test_a_merge_into_an_absent_entry_begins_its_life(engine: Engine, patch: object, result: object) -> None:
    commit(engine, put("a", {"old": 1}, ttl_ms=5, owner="o"))
    commit(engine, delete("a"))
    outcome = commit(engine, merge("a", patch))
    assert outcome.changes == (Applied(id_of("a"), "put", raw(result), 1, 3, 0, "", 0, ""),)


def test_a_merge_keeps_the_lease_of_the_entry_and_not_its_writer(engine: Engine) -> None:
    commit(engine, put("a", {}, ttl_ms=5, owner="o"), session="s1")
    outcome = commit(engine, merge("a", {"n": 1}), session="s2")
    assert outcome.changes == (Applied(id_of("a"), "put", raw({"n": 1}), 2, 1, 5, "o", 1, "s1"),)
    entry = engine.entry_at(id_of("a"), 2)
    assert entry is not None
    assert entry.session == "s2"


def test_a_merge_keeps_the_order_of_names_and_appends_new_ones_in_that_of_the_patch(engine: Engine) -> None:
    commit(engine, put("a", {"z": 1, "y": 2, "x": {"b": 1, "a": 1}}))
    outcome = commit(engine, merge("a", {"c": 1, "x": {"0": 1, "a": 2}, "z": 3, "b": 1, "y": None}))
    assert outcome.changes[0].value == raw({"z": 3, "x": {"b": 1, "a": 2, "0": 1}, "c": 1, "b": 1})


def test_a_merge_that_changes_nothing_makes_a_version_all_the_same(engine: Engine) -> None:
    commit(engine, put("a", {"n": 1}))
    assert commit(engine, merge("a", {})).changes[0].version == 2


def test_a_merge_whose_result_is_over_the_largest_value_refuses_the_batch(engine: Engine) -> None:
    half = "x" * (VALUE_BYTES_MAX // 2)
    commit(engine, put("a", {"left": half}))
    outcome = one(engine, batch(merge("a", {"right": half})))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.revision) == ("too_large", 1)
    assert commit(engine, merge("a", {"right": half[:-100]})).revision == 2


def nested(levels: int, innermost: object) -> object:
    for _ in range(levels):
        innermost = {"n": innermost}
    return innermost


def test_a_merge_whose_result_has_more_than_32_levels_around_a_part_refuses_the_batch(engine: Engine) -> None:
    commit(engine, put("a", {}))
    assert isinstance(one(engine, batch(merge("a", nested(32, 1)))), Committed)
    for patch in (nested(33, 1), nested(33, []), [[nested(31, 1)]]):
        outcome = one(engine, batch(merge("a", patch)))
        assert isinstance(outcome, Refused)
        assert outcome.code == "too_large"


@pytest.mark.parametrize("innermost", [1, [], {}])
def test_a_value_as_deep_as_admission_lets_through_can_be_merged_into(engine: Engine, innermost: object) -> None:
    commit(engine, put("a", nested(32, innermost)))
    assert isinstance(one(engine, batch(merge("a", {"beside": 1}))), Committed)


# -------------------------------------------------------------------------------------------------------- compares


@pytest.mark.parametrize(("field", "value"), [("create_revision", 2), ("mod_revision", 4), ("version", 2)])
def test_a_compare_holds_when_the_field_equals_the_value(engine: Engine, field: CompareField, value: int) -> None:
    for write in (put("other"), put("a", 1), put("other"), put("a", 2)):
        commit(engine, write)
    for wrong in {0, 1, 2, 3, 4, 5} - {value}:
        outcome = one(engine, batch(put("a", 3), when=(expect("a", field, wrong),)))
        assert outcome == Conflicted(4, 0, engine.entry_at(id_of("a"), 4))
    assert commit(engine, put("a", 3), when=(expect("a", field, value),)).succeeded


@pytest.mark.parametrize("field", ["create_revision", "mod_revision", "version"])
@pytest.mark.parametrize("deleted", [False, True])
def test_an_absent_entry_has_0_in_every_field(engine: Engine, field: CompareField, *, deleted: bool) -> None:
    if deleted:
        commit(engine, put("a"))
        commit(engine, delete("a"))
    revision = engine.position().revision
    outcome = one(engine, batch(put("a"), when=(expect("a", field, 1),)))
    assert outcome == Conflicted(revision, 0, None)
    assert commit(engine, put("a"), when=(expect("a", field, 0),)).revision == revision + 1


def test_a_range_compare_holds_when_nothing_present_under_the_prefix_is_newer(engine: Engine) -> None:
    for write in (put("a/1"), put("a/2"), put("a/3"), put("b/1"), delete("a/3")):
        commit(engine, write)
    assert commit(engine, when=(nothing_newer("a/", 2),)).succeeded
    assert commit(engine, when=(nothing_newer("b/", 4), nothing_newer("c", 0), nothing_newer("", 4))).succeeded
    assert one(engine, batch(when=(nothing_newer("a/", 1),))) == Conflicted(5, 0, engine.entry_at(id_of("a/2"), 5))
    assert one(engine, batch(when=(nothing_newer("b", 3),))) == Conflicted(5, 0, engine.entry_at(id_of("b/1"), 5))


def test_a_range_compare_shows_the_smallest_key_in_the_way(engine: Engine) -> None:
    for key in ("k3", "k0", "k2", "k1"):
        commit(engine, put(key))
    outcome = one(engine, batch(when=(nothing_newer("k", 2),)))
    assert outcome == Conflicted(4, 0, engine.entry_at(id_of("k1"), 4))


def test_a_range_compare_sees_an_old_entry_that_was_written_again(place: Place, engine: Engine) -> None:
    commit(engine, put("k/old"), put("k/other"))
    for key in ("x", "k/old", "y"):
        commit(engine, put(key))
    for _ in range(2):
        assert commit(engine, when=(nothing_newer("k/", 3),)).succeeded
        outcome = one(engine, batch(when=(nothing_newer("k/", 2),)))
        assert outcome == Conflicted(4, 0, engine.entry_at(id_of("k/old"), 4))
        engine = place.reopen()
    again = [batch(put("k/other")), batch(put("z")), batch(put("w"), when=(nothing_newer("k/", 4),))]
    assert isinstance(engine.apply(again)[2], Conflicted)


def test_a_range_compare_looks_at_one_space_and_project_only(engine: Engine) -> None:
    commit(engine, Put(id_of("k", space="$claims"), raw(1)), Put(id_of("k", project="q"), raw(1)))
    assert commit(engine, when=(nothing_newer("", 0),)).succeeded
    for space, project in (("$claims", "p"), ("context", "q")):
        outcome = one(engine, batch(when=(RangeCompare(space, project, "", 0),)))
        assert outcome == Conflicted(1, 0, engine.entry_at((space, project, "k"), 1))


def test_an_entry_compare_looks_at_one_space_and_project_only(engine: Engine) -> None:
    commit(engine, Put(id_of("k", space="$claims"), raw(1)))
    assert commit(engine, when=(expect("k", "version", 0),)).succeeded
    assert commit(engine, when=(EntryCompare(id_of("k", space="$claims"), "version", 1),)).succeeded


def test_a_conflict_names_the_first_failing_compare_and_has_no_effect(engine: Engine) -> None:
    commit(engine, put("a"))
    before = engine.position()
    failing = (expect("a", "version", 1), nothing_newer("", 1), expect("b", "version", 3), expect("a", "version", 2))
    assert one(engine, batch(put("c"), when=failing)) == Conflicted(1, 2, None)
    assert engine.position() == before
    assert keys_now(engine) == ["a"]


def test_a_failing_compare_writes_otherwise_when_there_is_something_to_write(engine: Engine) -> None:
    commit(engine, put("a"))
    outcome = commit(engine, put("b"), when=(expect("a", "version", 7),), otherwise=(put("c"), delete("a")))
    assert (outcome.succeeded, outcome.revision) == (False, 2)
    assert [each.id[2] for each in outcome.changes] == ["c", "a"]
    assert keys_now(engine) == ["c"]
    assert engine.changes(1, 9, UNBOUNDED) == [outcome]


def test_otherwise_that_changes_nothing_takes_no_revision_and_has_not_succeeded(engine: Engine) -> None:
    outcome = commit(engine, put("a"), when=(expect("a", "version", 7),), otherwise=(delete("b"),))
    assert (outcome.succeeded, outcome.revision, outcome.changes) == (False, 0, ())


def test_holding_compares_never_write_otherwise(engine: Engine) -> None:
    outcome = commit(engine, put("a"), when=(expect("a", "version", 0),), otherwise=(put("b"),))
    assert outcome.succeeded
    assert keys_now(engine) == ["a"]


def test_compares_are_evaluated_against_what_earlier_batches_left(engine: Engine) -> None:
    outcome = commit(engine, put("a"), put("b"), when=(expect("a", "version", 0), nothing_newer("", 0)))
    assert outcome.succeeded


def test_what_a_batch_leaves_behind_is_bounded_as_a_whole(engine: Engine) -> None:
    """A few small patches make a batch of many large values; whoever watches has to take it in one piece."""
    large = "x" * 250_000
    for key in "abcd":
        commit(engine, put(key, {"large": large}))
    before = engine.position()
    outcome = one(engine, batch(*(merge(key, {"small": 1}) for key in "abcd")))
    assert isinstance(outcome, Refused)
    assert outcome.code == "too_large"
    assert engine.position() == before
    assert len(commit(engine, *(merge(key, {"small": 1}) for key in "abc")).changes) == 3
    assert isinstance(one(engine, batch(*(put(key, large) for key in "abcd"))), Refused)


def test_that_bound_is_960_kib_to_the_byte(engine: Engine) -> None:
    fits = [put(key, "x" * (240 * 1024 - 5)) for key in "abcd"]  # 5: the header of a long string
    assert sum(len(write.value) for write in fits) == BATCH_BYTES_MAX
    assert commit(engine, *fits).revision == 1
    assert isinstance(one(engine, batch(*fits[:3], put("e", "x" * (240 * 1024 - 4)))), Refused)


# ---------------------------------------------------------------------------------------------------------- hashes


def test_the_chain_hash_is_that_of_every_batch_that_took_a_revision(engine: Engine) -> None:
    expected = hash.ZERO_CHAIN
    batches = [
        batch(put("a", 1), put("b", 2), request="r1", content=b"h", time_ms=5),
        batch(delete("absent")),
        batch(put("a"), when=(expect("a", "version", 9),)),
        batch(delete("a", "expire"), put("c", 3, ttl_ms=4, owner="o"), session="s2"),
        batch(put("a"), when=(expect("a", "version", 9),), otherwise=(merge("b", {"x": 1}),)),
    ]
    for each in batches:
        outcome = one(engine, each)
        if isinstance(outcome, Committed) and outcome.changes:
            expected = hash.chain_hash(expected, outcome.revision, each.time_ms, each.origin, outcome.changes)
        assert engine.position().chain_hash == expected


def test_the_state_hash_is_the_sum_of_the_row_hashes_of_the_entries(engine: Engine) -> None:
    writes = (put("a", 1), put("b", 2, ttl_ms=1), merge("a", {"n": 1}), delete("b"), put("b", 3), put("a", 4))
    for write in writes:
        commit(engine, write)
        state = hash.ZERO_STATE
        for entry in engine.entries():
            state = hash.state_add(state, entry.hash)
        assert engine.position().state_hash == state
    commit(engine, delete("a"), delete("b"))
    assert engine.position().state_hash == hash.ZERO_STATE


# ---------------------------------------------------------------------------------------------------------- reopen


def test_a_store_that_is_opened_again_is_the_same(place: Place) -> None:
    engine = place.open(Window(log_revisions=4, versions=2))
    writes: list[Write] = [put("é", {"n": 1.5}), put("b", "x" * 5_000), merge("é", {"m": None})]
    for number, write in enumerate([*writes, delete("b"), put("b", 3), put("a")]):
        commit(engine, write, session=f"s{number}", request=f"r{number}", time_ms=number)
    trim_all(engine)

    def everything() -> list[object]:
        compact = engine.position().compact_revision
        ids = [id_of(key) for key in ("a", "b", "é")]
        return [
            engine.position(),
            list(engine.entries()),
            engine.changes(compact - 1, 99, UNBOUNDED),
            [engine.history(id, 99, 0) for id in ids],
            [engine.entry_at(id, revision) for id in ids for revision in range(compact, 7)],
        ]

    before = everything()
    engine = place.reopen()
    assert everything() == before
    assert commit(engine, put("a", 2)).changes[0].version == 2
    engine = place.reopen()
    assert engine.position().revision == 7


def test_an_empty_store_that_is_opened_again_is_empty(place: Place, engine: Engine) -> None:
    before = engine.position()
    assert place.reopen().position() == before


def test_a_batch_survives_being_sent_as_messagepack(engine: Engine) -> None:
    sent = batch(
        put("a"),
        when=(expect("a", "version", 0), nothing_newer("", 3)),
        otherwise=(merge("a", 1), delete("b")),
        request="r",
        content=b"h",
    )
    received = msgpack.decode(msgpack.encode(sent), type=Batch)
    assert received == sent
    assert isinstance(one(engine, received), Committed)
