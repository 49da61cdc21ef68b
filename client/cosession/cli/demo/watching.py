"""The demo's watch: follows every change of the project from before the first to after the last, through the restart.

It keeps a copy of the store from nothing but the changes delivered, and judges their order as they come; what was
delivered is compared with the store and with what the writers were told at the end.

Rule: a change is judged on its own evidence (versions and revisions), never on what the writers say they did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cosession import sync
from cosession.errors import CosessionError
from cosession.model import Change

TIMEOUT_S = 30.0


class Watching:
    """A watch in a thread of its own, with a client of its own. `show` is called for every change."""

    def __init__(self, project: str, show: Callable[[Change], None]) -> None:
        self.copy: dict[str, Change] = {}
        self.delivered: dict[str, list[int]] = {}
        self.changes = 0
        self.wrong: list[str] = []
        self._show = show
        self._last_revision = 0
        self._arrived = threading.Condition()
        self._client = sync.connect(project=project, timeout_s=TIMEOUT_S)
        self._watch = self._client.watch()
        self._thread = threading.Thread(target=self._follow, name="watching", daemon=True)
        self._thread.start()

    def wait_for(self, revision: int, timeout_s: float) -> bool:
        """Wait until everything up to `revision` that concerns this project has been delivered."""
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while self._last_revision < revision and self._thread.is_alive():
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
            return self._last_revision >= revision

    def close(self) -> None:
        """End the watch and its thread."""
        self._watch.close()
        self._thread.join(TIMEOUT_S)
        self._client.close()

    def _follow(self) -> None:
        try:
            for item in self._watch:
                if isinstance(item, Change):
                    self._take(item)
                    self._show(item)
                else:
                    self.wrong.append("the watch had to begin anew")
                with self._arrived:
                    self._last_revision = item.mod_revision
                    self._arrived.notify_all()
        except CosessionError as error:
            self.wrong.append(error.message)
        with self._arrived:
            self._arrived.notify_all()

    def _take(self, change: Change) -> None:
        """Judge one change: later than the one before, and the next version of its entry."""
        before = self.copy.get(change.key)
        expected = before.version + 1 if before else 1
        if change.mod_revision <= self._last_revision:
            self.wrong.append(f"revision {change.mod_revision} came after {self._last_revision}")
        if change.version != expected:
            self.wrong.append(f"{change.key} went from version {expected - 1} to {change.version}")
        self.copy[change.key] = change
        self.delivered.setdefault(change.key, []).append(change.mod_revision)
        self.changes += 1


def missing(acknowledged: list[dict[str, Any]], delivered: dict[str, list[int]]) -> list[str]:
    """The acknowledged writes that the watch did not deliver exactly once, at the revision that was acknowledged."""
    return [fact["key"] for fact in acknowledged if delivered.get(fact["key"]) != [fact["revision"]]]
