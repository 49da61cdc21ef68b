"""Which keys others were met at: an update of one of those begins with its turn, which costs no more than a read.

Rule: pure, small and forgetful. It may be wrong in both directions; then an update costs a retry, or a turn that nobody
else wanted. Threads share it: each step is one operation of a dict.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

#: Keys remembered; of more, those met longest ago are forgotten.
KEYS_KEPT: Final = 64
#: So many turns in a row that nobody else wanted make a key calm again. One says little: the others may be those who
#: write without turns, until they meet a conflict.
CALM_TURNS: Final = 8


class Contention:
    """What one client remembers."""

    def __init__(self, keys_kept: int = KEYS_KEPT) -> None:
        self._keys_kept = keys_kept
        self._calm_turns: dict[Hashable, int] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._calm_turns

    def met(self, key: Hashable) -> None:
        """Others write this key: a conflict, or company in its queue."""
        self._calm_turns.pop(key, None)
        self._calm_turns[key] = 0
        for old in list(self._calm_turns)[: -self._keys_kept]:
            self._calm_turns.pop(old, None)

    def turn_given(self, key: Hashable, *, waited: bool, behind: int) -> None:
        """A turn came, and with it word of whether anybody was there before or is behind."""
        if waited or behind:
            self.met(key)
            return
        calm = self._calm_turns.pop(key, CALM_TURNS) + 1
        if calm < CALM_TURNS:
            self._calm_turns[key] = calm
