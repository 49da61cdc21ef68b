"""Who wrote what, judged by looking: the newest version before which the leaf was not what it is."""

from __future__ import annotations

import pytest
from hypothesis import example, find, given, settings
from hypothesis import strategies as st

from client.jsondata import NAMES, SCALARS, exact, resolved
from cosession import blame
from cosession.blame import UNKNOWN, attributed, below

#: Objects in objects: there the meaning is beyond doubt. With lists, see the examples.
OBJECTS = st.recursive(SCALARS, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)
ENDED = object()
HISTORIES = st.lists(st.one_of(OBJECTS, OBJECTS, st.just(ENDED)), min_size=1, max_size=6)


def called(values, *, first_number=1, of=attributed):
    """`attributed` over values from the oldest to the newest; indexes turned the same way round."""
    kinds = ["delete" if value is ENDED else "put" for value in values]
    numbers, number = [], first_number - 1
    for value in values:
        number = 0 if value is ENDED else number + 1
        numbers.append(number)
    shown = [None if value is ENDED else value for value in values]
    found = of(kinds[::-1], shown[::-1], numbers[::-1])
    return [(path, value, index if index == UNKNOWN else len(values) - 1 - index) for path, value, index in found]


def at(value, path):
    """What stands at a path, as something to compare; None for nothing."""
    if value is ENDED:
        return None
    try:
        return exact(resolved(value, path))
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def wrong(values, first_number, of=attributed):
    """What is wrong with what is said of this history, "" for nothing."""
    found = called(values, first_number=first_number, of=of)
    newest = values[-1]
    if newest is ENDED:
        return "an end has parts" if found else ""
    if not found:
        return "nobody wrote it"
    for path, value, index in found:
        if isinstance(value, dict | list) and value:
            return "no leaf"
        if at(newest, path) != exact(value):
            return "not what stands there"
        since = len(values) - 1
        while since > 0 and at(values[since - 1], path) == exact(value):
            since -= 1
        is_older = since == 0 and first_number > 1
        if index != (UNKNOWN if is_older else since):
            return f"{path} is of version {since}, not {index}"
    return ""


@given(HISTORIES, st.sampled_from([1, 7]))
@example([{"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 2}], 1)
@example([{"a": {}}, {"a": {"b": 1}}, {"a": {}}], 1)
@example([{"a": 1}, ENDED, {"a": 1}], 7)
def test_each_leaf_is_of_the_newest_version_that_changed_it(values, first_number):
    assert not wrong(values, first_number)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1], [1, 2], [0, 1, 2]], {"/0": 2, "/1": 0, "/2": 1}),
        ([[1, 2, 3], [1, 3]], {"/0": 0, "/1": 0}),
        ([[{"a": 1, "b": 1}], [{"a": 1, "b": 2}]], {"/0/a": 0, "/0/b": 1}),
        ([[], [1], []], {"": 2}),
        ([1, 1, 2, 2], {"": 2}),
        ([{"a": 1}, [1]], {"/0": 1}),
        ([{"n": [1, {"x": 1}]}, {"n": [1, {"x": 1, "y~/": 2}]}], {"/n/0": 0, "/n/1/x": 0, "/n/1/y~0~1": 1}),
    ],
)
def test_examples(values, expected):
    assert {path: index for path, _, index in called(values)} == expected


def test_an_entry_that_is_not_there_has_no_parts():
    assert attributed([], [], []) == []
    assert called([{"a": 1}, ENDED]) == []


def test_what_the_oldest_version_may_have_found_is_not_its_own():
    assert called([{"a": 1, "b": 1}, {"a": 1, "b": 2}], first_number=7) == [("/a", 1, UNKNOWN), ("/b", 2, 1)]


@pytest.mark.parametrize(("path", "inside"), [("", True), ("/a", True), ("/a/b", True), ("/ab", False), ("/b", False)])
def test_below(path, inside):
    assert below(path, "/a") is (inside and path != "")
    assert below(path, "")


def the_last_to_write(kinds, values, numbers):
    """Who wrote last wrote everything."""
    return [(path, value, 0) for path, value, _ in attributed(kinds, values, numbers)]


def never_older(kinds, values, _numbers):
    """The oldest kept version is taken for the first."""
    return attributed(kinds, values, [1 if kind == "put" else 0 for kind in kinds])


def lives_run_on(kinds, values, numbers):
    """An end is no end: what was there before counts as unchanged."""
    puts = [index for index, kind in enumerate(kinds) if kind == "put"]
    if not kinds or kinds[0] != "put":
        return []
    found = attributed(["put"] * len(puts), [values[index] for index in puts], [numbers[index] for index in puts])
    return [(path, value, index if index == UNKNOWN else puts[index]) for path, value, index in found]


@pytest.mark.parametrize("mistake", [the_last_to_write, never_older, lives_run_on])
def test_a_seeded_mistake_is_seen(mistake):
    """Raises NoSuchExample when it is not."""
    find(
        st.tuples(HISTORIES, st.sampled_from([1, 7])),
        lambda case: bool(wrong(*case, of=mistake)),
        settings=settings(max_examples=2_000, derandomize=True, database=None),
    )


def test_the_module_marks_in_the_way_it_compares():
    assert blame.alike([1, 2, 3], [1, 9, 3]) == (1, 1)


def test_what_follows_a_purged_version_is_attributed_to_nobody_until_it_changes():
    kinds = ["put", "put", blame.kind_of("put", purged=True), "put"]
    values = [{"a": 2, "b": 1}, {"a": 1, "b": 1}, None, {"a": 1}]
    assert attributed(kinds, values, [4, 3, 2, 1]) == [("/a", 2, 0), ("/b", 1, UNKNOWN)]
