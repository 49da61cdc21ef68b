"""When a running store is marked: 5 s after the first revision that is not, and every 1,000 revisions.

The mark itself is written on the store's thread, between two groups (`store.marks`). A checkpoint of the log is no
reason for one: it changes nothing in what can be proved.

Rule: one mark at a time is on its way; while nothing is committed there is no timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cosession.errors import CosessionError, Overloaded
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Committed, Engine
from cosessiond.store.leases import Deadlines
from cosessiond.store.marks import Marker
from cosessiond.store.revisions import Store

MARK_AFTER_S: Final = 5.0
MARK_REVISIONS: Final = 1_000


class Marking:
    """Asks for marks, on the loop. `on_failed` is told why one could not be written; the last one stays."""

    def __init__(
        self,
        store: Store,
        marker: Marker,
        deadlines: Deadlines,
        metrics: Metrics,
        on_failed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._marker = marker
        self._deadlines = deadlines
        self._metrics = metrics
        self._on_failed = on_failed
        self._unmarked = 0  # revisions since the last that was asked for
        self._asked = False

    def published(self, _: Committed) -> None:
        """A batch is durable."""
        self._unmarked += 1
        if self._unmarked >= MARK_REVISIONS and not self._asked:
            self._ask()
        elif self._unmarked == 1 and self._deadlines.when("mark") is None:
            self._deadlines.after("mark", MARK_AFTER_S, self._due)

    def claimed(self, revision: int) -> None:
        """A client remembers a revision that the store does not have: the mark says so for the next start."""
        self._marker.claimed(revision)
        self._unmarked += 1
        self._ask()

    def _due(self) -> None:
        if self._unmarked and not self._asked:
            self._ask()

    def _ask(self) -> None:
        def write(engine: Engine) -> str:
            try:
                self._marker.write(engine.position())
            except OSError as error:
                return str(error)
            return ""

        def done(why: str | CosessionError) -> None:
            self._asked = False
            if why:
                self._metrics.count("mark.failed")
                self._on_failed(str(why))
            if self._unmarked and self._deadlines.when("mark") is None:
                self._deadlines.after("mark", MARK_AFTER_S, self._due)

        try:
            self._store.run(write, done)
        except Overloaded:
            self._deadlines.after("mark", MARK_AFTER_S, self._due)
            return
        self._asked, self._unmarked = True, 0
