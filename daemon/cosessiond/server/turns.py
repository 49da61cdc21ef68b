"""Who is worked for next: a connection whose calls took long waits in a row, and one of the row is served per tick.

Everybody else is served at once, as the loop finds them readable, so that a flood of costly calls delays its own
sender and nobody else. Under a virtual clock no time passes within a tick, and nobody ever waits.

Rule: one turn per tick of the loop; who waits is not read, so that the row holds no more than what had come already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cosessiond.store.leases import Deadlines

#: Work for one connection after which it takes turns. One call may take longer: it is never interrupted.
TURN_S: Final = 0.005


class Turns:
    """The row. A waiter stands in it once, under its name."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._row: dict[object, Callable[[], None]] = {}

    def wait(self, name: object, action: Callable[[], None]) -> None:
        """Call `action` when its turn has come, in a later tick."""
        self._row[name] = action
        self._arm()

    def leave(self, name: object) -> None:
        """Wait no more; harmless when not waiting."""
        self._row.pop(name, None)

    def _arm(self) -> None:
        if self._deadlines.when(self) is None:
            self._deadlines.after(self, 0.0, self._serve)

    def _serve(self) -> None:
        if not self._row:
            return
        name = next(iter(self._row))
        action = self._row.pop(name)
        try:
            action()
        finally:
            if self._row:
                self._arm()  # only now: it is due after what `action` took, so in the next tick
