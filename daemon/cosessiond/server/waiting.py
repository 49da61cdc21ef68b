"""Calls that wait for what is not there yet: a record of the audit that has not happened, a backup that is made.

Rule: bounded in number and in time, and in nobody's way: whoever waits holds a few words, no answer, no timer of its
own loop, goes with its connection, and is woken only by what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from msgspec import Struct

from cosession.errors import CosessionError, Overloaded
from cosession.messages.limits import AUDIT_WAITING_MAX
from cosessiond.metrics import Metrics
from cosessiond.store.leases import Deadlines
from cosessiond.store.record import Record


class Waiter(Struct, frozen=True, eq=False):
    """One call. `fits`: whether some record of the audit is for it, None for who waits for a backup. `resume`: what it
    waits for has come. `give_up`: the time is over. `end`: an error ends it.
    """

    sink: Hashable
    fits: Callable[[Record], bool] | None
    resume: Callable[[], None]
    give_up: Callable[[], None]
    end: Callable[[CosessionError], None]


class Waiting:
    """All calls that wait, in the order in which they came."""

    def __init__(self, deadlines: Deadlines, metrics: Metrics) -> None:
        self._deadlines = deadlines
        self._metrics = metrics
        self._waiters: dict[Waiter, None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter, until_s: float) -> None:
        """Wait until `until_s` on the monotonic clock at most. Raises Overloaded at the limit."""
        if len(self._waiters) >= AUDIT_WAITING_MAX:
            self._metrics.hit("audit_waiting")
            raise Overloaded(f"cannot wait: {AUDIT_WAITING_MAX} calls do so already; ask again without wait_s")
        self._metrics.level("audit_waiting", len(self._waiters) + 1, AUDIT_WAITING_MAX)
        self._waiters[waiter] = None
        self._deadlines.set(("waiting", waiter), until_s, lambda: self._give_up(waiter))

    def recorded(self, records: Sequence[Record]) -> None:
        """These, or some of them, are in the audit: whoever waits for one of them looks again."""
        for waiter in self._taken([each for each in self._waiters if each.fits and any(map(each.fits, records))]):
            waiter.resume()

    def backed_up(self) -> None:
        """A backup is over: whoever waits for one looks again."""
        for waiter in self._taken([each for each in self._waiters if each.fits is None]):
            waiter.resume()

    def leave(self, sink: Hashable) -> None:
        """A connection is gone, and whoever waits there with it."""
        self._taken([waiter for waiter in self._waiters if waiter.sink is sink])

    def end_all(self, error: CosessionError) -> None:
        """Nobody waits any longer."""
        for waiter in self._taken(list(self._waiters)):
            waiter.end(error)

    def _give_up(self, waiter: Waiter) -> None:
        self._taken([waiter])
        waiter.give_up()

    def _taken(self, waiters: list[Waiter]) -> list[Waiter]:
        for waiter in waiters:
            del self._waiters[waiter]
            self._deadlines.cancel(("waiting", waiter))
        return waiters
