"""Bytes that are many things to walk, small frames with large consequences: counted and bounded, without sockets."""

from __future__ import annotations

import pytest

from cosession.messages.limits import BATCH_BYTES_MAX, CALL_NODES_MAX, HIGH_WATER_BYTES, VALUE_NODES_MAX
from rawclient import ENCODINGS, Json, Pack
from server.inprocess import Inside

BOTH = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)


def asked(line, encoding, method, **params):
    line.send(encoding.encode(1, method, params))
    ((answer,), ended) = line.collect(1, to_end=False)
    assert not ended
    return answer


def nested(count):
    """A value of `count` nodes, in lists and maps of three."""
    found = [{"a": [None]}] * (count // 3)
    return [*found, *[0] * (count - 1 - 3 * len(found))] if count % 3 else [*found[1:], 0, 0]


@BOTH
@pytest.mark.parametrize(("method", "name"), [("put", "value"), ("merge", "patch"), ("append", "values")])
def test_a_value_may_have_so_many_nodes_and_no_more(encoding, method, name):
    line = Inside().connect()
    assert asked(line, encoding, method, key="a", **{name: nested(VALUE_NODES_MAX)}).kind == "reply"
    refused = asked(line, encoding, method, key="b", **{name: nested(VALUE_NODES_MAX + 1)})
    assert (refused.code, refused.body["data"]["limit"]) == ("too_large", VALUE_NODES_MAX)
    assert asked(line, encoding, "get", key="b").body["entry"] is None


@BOTH
def test_the_values_of_a_transaction_are_counted_together(encoding):
    def write(key, count):
        return {"op": "put", "key": key, "value": nested(count)}

    line = Inside().connect()
    full = [write("a", VALUE_NODES_MAX), write("b", CALL_NODES_MAX - VALUE_NODES_MAX - 1_000)]
    assert asked(line, encoding, "txn", then=full).kind == "reply"
    refused = asked(line, encoding, "txn", then=full, **{"else": [write("c", 1_001)]})
    assert (refused.code, refused.body["data"]["limit"]) == ("too_large", CALL_NODES_MAX)


@pytest.mark.parametrize(
    "value",
    [
        b"[" + b"1," * 300_000 + b"1]",
        b"[" + b"{}," * 200_000 + b"1]",
        b"[" + b'"",' * 300_000 + b"1]",
        b"[" + b'"\\\\",' * 150_000 + b"1]",
        b"[" * 400_000,
        b'{"a":1,' * 140_000,
    ],
    ids=lambda value: value[:8].decode(),
)
def test_json_is_counted_before_it_is_read(value):
    line = Inside().connect()
    line.send(b'{"jsonrpc":"2.0","id":9,"method":"put","params":{"key":"a","value":' + value + b"}}\n")
    ((answer,), _) = line.collect(1, to_end=False)
    assert (answer.id, answer.code, answer.body["data"]["limit"]) == (9, "too_large", CALL_NODES_MAX)


@pytest.mark.parametrize("text", [",", "[", '"', '\\"', "\\", '",['])
def test_text_that_looks_like_json_is_not_counted(text):
    value = text * (200_000 // len(text))
    line = Inside().connect()
    assert asked(line, Json, "put", key="a", value=value).kind == "reply"
    assert asked(line, Json, "get", key="a").body["entry"]["value"] == value


def test_small_patches_of_large_entries_are_no_lever():
    """A few bytes each, and each writes its entry anew."""
    line = Inside().connect()
    size = BATCH_BYTES_MAX // 8
    for number in range(8):
        assert asked(line, Pack, "put", key=f"k{number}", value={"text": "x" * size}).kind == "reply"
    merges = [{"op": "merge", "key": f"k{number}", "patch": {"a": number}} for number in range(8)]
    assert asked(line, Pack, "txn", then=merges).code == "too_large"
    assert asked(line, Pack, "txn", then=merges[:7]).kind == "reply"
    whole = [{"op": "merge", "key": f"k{number}", "patch": number} for number in range(8)]
    assert asked(line, Pack, "txn", then=whole).kind == "reply", "what replaces its entry counts as it is"


@pytest.mark.parametrize("with_range", [False, True])
def test_what_a_conflict_would_show_is_counted_while_it_waits(with_range):
    inside = Inside()
    line = inside.connect()
    size = 200_000
    assert asked(line, Pack, "put", key="large", value="x" * size).kind == "reply"
    compare = {"kind": "entry", "key": "large", "field": "version", "value": 9}
    if with_range:
        compare = {"kind": "range", "prefix": "l", "max_mod_revision": 0}
    inside.commits.stall(stalled=True)
    line.send(Pack.encode(1, "txn", {"compares": [compare]}) * 100)
    inside.world.run_until_idle()
    assert line.conversation.in_flight <= HIGH_WATER_BYTES // size + 1
    inside.commits.stall(stalled=False)
    answers, _ = line.collect(100, to_end=False)
    assert {answer.code for answer in answers} == {"conflict"}
