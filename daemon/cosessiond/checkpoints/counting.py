"""How many events each session has had since its last checkpoint, and whether one is due.

Rule: in memory alone; a daemon that begins anew counts anew, so a checkpoint may come later, and none comes too often.
"""

from __future__ import annotations


class Counting:
    """The events of all sessions."""

    def __init__(self) -> None:
        self._events: dict[str, int] = {}

    def add(self, session: str, events: int) -> int:
        """So many more events of a live session; how many there were since its last checkpoint."""
        count = self._events.get(session, 0) + events
        if count:
            self._events[session] = count
        return count

    def begin_anew(self, session: str) -> None:
        """It has saved one, or has ended."""
        self._events.pop(session, None)
