"""The laws of a three-way merge, and three mistakes that do not survive them."""

from __future__ import annotations

import pytest
from hypothesis import example, find, given, settings
from hypothesis import strategies as st

from client.jsondata import VALUES, exact
from cosession import threeway
from cosession.differences import ABSENT

SIDES = st.one_of(VALUES, st.just(ABSENT))
TRIPLES = st.tuples(SIDES, SIDES, SIDES)


def canonical(value):
    return "absent" if value is ABSENT else exact(value)


def leaves(value, path=()):
    """(path, value) of everything in it."""
    yield path, canonical(value)
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, (*path, name))


def broken_law(merge, base, mine, theirs):
    """Which law does not hold for these three, "" for none."""
    value, conflicts = merge(base, mine, theirs)
    other, others = merge(base, theirs, mine)
    if set(conflicts) != set(others):
        return "the conflicts depend on who is who"
    if not conflicts and canonical(value) != canonical(other):
        return "the result depends on who is who"
    if [canonical(each) for each in (merge(base, mine, base)[0], merge(base, base, theirs)[0])] != [
        canonical(mine),
        canonical(theirs),
    ]:
        return "a side that changed nothing changed something"
    if merge(base, mine, base)[1] or merge(base, mine, mine)[1]:
        return "a conflict with nobody"
    if canonical(merge(base, mine, mine)[0]) != canonical(mine):
        return "two who agree get something else"
    if not conflicts and canonical(merge(base, value, theirs)[0]) != canonical(value):
        return "merging again changes it"
    known = {leaf for side in (mine, theirs) for leaf in leaves(side)}
    atoms = {leaf for leaf in leaves(value) if leaf[1][0] != "object"}
    if not conflicts and not atoms <= known:
        return "something is in it that no side had"
    if not conflicts and _lost(base, mine, theirs, value):
        return "a change is lost"
    return ""


def _lost(base, mine, theirs, value):
    """Whether an atom that one side set, and that was not there before, is not in the merged value."""
    before, after = set(leaves(base)), set(leaves(value))
    set_by = {leaf for side in (mine, theirs) for leaf in leaves(side) if leaf[1][0] not in ("object", "a")} - before
    return not set_by <= after


@given(TRIPLES)
@example(({"a": 1}, {"a": 1, "b": 2}, {"a": 1, "c": 3}))
@example(({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {}))
@example((ABSENT, {"a": 1}, {"b": 2}))
@example(({"a": 1, "b": 1}, {"b": 1}, {"a": 1}))
def test_the_laws(sides):
    assert not broken_law(threeway.merged, *sides)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "value", "paths"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}, []),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 2, "b": 1}, {"a": 2}, []),
        ({"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 2}, None, ["/b"]),
        ({"a": 1}, {"a": 2}, {}, None, ["/a"]),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [0, 1]}, None, ["/a"]),
        ({"a": 1}, {"a": 1.0}, {"a": True}, None, ["/a"]),
        ({"x": {"a": 1, "b": 1}}, {"x": {"a": 2, "b": 1}}, {"x": {"a": 1, "b": 2}}, {"x": {"a": 2, "b": 2}}, []),
        ({"x": {"a~/b": 1}, "y": 1}, {"x": {"a~/b": 2}, "y": 2}, {"x": {"a~/b": 3}, "y": 3}, None, ["/x/a~0~1b", "/y"]),
        ({}, {"x": {"a": 1}}, {"x": {"b": 2}}, {"x": {"a": 1, "b": 2}}, []),
        ({"x": 1}, {"x": {"a": 1}}, {"x": {"b": 2}}, None, ["/x"]),
        (1, 2, 1, 2, []),
        (1, 2, 3, None, [""]),
        ({"a": 1}, {"a": 2}, ABSENT, None, [""]),
        ({"a": 1}, {"a": 1}, ABSENT, ABSENT, []),
        (ABSENT, {"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}, []),
    ],
)
def test_examples(base, mine, theirs, value, paths):
    found, conflicts = threeway.merged(base, mine, theirs)
    assert conflicts == paths
    if not paths:
        assert canonical(found) == canonical(value)


def mine_wins(base, mine, theirs):
    """No conflict is ever said."""
    return threeway.merged(base, mine, theirs)[0], []


def deletions_lose(base, mine, theirs):
    """A member that one side deleted stays when the other side has it."""
    value, conflicts = threeway.merged(base, mine, theirs)
    if isinstance(value, dict) and isinstance(mine, dict) and isinstance(theirs, dict):
        value = {**theirs, **value}
    return value, conflicts


def forgets_nesting(base, mine, theirs):
    """Only the first level is merged."""
    if all(isinstance(side, dict) for side in (base, mine, theirs)):
        return {**theirs, **{name: part for name, part in mine.items() if base.get(name) != part}}, []
    return threeway.merged(base, mine, theirs)


@pytest.mark.parametrize("mistake", [mine_wins, deletions_lose, forgets_nesting])
def test_a_seeded_mistake_breaks_a_law(mistake):
    """Raises NoSuchExample when it does not."""
    find(
        TRIPLES,
        lambda sides: bool(broken_law(mistake, *sides)),
        settings=settings(max_examples=2_000, derandomize=True, database=None),
    )
