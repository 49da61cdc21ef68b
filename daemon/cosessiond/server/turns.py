"""Turns as they are given out: `turnqueue` decides, here the time is kept and whoever is next is told.

A turn ends with the next write of its holder to that key, whatever its outcome, when the holder gives it back or is
gone, and TURN_S after it was given: so one that hangs holds up those who wait, and only for that long.

Rule: everyone who asks is answered once: has it, waited long enough, or is refused; nobody is asked to be polite.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial

from cosession.errors import CosessionError, Overloaded
from cosession.messages.limits import TURN_S, TURNS_MAX
from cosessiond.metrics import Metrics
from cosessiond.server.turnqueue import Turn, TurnQueue
from cosessiond.store.leases import Deadlines

#: Hears what became of a question: has it the turn, or why it cannot have one.
Answer = Callable[[Turn, bool | CosessionError], None]


class Turns:
    """All turns of a daemon. `flush` sends what was answered when it is the time that ends one."""

    def __init__(self, deadlines: Deadlines, metrics: Metrics, *, flush: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._metrics = metrics
        self._flush = flush
        self._queue = TurnQueue()
        self._answers: dict[Turn, Answer] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def is_held(self, key: Hashable) -> bool:
        """Whether somebody has the turn of a key now."""
        return self._queue.holder(key) is not None

    def behind(self, key: Hashable) -> int:
        """How many wait for a key."""
        return self._queue.behind(key)

    def held(self) -> list[Turn]:
        """The turns that somebody has."""
        return self._queue.holders()

    def ask(self, key: Hashable, by: Hashable, wait_s: float, answer: Answer, *, by_max: int) -> None:
        """Answer when `by` has the turn, or when `wait_s` seconds are over; `by` may have asked for `by_max`. Raises
        Overloaded.
        """
        try:
            turn = self._queue.ask(key, by, by_max)
        except Overloaded:
            self._metrics.hit("turns")
            raise
        self._metrics.level("turns", len(self._queue), TURNS_MAX)
        self._answers[turn] = answer
        if self._queue.holder(key) is turn:
            self._grant(turn)
        elif wait_s > 0:
            self._deadlines.after(turn, wait_s, partial(self._waited_long_enough, turn))
        else:
            self._give_up(turn)

    def wrote(self, by: Hashable, keys: Iterable[Hashable]) -> None:
        """A write of `by` to these keys has its outcome: a turn it has for one of them is over."""
        for key in dict.fromkeys(keys):  # each once: the next turn may be of the same connection
            turn = self._queue.holder(key)
            if turn is not None and turn.by == by:
                self._end(turn)

    def left(self, by: Hashable) -> None:
        """A connection is gone."""
        held = self._queue.of(by)
        granted = self._queue.leave(by)
        for turn in held:
            self._deadlines.cancel(turn)
            self._answers.pop(turn, None)
        for turn in granted:
            self._grant(turn)

    def drain(self, error: CosessionError) -> None:
        """The daemon is going: nobody waits any longer."""
        for turn in self._queue.waiters():
            self._queue.end(turn)
            self._deadlines.cancel(turn)
            self._answers.pop(turn)(turn, error)

    def _grant(self, turn: Turn) -> None:
        self._metrics.count("turns.waited" if turn.waited else "turns.at_once")
        self._deadlines.after(turn, TURN_S, partial(self._held_too_long, turn))
        self._answers.pop(turn)(turn, True)

    def _end(self, turn: Turn) -> None:
        self._deadlines.cancel(turn)
        following = self._queue.end(turn)
        if following is not None:
            self._grant(following)

    def _held_too_long(self, turn: Turn) -> None:
        self._metrics.count("turns.expired")
        self._end(turn)
        self._flush()

    def _waited_long_enough(self, turn: Turn) -> None:
        self._give_up(turn)
        self._flush()

    def _give_up(self, turn: Turn) -> None:
        self._metrics.count("turns.in_vain")
        self._queue.end(turn)
        self._answers.pop(turn)(turn, False)
