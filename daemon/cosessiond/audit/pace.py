"""How many denials are written down: some at once, then one every so often; the others are counted.

Rule: no clock of its own, and a few numbers for each connection.
"""

from __future__ import annotations


class Pace:
    """`burst` at once, and one more every `every_s` seconds. `held_back` counts for whoever is let through next."""

    def __init__(self, burst: int, every_s: float, now_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._left = float(burst)
        self._at_s = now_s
        self.held_back = 0

    def allows(self, now_s: float) -> bool:
        """Whether one more may go now."""
        self._left = min(float(self._burst), self._left + (now_s - self._at_s) / self._every_s)
        self._at_s = now_s
        return self._left >= 1.0

    def take(self) -> int:
        """One goes; how many were held back before it."""
        self._left -= 1.0
        held_back, self.held_back = self.held_back, 0
        return held_back
