"""Arguments to requests and pages to lists (exchange.verbs)."""

from __future__ import annotations

import datetime as dt
import math

import pytest
from msgspec import Raw, msgpack

from cosession.errors import Compacted, CosessionError, InvalidRequest, error_from
from cosession.exchange.verbs import LISTINGS_MAX, Listing, encoded, txn_of
from cosession.messages.store import CompareEntry, CompareRange, Range, RangeReply, TxnDelete, TxnMerge, TxnPut
from cosession.model import Entry


def page(keys, *, more, revision=9):
    entries = [Entry(key=key, value=1, version=1, create_revision=1, mod_revision=1) for key in keys]
    return RangeReply(revision=20, entries=entries, more=more, read_revision=revision)


class TestListing:
    def test_all_pages_at_one_revision(self):
        listing = Listing(Range(prefix="p", project="x"), None)
        assert listing.request() == Range(prefix="p", project="x")
        listing.take(page(["pa", "pb"], more=True))
        assert listing.request() == Range(prefix="p", project="x", after="pb", at_revision=9)
        listing.take(page(["pc"], more=False))
        assert listing.done
        assert [entry.key for entry in listing.entries] == ["pa", "pb", "pc"]

    def test_a_limit_over_pages(self):
        listing = Listing(Range(), 1_500)
        assert listing.request().limit == 1_000
        listing.take(page([f"{n:04}" for n in range(1_000)], more=True))
        assert listing.request().limit == 500
        listing.take(page([f"{n:04}" for n in range(1_000, 1_500)], more=True))
        assert listing.done

    @pytest.mark.parametrize("limit", [0, -1])
    def test_nothing_wanted(self, limit):
        assert Listing(Range(), limit).done

    def test_an_empty_page_ends_it_whatever_it_says(self):
        listing = Listing(Range(), None)
        listing.take(page([], more=True))
        assert listing.done

    def test_begins_again_when_its_revision_left_the_window(self):
        listing = Listing(Range(prefix="p"), None)
        for _ in range(LISTINGS_MAX - 1):
            listing.take(page(["pa"], more=True))
            listing.refused(error_from("compacted", "gone"))
            assert listing.request() == Range(prefix="p")
            assert listing.entries == []
        listing.take(page(["pa"], more=True))
        with pytest.raises(Compacted):
            listing.refused(error_from("compacted", "gone"))

    def test_but_not_when_a_revision_was_asked_for(self):
        listing = Listing(Range(at_revision=3), None)
        listing.take(page(["a"], more=True, revision=3))
        with pytest.raises(Compacted):
            listing.refused(error_from("compacted", "gone"))

    def test_other_errors_are_passed_on(self):
        listing = Listing(Range(), None)
        listing.take(page(["a"], more=True))
        with pytest.raises(CosessionError):
            listing.refused(error_from("internal", "no"))


@pytest.mark.parametrize("value", [None, True, 0, -(2**63), 2**63 - 1, 1.5, "ü", [], {}, [{"a": [1, {"b": None}]}]])
def test_json_data_is_encoded(value):
    assert msgpack.decode(encoded(value)) == value


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800", math, dt.timezone])
def test_what_has_no_form_is_refused(value):
    with pytest.raises(InvalidRequest, match="cannot send value"):
        encoded(value)


def test_what_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidRequest):
        encoded(value)


def test_txn_from_maps_and_structs():
    txn = txn_of(
        [{"kind": "entry", "key": "a", "value": 3}, CompareRange(prefix="b", max_mod_revision=4)],
        [{"op": "put", "key": "a", "value": {"x": 1}, "ttl_s": 2.0}, TxnDelete(key="b")],
        ({"op": "merge", "key": "c", "patch": {"y": None}},),
        project="p",
        session="s",
    )
    assert txn.compares == [CompareEntry(key="a", value=3), CompareRange(prefix="b", max_mod_revision=4)]
    put, delete = txn.then
    assert isinstance(put, TxnPut)
    assert (put.key, msgpack.decode(put.value), put.ttl_s) == ("a", {"x": 1}, 2.0)
    assert delete == TxnDelete(key="b")
    (merge,) = txn.otherwise
    assert isinstance(merge, TxnMerge)
    assert merge.patch == Raw(msgpack.encode({"y": None}))
    assert (txn.project, txn.session) == ("p", "s")


@pytest.mark.parametrize(
    "part",
    [
        {"op": "nothing", "key": "a"},
        {"key": "a"},
        {"op": "delete"},
        {"op": "delete", "key": "a", "x": 1},
        {"op": "put", "key": "a", "value": object()},
    ],
)
def test_txn_of_something_else(part):
    with pytest.raises(InvalidRequest, match="cannot send the transaction"):
        txn_of([], [part], [])
