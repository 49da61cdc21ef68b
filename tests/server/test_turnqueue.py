"""The queue of turns without time: against a model in plain lists, which three seeded mistakes do not survive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosession.errors import Overloaded
from cosessiond.server.turnqueue import TurnQueue

KEYS, PEOPLE = "ab", "xyz"
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(KEYS), st.sampled_from(PEOPLE)),
        st.tuples(st.just("end"), st.integers(0, 40), st.none()),
        st.tuples(st.just("leave"), st.sampled_from(PEOPLE), st.none()),
    ),
    max_size=40,
)


class Model:
    """Lists: the first of each has the turn."""

    def __init__(self):
        self.queues = {key: [] for key in KEYS}

    def ask(self, key, name):
        self.queues[key].append(name)

    def end(self, name):
        for queue in self.queues.values():
            if name in queue:
                was_first = queue[0] == name
                queue.remove(name)
                return queue[0] if was_first and queue else None
        return None

    def leave(self, by):
        granted = set()
        for queue in self.queues.values():
            first = queue[:1]
            queue[:] = [name for name in queue if name[0] != by]
            if queue[:1] != first and queue:
                granted.add(queue[0])
        return granted


def disagreement(queue, events):
    """What the queue does otherwise than the model, "" for nothing."""
    model, turns, names = Model(), {}, {}
    for number, (event, what, by) in enumerate(events):
        if event == "ask":
            turn = queue.ask(what, by)
            name = (by, number)
            turns[name], names[turn] = turn, name
            model.ask(what, name)
            if turn.waited is (model.queues[what][0] == name):
                return f"{name} {'waits' if turn.waited else 'has the turn'}"
        elif event == "end" and turns:
            name = list(turns)[what % len(turns)]
            following = queue.end(turns[name])
            if (names[following] if following else None) != model.end(name):
                return f"after {name} came {following and names[following]}"
        elif event == "leave" and {names[turn] for turn in queue.leave(what)} != model.leave(what):
            return f"other turns after {what} left"
        for key, expected in model.queues.items():
            holder = queue.holder(key)
            if (names[holder] if holder else None) != (expected[0] if expected else None):
                return f"another has the turn of {key}"
            if queue.behind(key) != max(0, len(expected) - 1):
                return f"{queue.behind(key)} behind {key}"
        if len(queue) != sum(map(len, model.queues.values())):
            return f"it counts {len(queue)}"
    return ""


@given(EVENTS)
def test_the_queue_is_first_in_first_out_whoever_ends_and_leaves(events):
    assert not disagreement(TurnQueue(), events)


class LastFirst(TurnQueue):
    """The newest waiter comes next."""

    def end(self, turn):
        queue = self._queues.get(turn.key)
        if queue and queue.holder is turn and queue.waiting:
            queue.waiting.move_to_end(next(reversed(queue.waiting)), last=False)
        return super().end(turn)


class KeepsTheGone(TurnQueue):
    """Who waits stays in the queue when its connection is gone."""

    def leave(self, by):
        granted = [self.end(turn) for turn in self.of(by) if self.holder(turn.key) is turn]
        return [turn for turn in granted if turn is not None and self.holder(turn.key) is turn]


class EndsTheNext(TurnQueue):
    """Ending what is over already ends the turn of whoever has it now."""

    def end(self, turn):
        holder = self.holder(turn.key)
        return super().end(turn) if turn in self.of(turn.by) or holder is None else super().end(holder)


@pytest.mark.parametrize("mistake", [LastFirst, KeepsTheGone, EndsTheNext])
def test_a_seeded_mistake_is_seen(mistake):
    def ask(who):
        return ("ask", "a", who)

    histories = (
        [ask("x"), ask("y"), ask("z"), ("end", 0, None)],
        [ask("x"), ask("y"), ask("z"), ("leave", "y", None), ("end", 0, None)],
        [ask("x"), ask("y"), ask("z"), ("end", 0, None), ("end", 0, None)],
    )
    assert any(disagreement(mistake(), events) for events in histories)
    assert not any(disagreement(TurnQueue(), events) for events in histories)


def test_ten_thousand_wait_for_one_key_and_are_served_in_order():
    queue = TurnQueue(waiters_max=20_000, turns_max=20_000)
    turns = [queue.ask("a", number % 100) for number in range(10_000)]
    served = [turns[0]]
    while (following := queue.end(served[-1])) is not None:
        served.append(following)
    assert served == turns
    assert len(queue) == 0
    assert not queue.of(0)


def test_ten_thousand_of_one_connection_leave_at_once():
    queue = TurnQueue(waiters_max=20_000, turns_max=20_000)
    first = queue.ask("a", "first")
    for _ in range(10_000):
        queue.ask("a", "many")
    last = queue.ask("a", "last")
    assert queue.leave("many") == []
    assert queue.end(first) is last


def test_the_three_bounds():
    queue = TurnQueue(waiters_max=4, turns_max=7)
    for _ in range(3):
        queue.ask("a", "x")
    with pytest.raises(Overloaded, match="this connection has asked for 3"):
        queue.ask("b", "x", 3)
    queue.ask("a", "y")
    queue.ask("a", "y")
    with pytest.raises(Overloaded, match="4 wait for this key"):
        queue.ask("a", "y")
    queue.ask("b", "y")
    queue.ask("c", "z")
    with pytest.raises(Overloaded, match="7 are given or waited for"):
        queue.ask("d", "z")
    queue.leave("x")
    queue.ask("d", "z")
    assert len(queue) == 5
