"""What damage this daemon has met since it began: told to the log, the audit and whoever asks for the status.

A damaged row that a read or the scrub meets is not shown, and the daemon goes on: what it serves from memory was
verified at the start, and commits read nothing but the record of a repeated request. Other damage that it meets while
writing stops it (`app`), and the next start goes by `[store] on_damage`.

Rule: the same damage is told once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cosessiond.audit.journal import Journal
from cosessiond.metrics import Metrics

#: Different damages that are remembered; beyond that they are counted.
REMEMBERED_MAX: Final = 16


class Damage:
    """The damage met by one daemon."""

    def __init__(self, journal: Journal, metrics: Metrics, tell: Callable[[str, str], None]) -> None:
        self._journal = journal
        self._metrics = metrics
        self._tell = tell
        self.found: list[str] = []

    def knew(self, found: list[str]) -> None:
        """Damage that was told to log and audit by an earlier start, and is to be shown still."""
        if not self.found:
            self.found += found[-REMEMBERED_MAX:]

    def met(self, where: str, what: str) -> None:
        """`where`: start, read, scrub, checkpoint or client."""
        self._metrics.count(f"damage.{where}")
        if what in self.found or len(self.found) >= REMEMBERED_MAX:
            return
        self.found.append(what)
        self._journal.acted("damage", outcome=where, subject=what)
        self._tell(where, what)
