"""The run queue: a connection whose calls took long waits in it, and one of those that wait is run per tick.

Everybody else is served at once, as the loop finds them readable, so that costly calls, of one sender or of hundreds,
delay each other and nobody else. Nobody is known to be costly at first: when those who turn out to be have spent the
time of a tick, whoever sends much waits as well. Under a virtual clock no time passes within a tick, and nobody ever
waits.

Rule: one time slice per tick of the loop, and not many more of those who were not known; who waits is not read, so that
the queue holds no more than what had come already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cosessiond.store.leases import Deadlines

#: Work for one connection after which it waits. One call may take longer: it is never interrupted.
TIME_SLICE_S: Final = 0.005
#: Whose last calls took this long waits before the next ones; everybody else is served at once.
COSTLY_S: Final = 0.002
#: What costly calls of connections that did not wait may take of one tick, until the others wait that send much.
TICK_S: Final = 0.010
#: Who has sent no more than this waits for nobody: it is decoded in less than a time slice.
TRIFLE_BYTES: Final = 8 * 1024


class RunQueue:
    """Who waits, first in, first out. Each stands in it once, under its name."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._waiting: dict[object, Callable[[], None]] = {}
        self._spent_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def spend(self, seconds: float) -> None:
        """A costly connection was served in this tick."""
        self._spent_s += seconds
        if self.is_spent:
            self._deadlines.after(("tick", self), 0.0, self._begin)

    @property
    def is_spent(self) -> bool:
        """Whether those who send much wait until the next tick."""
        return self._spent_s >= TICK_S

    def _begin(self) -> None:
        self._spent_s = 0.0

    def wait(self, name: object, action: Callable[[], None]) -> None:
        """Call `action` in a later tick, after those that wait already."""
        self._waiting[name] = action
        self._arm()

    def leave(self, name: object) -> None:
        """Wait no more; harmless when not waiting."""
        self._waiting.pop(name, None)

    def _arm(self) -> None:
        if self._deadlines.when(self) is None:
            self._deadlines.after(self, 0.0, self._run_one)

    def _run_one(self) -> None:
        if not self._waiting:
            return
        name = next(iter(self._waiting))
        action = self._waiting.pop(name)
        try:
            action()
        finally:
            if self._waiting:
                self._arm()  # only now: it is due after what `action` took, so in the next tick
