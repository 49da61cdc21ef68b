"""Counters of what happened and of every limit that was hit; read by `status`.

Rule: one flat map of dotted names to integers, owned by the loop; counting never fails and never blocks.
"""

from __future__ import annotations

from collections.abc import Callable


class Metrics:
    """Counters, and limits that speak up once when four fifths full.

    `warn(name, used, limit)` is called at the first crossing of 80 % and again only after falling below half.
    """

    def __init__(self, warn: Callable[[str, int, int], None] | None = None) -> None:
        self._counters: dict[str, int] = {}
        self._warned: set[str] = set()
        self._warn = warn

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self._counters[name] = self._counters.get(name, 0) + by

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
