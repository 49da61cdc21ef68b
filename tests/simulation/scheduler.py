"""The loop of the simulation: `virtual.World` with a trace, and delays as a machine under load has them.

Rule: whatever happens is drawn from the seed and noted; two runs with the same digest did the same things in the same
order at the same moments.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from virtual import World

#: Delays in seconds with their weights: mostly nothing, now and then a stall.
_DELAYS: Final = ((60, 0.0002), (30, 0.002), (9, 0.02), (1, 0.2))


class Scheduler(World):
    """One world, one seed. `keep`: hold the lines of the trace, to be read by a person."""

    def __init__(self, seed: int, *, keep: bool = False) -> None:
        super().__init__(seed)
        self.lines: list[str] | None = [] if keep else None
        self._stalls = sum(weight for weight, _ in _DELAYS)

    def stream(self, name: str) -> Random:
        """Randomness of its own, so that leaving one kind of event out disturbs the others little."""
        return Random(f"{self.seed}/{name}")

    @property
    def now_s(self) -> float:
        """The monotonic clock."""
        return self.clock.monotonic()

    def note(self, text: str) -> None:
        """One line of the trace."""
        line = f"{self.clock.monotonic():.7f} {text}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def delay_s(self, stretch: float = 1.0) -> float:
        """How long something takes this time."""
        point = self.random.randrange(self._stalls)
        for weight, most_s in _DELAYS:
            if point < weight:
                return self.random.uniform(0.0, most_s) * stretch
            point -= weight
        raise AssertionError("the weights add up")

    def later(self, action: Callable[[], None], stretch: float = 1.0) -> None:
        """Run `action` after a delay."""
        self.call_after(self.delay_s(stretch), action)
