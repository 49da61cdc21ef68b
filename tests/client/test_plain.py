"""What the library sends and what it refuses: nothing may be read back as another thing than was written."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import uuid

import msgspec
import pytest

from cosession.errors import InvalidRequest
from cosession.exchange import verbs


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({1, 2}, "the set is no JSON data; send a list"),
        (frozenset(), "the frozenset is no JSON data; send a list"),
        ({"a": [1, {"b/c": {3}}]}, "at '/a/1/b~1c' set is no JSON data; send a list"),
        ([decimal.Decimal("1.5")], "at '/0' Decimal is no JSON data; send a number or a string"),
        ({"when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "at '/when' datetime is no JSON data; send a"),
        (dt.date(2026, 1, 1), "the date is no JSON data; send a string"),
        ((b"raw",), "at '/0' bytes is no JSON data; send a string, in base64"),
        ([uuid.UUID(int=1)], "at '/0' UUID is no JSON data; send what it is made of"),
        ({"a": {1: 2}}, "at '/a' the name 1 is no string; send str(name)"),
    ],
)
def test_what_would_be_another_thing_when_read_is_refused_with_where_it_is(value, why):
    with pytest.raises(InvalidRequest, match=r"^cannot send value: ") as caught:
        verbs.encoded(value)
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, (2,)), [1, [2]]),
        ({"a": [None, True, 1, 1.5, "x", {}]}, {"a": [None, True, 1, 1.5, "x", {}]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Colour.RED, "red"),
    ],
)
def test_tuples_are_lists_and_subclasses_are_what_they_are_made_of(value, read):
    assert msgspec.msgpack.decode(verbs.encoded(value)) == read


def test_a_transaction_is_looked_at_likewise():
    with pytest.raises(InvalidRequest, match="at '/value' set is no JSON"):
        verbs.txn_of([], [{"op": "put", "key": "k", "value": {1}}], [])
