"""`update` and the merging `put` against a daemon made of a script: which requests they make, and in which order."""

from __future__ import annotations

import pytest

from cosession import Conflict, InvalidRequest
from cosession.errors import error_from
from cosession.messages.past import HistoryReply
from cosession.messages.store import GetReply, PutReply
from cosession.messages.turns import TurnReply
from cosession.model import Entry, Version, Written

PUT = PutReply(revision=9, written=Written(kind="put", key="k", version=9, create_revision=1, mod_revision=9))


def entry(value, revision):
    return Entry(key="k", value=value, version=revision, create_revision=1, mod_revision=revision)


def got(value, revision):
    return GetReply(revision=9, entry=entry(value, revision))


def conflict(value, revision):
    current = {"key": "k", "value": value, "version": revision, "create_revision": 1, "mod_revision": revision}
    return error_from("conflict", "cannot write: it changed", {"current": current})


def turn(value, revision, **names):
    return TurnReply(revision=9, granted=True, entry=entry(value, revision), **names)


def refused(code):
    return error_from(code, f"cannot wait for a turn: {code}")


@pytest.fixture
def scripted_use(connect, run, scripted):
    """Run a body against a script; returns the methods called, and of puts what they expected."""

    def uses(script, body):
        scripted.script += script

        async def whole():
            async with connect(scripted.path) as client:
                client._common.jitter = lambda: 0.0
                await body(client)

        run(whole())
        assert not scripted.script, "the script was not used up"
        return [f"put {call.expect_revision}" if call.method == "put" else call.method for call in scripted.calls]

    return uses


def one_more(value):
    return value + 1


def test_the_third_try_and_the_next_update_begin_with_a_turn(scripted_use):
    async def body(client):
        assert (await client.update("k", one_more)).value == 4
        assert (await client.update("k", one_more)).value == 5
        assert (await client.update("other", one_more)).value == 2

    script = [got(1, 1), conflict(2, 2), conflict(2, 3), turn(3, 4, waited=True), PUT, turn(4, 9), PUT, got(1, 1), PUT]
    assert scripted_use(script, body) == ["get", "put 1", "put 2", "turn", "put 4", "turn", "put 9", "get", "put 1"]


def test_a_turn_is_waited_for_within_the_time_of_the_update(scripted_use, scripted):
    async def body(client):
        client._common.contention.met(("context", client.project, "k"))
        await client.update("k", one_more, timeout_s=5.0)

    scripted_use([turn(1, 1), PUT], body)
    (asked, _) = scripted.calls
    assert 3.5 < asked.wait_s <= 4.0


def test_a_turn_that_did_not_come_in_time_is_done_without(scripted_use):
    async def body(client):
        client._common.contention.met(("context", client.project, "k"))
        assert (await client.update("k", one_more)).value == 2

    assert scripted_use([TurnReply(revision=9, granted=False), got(1, 1), PUT], body) == ["turn", "get", "put 1"]


@pytest.mark.parametrize("code", ["overloaded", "unknown_method", "shutting_down"])
def test_where_there_are_no_turns_it_goes_on_as_before(scripted_use, code):
    """Asked for once, whatever else is retried after these codes; and then the waits and the end of before."""

    async def body(client):
        with pytest.raises(Conflict) as caught:
            await client.update("k", one_more)
        assert caught.value.current.value == 7

    script = [got(1, 1), conflict(2, 2), conflict(3, 3), refused(code)]
    script += [got(4, 4), conflict(5, 5), got(5, 5), conflict(6, 6), got(6, 6), conflict(7, 7)]
    expected = ["get", "put 1", "put 2", "turn", "get", "put 4", "get", "put 5", "get", "put 6"]
    assert scripted_use(script, body) == expected


def test_any_other_refusal_of_a_turn_is_the_answer(scripted_use):
    async def body(client):
        client._common.contention.met(("context", client.project, "k"))
        with pytest.raises(InvalidRequest):
            await client.update("k", one_more)

    assert scripted_use([error_from("invalid_params", "cannot use that key")], body) == ["turn"]


def test_a_function_that_fails_gives_its_turn_back(scripted_use, scripted):
    async def body(client):
        client._common.contention.met(("context", client.project, "k"))
        with pytest.raises(ZeroDivisionError):
            await client.update("k", lambda value: value / 0)
        with pytest.raises(ZeroDivisionError):
            await client.update("other", lambda value: value / 0)

    script = [turn(1, 1), TurnReply(revision=9, granted=False), got(1, 1)]
    assert scripted_use(script, body) == ["turn", "turn", "get"]
    assert [call.give_back for call in scripted.calls[:2]] == [False, True]


def test_a_value_that_cannot_be_sent_gives_the_turn_back(scripted_use, scripted):
    async def body(client):
        client._common.contention.met(("context", client.project, "k"))
        with pytest.raises(InvalidRequest, match="cannot send value"):
            await client.update("k", lambda value: object())  # noqa: ARG005

    assert scripted_use([turn(1, 1), TurnReply(revision=9, granted=False)], body) == ["turn", "turn"]
    assert scripted.calls[1].give_back


def test_a_merging_put_takes_its_base_and_what_stands(scripted_use, scripted):
    async def body(client):
        merged = await client.put("k", {"a": 2, "b": 1}, expect_revision=1, merge="three-way")
        assert merged.value == {"a": 2, "b": 1, "c": 1, "d": 1}
        assert merged.mod_revision == 9

    base, first, second = {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 1, "d": 1}
    script = [conflict(first, 2), got(base, 1), conflict(second, 3), turn(second, 3), PUT]
    assert scripted_use(script, body) == ["put 1", "get", "put 2", "turn", "put 3"]
    assert scripted.calls[1].at_revision == 1


def test_a_base_below_the_log_window_is_looked_for_in_the_history(scripted_use, scripted):
    async def body(client):
        assert (await client.put("k", {"a": 2}, expect_revision=5, merge="three-way")).value == {"a": 2, "b": 1}

    version = Version(kind="put", value={"a": 1}, version=1, create_revision=1, mod_revision=5)
    gone = error_from("compacted", "cannot read below 8")
    script = [conflict({"a": 1, "b": 1}, 9), gone, HistoryReply(revision=9, versions=[version], more=True), PUT]
    assert scripted_use(script, body) == ["put 5", "get", "history", "put 9"]
    assert (scripted.calls[2].before_revision, scripted.calls[2].limit) == (6, 1)


def test_without_a_base_the_conflict_says_so(scripted_use):
    async def body(client):
        with pytest.raises(Conflict, match="no longer kept") as caught:
            await client.put("k", {"a": 2}, expect_revision=5, merge="three-way")
        assert caught.value.current.value == {"a": 1}
        assert caught.value.paths == []

    gone = error_from("compacted", "cannot read below 8")
    script = [conflict({"a": 1}, 9), gone, HistoryReply(revision=9, versions=[], more=False)]
    assert scripted_use(script, body) == ["put 5", "get", "history"]


def test_what_both_changed_is_named(scripted_use):
    async def body(client):
        with pytest.raises(Conflict, match="/a, /x/b") as caught:
            await client.put("k", {"a": 2, "x": {"b": 2}}, expect_revision=1, merge="three-way")
        assert caught.value.paths == ["/a", "/x/b"]
        assert caught.value.current == entry({"a": 3, "x": {"b": 3}}, 2)

    script = [conflict({"a": 3, "x": {"b": 3}}, 2), got({"a": 1, "x": {"b": 1}}, 1)]
    assert scripted_use(script, body) == ["put 1", "get"]


def test_an_entry_that_was_to_be_the_first_has_no_base(scripted_use):
    async def body(client):
        assert (await client.put("k", {"a": (1,)}, expect_revision=0, merge="three-way")).value == {"a": [1], "b": 1}

    assert scripted_use([conflict({"b": 1}, 2), PUT], body) == ["put 0", "put 2"]


@pytest.mark.parametrize(
    "names",
    [{"merge": "three-way"}, {"merge": "two-way", "expect_revision": 1}, {"merge": "three-way", "request_id": "r"}],
)
def test_what_does_not_go_together_is_refused_before_anything_is_sent(scripted_use, names):
    async def body(client):
        with pytest.raises(InvalidRequest, match="cannot merge"):
            await client.put("k", 1, **names)

    assert scripted_use([], body) == []
