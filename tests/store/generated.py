"""Batches made by Hypothesis: few keys, few times and few request ids, so that they meet each other all the time.

Rule: what is generated is what admission lets through, and nothing here looks at an engine.
"""

from __future__ import annotations

from hypothesis import strategies as st

from cosessiond.store.engine import (
    BATCH_FORMAT,
    Add,
    Append,
    Batch,
    Compare,
    Delete,
    EntryCompare,
    EntryId,
    Merge,
    Origin,
    Put,
    RangeCompare,
    Window,
    Write,
)
from store.engines import raw

#: Small enough that everything falls out of it within a few batches.
SMALL_WINDOW = Window(log_revisions=6, log_bytes=2_000, versions=3, request_ids=3, request_id_ms=100)

_KEYS = ["a", "a/", "a/b", "a\U0010ffff", "a\U0010ffffé", "b", "é", "\x00"]
_PLACES = [("context", "p"), ("context", "p"), ("context", "p"), ("$claims", "p"), ("context", "q")]
_SMALL = st.integers(min_value=0, max_value=12)

_HOT: EntryId = ("context", "p", "a")  # written often enough to have versions beyond the window
_any = st.tuples(st.sampled_from(_PLACES), st.sampled_from(_KEYS)).map(lambda each: (each[0][0], each[0][1], each[1]))
ids: st.SearchStrategy[EntryId] = _any | st.just(_HOT)


def _too_deep() -> object:
    """A patch that is refused: too_large, and yet small enough to print."""
    value: object = 1
    for _ in range(33):
        value = [value]
    return {"n": value}


_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, width=64)
_names = st.sampled_from(["n", "m", "x"])
values = st.recursive(
    _scalars | st.text(max_size=3) | st.just("long" * 200),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=5,
)
patches = st.dictionaries(_names, values, max_size=3) | values | st.builds(_too_deep)

_puts = st.builds(Put, ids, values.map(raw), st.sampled_from([0, 0, 5_000]), st.sampled_from(["", "", "s1"]))
_deletes = st.builds(Delete, ids, st.sampled_from(["delete", "expire"]))
_merges = st.builds(Merge, ids, patches.map(raw))
# Few numbers, so that sums reach the ends of their kinds; and often on one key, so that they meet a number at all.
_numbers = st.sampled_from([1, -1, 0, 1.5, 2**63 - 1, -(2**63), 1.7e308, -1.7e308])
_counted: st.SearchStrategy[EntryId] = st.just(("context", "p", "b")) | ids
_adds = st.builds(Add, _counted, _numbers.map(raw))
_listed: st.SearchStrategy[EntryId] = st.just(("context", "p", "a/b")) | ids
_elements = st.lists(values, min_size=1, max_size=3) | st.just(["x"] * 20) | st.builds(lambda: [_too_deep()])
_appends = st.builds(Append, _listed, _elements.map(raw))
writes: st.SearchStrategy[Write] = st.one_of(_puts, _puts, _puts, _deletes, _deletes, _merges, _adds, _appends)


def _range_compare(place: tuple[str, str], prefix: str, most: int) -> RangeCompare:
    return RangeCompare(*place, prefix, most)


_fields = st.sampled_from(["create_revision", "mod_revision", "version"])
_prefixes = st.sampled_from(["", *_KEYS])
compares: st.SearchStrategy[Compare] = st.one_of(
    st.builds(EntryCompare, ids, _fields, st.just(0) | _SMALL),
    st.builds(_range_compare, st.sampled_from(_PLACES), _prefixes, _SMALL),
)


def _branch(size: int) -> st.SearchStrategy[tuple[Write, ...]]:
    return st.lists(writes, max_size=size, unique_by=lambda write: write.id).map(tuple)


_requests = st.sampled_from(["", "", "", "r1", "r2", "r3", "r4", "r5"])
_origins = st.builds(
    Origin,
    host=st.sampled_from(["", "h"]),
    session=st.sampled_from(["", "s1", "s2"]),
    operation=st.sampled_from(["put", "txn"]),
    request_id=_requests,
    request_hash=st.sampled_from([b"one", b"one", b"one", b"two"]),
)
batches = st.builds(
    Batch,
    format=st.just(BATCH_FORMAT),
    time_ms=st.sampled_from([0, 50, 100, 150, 200, 251]),  # the wall clock also goes back
    origin=_origins,
    compares=st.just(()) | st.lists(compares, max_size=2).map(tuple),
    then=_branch(3),
    otherwise=st.just(()) | _branch(2),
)
sequences = st.lists(batches, max_size=6) | st.lists(batches, min_size=10, max_size=30)
groupings = st.lists(st.integers(min_value=1, max_value=8), min_size=1, max_size=4)
