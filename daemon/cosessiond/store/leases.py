"""One heap of deadlines for everything that ends by time: TTL entries, heartbeats, idle sessions, polling.

Rule: never early, later is allowed. One timer of the loop is armed, for the earliest deadline only; with nothing
pending nothing wakes. An action is a plain call that submits an ordinary batch: expiry is a write.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count
from typing import Final

from cosessiond.clock import Clock, TimerHandle, Timers

#: A smaller heap is not worth rebuilding.
_HEAP_SMALL: Final = 64


class Deadlines:
    """Named deadlines on the monotonic clock; setting a name again moves it.

    Moving only records the new moment: the old heap item is found stale when it surfaces, so that a renewal costs one
    dict write. The heap is rebuilt when more than half of it is stale.
    """

    def __init__(self, clock: Clock, timers: Timers) -> None:
        self._clock = clock
        self._timers = timers
        self._heap: list[tuple[float, int, Hashable]] = []
        self._pending: dict[Hashable, tuple[float, int, Callable[[], None]]] = {}
        self._serial = count()
        self._armed: TimerHandle | None = None
        self._armed_at = 0.0

    def __len__(self) -> int:
        return len(self._pending)

    def set(self, name: Hashable, when_s: float, action: Callable[[], None]) -> None:
        """Call `action` once at or after `when_s` (monotonic seconds), instead of what `name` had pending."""
        serial = next(self._serial)
        self._pending[name] = (when_s, serial, action)
        heapq.heappush(self._heap, (when_s, serial, name))
        if len(self._heap) > _HEAP_SMALL and len(self._heap) > 2 * len(self._pending):
            self._heap = [(when, number, key) for key, (when, number, _) in self._pending.items()]
            heapq.heapify(self._heap)
        self._arm()

    def after(self, name: Hashable, delay_s: float, action: Callable[[], None]) -> None:
        """`set` relative to now."""
        self.set(name, self._clock.monotonic() + delay_s, action)

    def cancel(self, name: Hashable) -> None:
        """Forget what `name` has pending, if anything."""
        self._pending.pop(name, None)

    def when(self, name: Hashable) -> float | None:
        """The moment `name` is due, None when nothing is pending."""
        found = self._pending.get(name)
        return found[0] if found else None

    def _arm(self) -> None:
        while self._heap and self._is_stale(self._heap[0]):
            heapq.heappop(self._heap)
        if not self._heap:
            if self._armed:
                self._armed.cancel()
                self._armed = None
            return
        due = self._heap[0][0]
        if self._armed and self._armed_at <= due:
            return  # wakes in time; a stale wake-up is cheaper than re-arming at every renewal
        if self._armed:
            self._armed.cancel()
        self._armed_at = due
        self._armed = self._timers.call_at(due, self._fire)

    def _is_stale(self, item: tuple[float, int, Hashable]) -> bool:
        found = self._pending.get(item[2])
        return found is None or found[1] != item[1]

    def _fire(self) -> None:
        self._armed = None
        now = self._clock.monotonic()
        while self._heap and (self._is_stale(self._heap[0]) or self._heap[0][0] <= now):
            item = heapq.heappop(self._heap)
            if not self._is_stale(item):
                _, _, action = self._pending.pop(item[2])
                action()  # one that raises ends the daemon (`app._on_loop_error`): what is due then is due at its start
        self._arm()
