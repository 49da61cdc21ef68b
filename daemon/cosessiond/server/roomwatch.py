"""What the loop knows of the room on the disk: it is told, says it once, and looks again where nobody writes.

Rule: looking costs a system call on the loop; the store's thread is asked only when it would say something else.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from cosession.errors import CosessionError
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Engine
from cosessiond.store.revisions import Store
from cosessiond.store.room import Held, Report, Room

_MIB: Final = 1024 * 1024


class RoomWatch:
    """Follows the room of one store."""

    def __init__(self, store: Store, room: Room, held: Held, metrics: Metrics, log: Any) -> None:
        self._store = store
        self._room = room
        self._held = held
        self._metrics = metrics
        self._log = log
        self._asking = False
        if room.look() and room.wants:  # the store's thread has not begun; it goes on with this
            room.hold()
        self.report = room.report
        self._said: str = "enough"
        self._say(self.report)
        store.on_room = self._told

    def look(self) -> Report:
        """How it stands now. What the store's thread would say else of it, it is asked."""
        free = self._held.free_bytes()
        if self.report.is_stale(free) and not self._asking:
            with contextlib.suppress(CosessionError):  # too many reads wait: next time
                self._store.run(self._look_there, self._looked)
                self._asking = True
        return Report(
            level=self.report.level,
            free_bytes=free,
            reserve_bytes=self.report.reserve_bytes,
            reserve_bytes_max=self.report.reserve_bytes_max,
        )

    def _look_there(self, _: Engine) -> None:
        self._room.look()

    def _looked(self, _: object) -> None:
        self._asking = False

    def _told(self, report: Report) -> None:
        if report.reserve_bytes < self.report.reserve_bytes:
            self._metrics.count("reserve.given_up_bytes", self.report.reserve_bytes - report.reserve_bytes)
        self.report = report
        self._say(report)

    def _say(self, report: Report) -> None:
        if report.level == self._said:
            return
        self._said = report.level
        about = {"free_mib": round(report.free_bytes / _MIB, 1), "reserve_mib": round(report.reserve_bytes / _MIB, 1)}
        if report.level == "enough":
            self._log.info("the disk has room again; writing goes on", **about)
            return
        self._metrics.hit(f"disk_{report.level}")
        if report.level == "low":
            self._log.warning("the disk is nearly full; writes are refused, releases go on", **about)
        else:
            self._log.error("the disk is full and the reserve is spent; releases are refused as well", **about)
