"""What differs between two values, judged by a JSON patch of our own: the changes make the one into the other."""

from __future__ import annotations

import copy

import pytest
from hypothesis import example, given

from client.jsondata import VALUES, exact, resolved
from cosession import differences
from cosession.differences import ABSENT, difference, same


def patched(value, changes):
    """RFC 6902, for the three operations; each must find what it says was there."""
    root = [copy.deepcopy(value)]
    for op, path, old, new in changes:
        tokens = ["0", *(token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:])]
        place = root
        for token in tokens[:-1]:
            place = place[int(token)] if isinstance(place, list) else place[token]
        last = int(tokens[-1]) if isinstance(place, list) else tokens[-1]
        if op == "add" and isinstance(place, list) and path:
            place.insert(last, new)
            continue
        if op != "add":
            assert exact(place[last]) == exact(old), "it says what was there"
        elif path:
            assert last not in place
        if op == "remove":
            del place[last]
        else:
            place[last] = new
    return root[0]


@given(VALUES, VALUES)
@example({"a": 1}, {"a": 1.0})
@example([1, 2, 3, 4], [1, 9, 4])
@example([[1], [2]], [[0], [1], [2]])
def test_the_changes_make_the_one_into_the_other(old, new):
    assert exact(patched(old, difference(old, new))) == exact(new)


@given(VALUES)
def test_nothing_differs_from_itself(value):
    assert difference(value, copy.deepcopy(value)) == []


@given(VALUES, VALUES)
def test_same_is_what_the_data_says(one, other):
    assert same(one, other) is (exact(one) == exact(other))
    assert same(one, copy.deepcopy(one))


@given(VALUES)
def test_absence_is_one_change(value):
    assert difference(ABSENT, value) == [("add", "", None, value)]
    assert difference(value, ABSENT) == [("remove", "", value, None)]
    assert difference(ABSENT, ABSENT) == []


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (1, 1.0, [("replace", "", 1, 1.0)]),
        (True, 1, [("replace", "", True, 1)]),
        ("a", "b", [("replace", "", "a", "b")]),
        ({"a": 1}, [1], [("replace", "", {"a": 1}, [1])]),
        ({}, {"a~b/c": None}, [("add", "/a~0b~1c", None, None)]),
        ({"a": 1, "b": 2, "c": 3}, {"c": 3, "b": 4}, [("remove", "/a", 1, None), ("replace", "/b", 2, 4)]),
        ([1, 2, 3], [0, 1, 2, 3], [("add", "/0", None, 0)]),
        ([1, 2, 3], [1, 3], [("remove", "/1", 2, None)]),
        ([1, 2, 3], [], [("remove", "/2", 3, None), ("remove", "/1", 2, None), ("remove", "/0", 1, None)]),
        ([{"a": 1}, 5], [{"a": 2}, 5], [("replace", "/0/a", 1, 2)]),
        ([1, 1], [1, 1, 1], [("add", "/2", None, 1)]),
    ],
)
def test_examples(old, new, changes):
    assert difference(old, new) == changes


@given(VALUES, VALUES)
def test_every_path_points_to_something(old, new):
    for op, path, before, after in difference(old, new):
        if op == "replace":
            assert exact(before) != exact(after)
        if op == "replace" and not any(isinstance(part, list) for part in _on_the_way(old, path)):
            assert exact(resolved(old, path)) == exact(before)


def _on_the_way(value, path):
    while path:
        path = path.rpartition("/")[0]
        yield resolved(value, path)


def test_a_seeded_mistake_is_seen(monkeypatch):
    """Removals from a list from the front, where each index is that of before."""
    monkeypatch.setattr(differences, "reversed", list, raising=False)
    with pytest.raises((AssertionError, IndexError)):
        test_the_changes_make_the_one_into_the_other.hypothesis.inner_test([1, 2, 3], [])
