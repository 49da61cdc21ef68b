"""Counters of what happened, of every limit that was hit, and how long things took; read by `status` and
`debug.metrics`.

Rule: flat maps by dotted names, owned by the loop; counting never fails and never blocks. Names come from the code or
from a closed list, so that there are never more than so many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

#: Upper bounds of the buckets of a latency, in seconds; one more bucket takes what is above.
BOUNDS_S: Final = (
    *(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005),
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


class Latency:
    """How long one kind of thing took, each time since the start."""

    __slots__ = ("buckets", "max_s", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self.max_s = 0.0

    def add(self, took_s: float) -> None:
        """Once more; on the way of every request."""
        self.buckets[bisect_left(BOUNDS_S, took_s)] += 1
        self.sum_s += took_s
        if took_s > self.max_s:  # noqa: PLR1730 (a call costs as much as all of the above)
            self.max_s = took_s


class Metrics:
    """Counters, latencies, and limits that speak up once when four fifths full.

    `warn(name, used, limit)` is called at the first crossing of 80 % and again only after falling below half.
    """

    def __init__(self, warn: Callable[[str, int, int], None] | None = None) -> None:
        self._counters: dict[str, int] = {}
        self.latencies: dict[str, Latency] = {}
        self._warned: set[str] = set()
        self._warn = warn

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self._counters[name] = self._counters.get(name, 0) + by

    def took(self, name: str, took_s: float) -> None:
        """Something took so long."""
        latency = self.latencies.get(name)
        if latency is None:
            latency = self.latencies[name] = Latency()
        latency.add(took_s)

    def level(self, name: str, used: int, limit: int) -> None:
        """Tell how full something bounded is."""
        if used * 5 >= limit * 4:
            if name not in self._warned:
                self._warned.add(name)
                self.count(f"near_limit.{name}")
                if self._warn:
                    self._warn(name, used, limit)
        elif used * 2 < limit:
            self._warned.discard(name)

    def hit(self, name: str) -> None:
        """A limit refused something."""
        self.count(f"limit.{name}")

    def snapshot(self) -> dict[str, int]:
        """All counters, sorted by name."""
        return dict(sorted(self._counters.items()))
