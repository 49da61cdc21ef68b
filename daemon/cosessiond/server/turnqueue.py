"""Who has the turn of a key, and who waits for it: a place in a queue, so that many who update one entry do not retry.

A turn is advisory. It delays and refuses nobody's writes; it only tells those who ask for it when it is best to write.

Rule: pure. Every decision returns whom to answer; whoever asked is told by `turns`, which also knows the time. No step
walks a queue, however long: a place is taken, left and passed on in constant time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from cosession.errors import Overloaded
from cosession.messages.limits import TURN_WAITERS_MAX, TURNS_MAX


class Turn:
    """One who asked for the turn of a key. `by` is the connection; it may ask several times, for several tasks."""

    __slots__ = ("by", "key", "waited")

    def __init__(self, key: Hashable, by: Hashable) -> None:
        self.key = key
        self.by = by
        self.waited = False  # it was not granted at once


class _Queue:
    """One key: who has the turn, and who waits, first in, first out."""

    __slots__ = ("holder", "waiting")

    def __init__(self, holder: Turn) -> None:
        self.holder = holder
        # No dict: finding the first of one costs a look at every place left before it.
        self.waiting: OrderedDict[Turn, None] = OrderedDict()


class TurnQueue:
    """The queues of all keys."""

    def __init__(self, *, waiters_max: int = TURN_WAITERS_MAX, turns_max: int = TURNS_MAX) -> None:
        self._waiters_max = waiters_max
        self._turns_max = turns_max
        self._queues: dict[Hashable, _Queue] = {}
        self._by: dict[Hashable, dict[Turn, None]] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._queues) + self._waiting

    @property
    def waiting(self) -> int:
        """How many wait, for all keys."""
        return self._waiting

    def holder(self, key: Hashable) -> Turn | None:
        """Who has the turn of a key."""
        queue = self._queues.get(key)
        return queue.holder if queue else None

    def behind(self, key: Hashable) -> int:
        """How many wait for a key."""
        queue = self._queues.get(key)
        return len(queue.waiting) if queue else 0

    def of(self, by: Hashable) -> list[Turn]:
        """What a connection has and waits for."""
        return list(self._by.get(by, ()))

    def ask(self, key: Hashable, by: Hashable, by_max: int = TURNS_MAX) -> Turn:
        """Take the turn of a key, or a place at the end of its queue: `holder` says which.

        `by_max`: so many `by` may have and wait for. Raises Overloaded.
        """
        queue = self._queues.get(key)
        self._admit(queue, by, by_max)
        turn = Turn(queue.holder.key if queue else key, by)  # one key in memory, however many wait for it
        self._by.setdefault(by, {})[turn] = None
        if queue is None:
            self._queues[key] = _Queue(turn)
        else:
            turn.waited = True
            queue.waiting[turn] = None
            self._waiting += 1
        return turn

    def end(self, turn: Turn) -> Turn | None:
        """It is over: the one whose turn it is now, if that changed. Harmless when it was over before."""
        queue = self._queues.get(turn.key)
        if queue is None or turn not in self._by.get(turn.by, ()):
            return None
        self._forget(turn)
        if queue.holder is not turn:
            del queue.waiting[turn]
            self._waiting -= 1
            return None
        if not queue.waiting:
            del self._queues[turn.key]
            return None
        queue.holder, _ = queue.waiting.popitem(last=False)
        self._waiting -= 1
        return queue.holder

    def leave(self, by: Hashable) -> list[Turn]:
        """A connection is gone: those whose turn it is now."""
        granted = [self.end(turn) for turn in self.of(by)]
        # It may have been next in its own queue: then that turn ended as well, a moment later.
        return [turn for turn in granted if turn is not None and self.holder(turn.key) is turn]

    def holders(self) -> list[Turn]:
        """Who has the turn of each key."""
        return [queue.holder for queue in self._queues.values()]

    def waiters(self) -> list[Turn]:
        """All who wait."""
        return [turn for queue in self._queues.values() for turn in queue.waiting]

    def _admit(self, queue: _Queue | None, by: Hashable, by_max: int) -> None:
        if len(self) >= self._turns_max:
            raise Overloaded(f"cannot wait for a turn: {self._turns_max} are given or waited for; write without one")
        if queue is not None and len(queue.waiting) >= self._waiters_max:
            raise Overloaded(f"cannot wait for a turn: {self._waiters_max} wait for this key; write without one")
        if len(self._by.get(by, ())) >= by_max:
            raise Overloaded(
                f"cannot wait for a turn: this connection has asked for {by_max}, and its writes need room; "
                "write without one"
            )

    def _forget(self, turn: Turn) -> None:
        own = self._by[turn.by]
        del own[turn]
        if not own:
            del self._by[turn.by]
