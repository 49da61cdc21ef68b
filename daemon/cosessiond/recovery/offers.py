"""When to offer to recover a session that crashes again and again: later each time, and not in a loop.

Nothing is ever restarted or recovered by itself, so an offer is all there is to hold back. Who asks by name is served.

Rule: pure. Times are of the wall clock, since they must outlive the machine; what is in the future has happened now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cosession.messages.recovery import Offer

FIRST_S: Final = 30.0
LONGEST_S: Final = 600.0
LOOP_CRASHES: Final = 5
LOOP_S: Final = 900.0
COUNTS_S: Final = 3_600.0


def offer_of(crashes: Sequence[float], now_s: float) -> Offer:
    """The offer that stands `now_s`, after these crashes of one piece of work, oldest first."""
    counted = [min(when_s, now_s) for when_s in crashes if now_s - when_s < COUNTS_S]
    if len(counted) >= LOOP_CRASHES and counted[-1] - counted[-LOOP_CRASHES] <= LOOP_S:
        left_s = COUNTS_S - (now_s - counted[-LOOP_CRASHES])
        return Offer(state="loop", crashes=len(counted), wait_s=round(max(0.0, left_s), 3))
    if len(counted) <= 1:
        return Offer(state="open", crashes=len(counted))
    wait_s = min(FIRST_S * 2.0 ** (len(counted) - 2), LONGEST_S) - (now_s - counted[-1])
    if wait_s <= 0:
        return Offer(state="open", crashes=len(counted))
    return Offer(state="waiting", crashes=len(counted), wait_s=round(wait_s, 3))
