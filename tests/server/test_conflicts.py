"""Counting conflicts: each is pending, then resolved or unresolved, and never two of these."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cosessiond.server.conflicts import Conflicts

EVENTS = st.lists(
    st.tuples(st.sampled_from(["met", "met", "wrote", "left"]), st.sampled_from("xy"), st.integers(0, 5)), max_size=60
)


def run(conflicts, events):
    """How many conflicts were told of."""
    told = 0
    for event, by, key in events:
        if event == "met":
            conflicts.met(by, key)
            told += 1
        elif event == "wrote":
            conflicts.wrote(by, [key])
        else:
            conflicts.left(by)
    return told


@given(EVENTS)
def test_every_conflict_is_counted_once(events):
    conflicts = Conflicts(keys_max=3)
    told = run(conflicts, events)
    assert conflicts.pending + conflicts.resolved + conflicts.unresolved == told
    assert min(conflicts.pending, conflicts.resolved, conflicts.unresolved) >= 0
    for by in "xy":
        conflicts.left(by)
    assert conflicts.pending == 0


class CountsTwice(Conflicts):
    """What was forgotten is resolved by a later write all the same."""

    def _give_up(self, count):
        super()._give_up(count)
        self.resolved += count


def test_a_conflict_counted_twice_is_seen():
    conflicts = CountsTwice(keys_max=3)
    told = run(conflicts, [("met", "x", key) for key in range(4)])
    assert conflicts.pending + conflicts.resolved + conflicts.unresolved != told


def test_the_oldest_key_is_given_up_first():
    conflicts = Conflicts(keys_max=2)
    run(conflicts, [("met", "x", 1), ("met", "x", 2), ("met", "x", 1), ("met", "x", 3)])
    assert (conflicts.pending, conflicts.unresolved) == (3, 1), "key 1 was met again since"
    conflicts.wrote("x", [2, 1])
    assert (conflicts.pending, conflicts.resolved, conflicts.unresolved) == (1, 2, 1)
