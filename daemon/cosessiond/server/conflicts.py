"""What became of conflicts: resolved when the connection that met one later writes that key, else unresolved.

No client is asked: what was answered on a connection, and what it commits afterwards, is all that counts. A conflict is
given up as unresolved when its connection ends, or when it meets so many others that this one is forgotten.

Rule: pure counting; each conflict is counted once, as pending, then as resolved or unresolved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable

from cosession.messages.limits import CONFLICT_KEYS_MAX


class Conflicts:
    """All conflicts since the start of the daemon."""

    def __init__(self, keys_max: int = CONFLICT_KEYS_MAX) -> None:
        self.resolved = 0
        self.unresolved = 0
        self.pending = 0
        self._keys_max = keys_max
        self._pending: dict[Hashable, OrderedDict[Hashable, int]] = {}

    def met(self, by: Hashable, key: Hashable) -> None:
        """A conflict about `key` is answered to `by`."""
        keys = self._pending.setdefault(by, OrderedDict())
        keys[key] = keys.pop(key, 0) + 1
        self.pending += 1
        if len(keys) > self._keys_max:
            _, count = keys.popitem(last=False)
            self._give_up(count)

    def wrote(self, by: Hashable, keys: Iterable[Hashable]) -> None:
        """A write of `by` to these keys is committed."""
        mine = self._pending.get(by)
        if mine is None:
            return
        for key in keys:
            count = mine.pop(key, 0)
            self.resolved += count
            self.pending -= count
        if not mine:
            del self._pending[by]

    def left(self, by: Hashable) -> None:
        """A connection is gone."""
        self._give_up(sum(self._pending.pop(by, {}).values()))

    def _give_up(self, count: int) -> None:
        self.unresolved += count
        self.pending -= count
