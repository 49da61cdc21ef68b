"""The contract of `store.engine`, the writes that are evaluated on the value that stands: add and append.

Rule: as in part 1, only the `Engine` protocol is used.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import msgpack

from cosession.messages.limits import VALUE_BYTES_MAX
from cosessiond.store import apply
from cosessiond.store.engine import Engine, Refused
from store.engines import add, append, batch, commit, delete, expect, id_of, merge, one, put, raw, value_now

BIG = 2**63 - 1


def refusal(engine: Engine, *writes: Any) -> str:
    """The code that a batch of these writes is refused with."""
    before = engine.position()
    outcome = one(engine, batch(*writes))
    assert isinstance(outcome, Refused), outcome
    assert outcome.message.startswith("cannot ")
    assert engine.position() == before
    return outcome.code


@pytest.mark.parametrize(
    ("stands", "number", "total"),
    [
        (1, 2, 3),
        (1, -2, -1),
        (1, 0.5, 1.5),
        (1.5, 1, 2.5),
        (0.5, 0.5, 1.0),
        (BIG - 1, 1, BIG),
        (-BIG, -1, -BIG - 1),
        (BIG, -BIG, 0),
        (BIG, 1.0, 2.0**63),
    ],
)
def test_a_sum_is_an_integer_of_integers_and_else_a_float(engine: Engine, stands: Any, number: Any, total: Any) -> None:
    commit(engine, put("n", stands))
    assert commit(engine, add("n", number)).changes[0].value == raw(total)
    assert type(value_now(engine, "n")) is type(total)


def test_what_is_absent_counts_as_nothing(engine: Engine) -> None:
    commit(engine, add("n", 5), append("l", "a"))
    commit(engine, delete("n"), delete("l"))
    commit(engine, add("n", 0.5), append("l", "b", "c"))
    assert (value_now(engine, "n"), value_now(engine, "l")) == (0.5, ["b", "c"])


@pytest.mark.parametrize(("stands", "number"), [(BIG, 1), (-BIG - 1, -1), (1.7e308, 1.7e308), (-1.7e308, -1.7e308)])
def test_a_sum_without_a_place_is_too_large(engine: Engine, stands: Any, number: Any) -> None:
    commit(engine, put("n", stands), put("other", 1))
    assert refusal(engine, put("other", 2), add("n", number)) == "too_large"
    assert (value_now(engine, "n"), value_now(engine, "other")) == (stands, 1)


@pytest.mark.parametrize("stands", [None, True, False, "1", [], [1], {}, {"n": 1}])
def test_only_numbers_are_added_to(engine: Engine, stands: Any) -> None:
    commit(engine, put("n", stands))
    assert refusal(engine, add("n", 1)) == "wrong_type"


@pytest.mark.parametrize("stands", [None, True, 0, 1.5, "", "ab", {}, {"n": []}])
def test_only_lists_are_appended_to(engine: Engine, stands: Any) -> None:
    commit(engine, put("l", stands))
    assert refusal(engine, append("l", 1)) == "wrong_type"


def test_both_keep_the_lease_and_go_on_with_the_life(engine: Engine) -> None:
    commit(engine, put("n", 1, ttl_ms=5_000), put("l", [], owner="s9"))
    number, many = commit(engine, add("n", 1), append("l", 1), session="s2").changes
    assert (number.kind, number.version, number.create_revision, number.ttl_ms, number.owner) == (
        "put",
        2,
        1,
        5_000,
        "",
    )
    assert (many.kind, many.version, many.create_revision, many.ttl_ms, many.owner) == ("put", 2, 1, 0, "s9")
    assert (number.replaced_revision, number.replaced_session) == (1, "s1")


def test_both_are_evaluated_in_commit_order_within_a_group(engine: Engine) -> None:
    engine.apply([batch(add("n", number), append("l", number)) for number in range(1, 6)])
    assert (value_now(engine, "n"), value_now(engine, "l")) == (15, [1, 2, 3, 4, 5])


def test_compares_hold_for_them_as_for_all(engine: Engine) -> None:
    commit(engine, put("n", 1))
    one(engine, batch(add("n", 1), when=(expect("n", "mod_revision", 9),), otherwise=(append("l", "no"),)))
    assert (value_now(engine, "n"), value_now(engine, "l")) == (1, ["no"])


@pytest.mark.parametrize("count", [0, 1, 14, 15, 16, 65_534, 65_535, 65_536, 70_000])
@pytest.mark.parametrize("more", [1, 2, 17])
def test_lists_of_every_header_are_joined(engine: Engine, count: int, more: int) -> None:
    commit(engine, put("l", [1] * count))
    outcome = commit(engine, append("l", *["x"] * more))
    assert outcome.changes[0].value == raw([1] * count + ["x"] * more)


def test_a_list_grows_up_to_the_limit_of_a_value(engine: Engine) -> None:
    text = "x" * (VALUE_BYTES_MAX - 10)
    commit(engine, append("l", text))
    room = VALUE_BYTES_MAX - len(raw([text]))
    commit(engine, append("l", *[1] * room))
    assert len(raw(value_now(engine, "l"))) == VALUE_BYTES_MAX
    assert refusal(engine, append("l", 1)) == "too_large"


def test_what_is_appended_may_be_as_deep_as_a_value(engine: Engine) -> None:
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    commit(engine, append("l", deep))
    commit(engine, append("l", deep))
    assert refusal(engine, append("l", [deep])) == "too_large"


def test_they_are_versions_like_all_others(engine: Engine) -> None:
    for write in (add("k", 1), add("k", 1), put("k", []), append("k", 1), merge("k", {"a": 1})):
        commit(engine, write)
    shown = [msgpack.decode(row.value) for row in engine.history(id_of("k"), 9, 0)]
    assert shown == [{"a": 1}, [1], [], 2, 1]


def test_an_append_looks_at_the_header_of_a_large_list_and_not_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the list that stands nothing is decoded, or small appends to it would hold up everybody (P16)."""
    decoded: list[int] = []

    def decode(value: bytes) -> Any:
        decoded.append(len(value))
        return msgpack.decode(value)

    monkeypatch.setattr(apply, "_decode", decode)
    found = apply.joined(raw(["x"] * 100_000), raw([1]))
    assert msgpack.decode(found)[-1] == 1
    assert apply.list_length(found) == 100_001
    assert not decoded
