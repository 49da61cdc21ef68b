"""How long commits were held up by upkeep: the longest time since the start, and what the newest ones come to.

Rule: bounded; it is told and does not measure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: The newest that the percentile is taken over: at full load those of the last minute or so.
NEWEST: Final = 1_000


class Stalls:
    """Times between two groups while somebody waited to commit, in seconds."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=NEWEST)
        self.longest_s = 0.0

    def add(self, stall_s: float) -> None:
        """A commit has waited so long for upkeep."""
        self._newest.append(stall_s)
        self.longest_s = max(self.longest_s, stall_s)

    def counters(self) -> dict[str, float]:
        """As `status` shows them; nothing while no commit has waited."""
        if not self._newest:
            return {}
        shown = {"commit_stall_ms.max": self.longest_s, "commit_stall_ms.p99": self.percentile_s(0.99)}
        return {name: round(1000 * stall_s, 3) for name, stall_s in shown.items()}

    def percentile_s(self, part: float) -> float:
        """What so many of the newest were not longer than; 0.0 when there was none."""
        found = sorted(self._newest)
        return found[min(len(found) - 1, int(len(found) * part))] if found else 0.0
