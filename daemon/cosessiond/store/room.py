"""How much room the disk has for the store, and when what makes the store grow is refused before it fails.

While there is enough, everything is written and the reserve is held. Below LOW writes are refused; what ends or gives
back something goes on, and when the system refuses even that, the reserve is let go of, a step at a time. Writes
resume by themselves when the reserve is held again and RESUME_TIMES as much as LOW is free beside it. What the system
refuses although it says that there is space (a quota) counts as well: then it is asked by holding a step more.

Rule: it is looked at when something is to be written, and so costs a system call for a group and no timer. Owned by
whoever writes; the report is for everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Protocol

from msgspec import Struct

Level = Literal["enough", "low", "spent"]

#: Writes resume when this much more is free than where they were refused.
RESUME_TIMES: Final = 1.5
#: How soon the system is asked again that has refused room which it says is there.
ASK_AGAIN_S: Final = 1.0
#: The part of the reserve that upkeep leaves to those who release something.
KEPT_SHARE: Final = 0.5


class Held(Protocol):
    """Space that can be let go of (`process.reserve.Reserve`)."""

    bytes_max: int
    step_bytes: int

    @property
    def bytes(self) -> int:
        """How much is held now."""
        ...

    def free_bytes(self) -> int:
        """Free space beside it."""
        ...

    def grow(self) -> bool:
        """Hold one step more; False when there is no room."""
        ...

    def shrink(self) -> None:
        """Let go of one step."""
        ...


class Report(Struct, frozen=True, kw_only=True):
    """`level`: "enough", "low" (writes are refused, releases are not) or "spent" (the reserve is gone, and so
    everything is refused). `reserve_bytes_max`: what is held when there is enough; 0: there is no disk to fill.
    """

    level: Level = "enough"
    free_bytes: int = 0
    reserve_bytes: int = 0
    reserve_bytes_max: int = 0

    @property
    def low_bytes(self) -> int:
        """Below this much free space writes are refused."""
        return self.reserve_bytes_max

    @property
    def resume_bytes(self) -> int:
        """From this much free space on they resume."""
        return int(RESUME_TIMES * self.low_bytes) + self.reserve_bytes_max - self.reserve_bytes

    def is_stale(self, free_bytes: int) -> bool:
        """Whether a look would say something else now."""
        if self.level == "enough":
            return free_bytes < self.low_bytes
        return free_bytes >= self.resume_bytes


class Room:
    """The room of one store. Without `held` there is always enough."""

    def __init__(self, held: Held | None = None, monotonic: Callable[[], float] = lambda: 0.0) -> None:
        self._held = held
        self._monotonic = monotonic
        self._level: Level = "enough"
        self._refused = False  # by the system, whatever it says is free
        self._asked: tuple[float, int] | None = None  # when it was asked in vain, and what it said was free
        self._stalled = False  # the reserve is not whole, and cannot be made so now
        self._free_bytes = 0
        self._told = self.report

    @property
    def report(self) -> Report:
        """How it stands, as of the last look."""
        held = self._held
        if held is None:
            return Report()
        return Report(
            level=self._level,
            free_bytes=self._free_bytes,
            reserve_bytes=held.bytes,
            reserve_bytes_max=held.bytes_max,
        )

    def news(self) -> Report | None:
        """The report, when it says something else than the last one that was returned here; free space alone is no
        news.
        """
        if self._held is None:
            return None
        report = self.report
        if (report.level, report.reserve_bytes) == (self._told.level, self._told.reserve_bytes):
            return None
        self._told = report
        return report

    def look(self) -> bool:
        """Whether there is room for what makes the store grow, now."""
        held = self._held
        if held is None:
            return True
        self._stalled = False
        free = self._free_bytes = held.free_bytes()
        if self._level != "enough":
            self._resume(held, free)
            if self._level == "spent" and free >= held.step_bytes:
                self._level = "low"
        elif free < held.bytes_max:
            self._level = "low"
        return self._level == "enough"

    def ran_out(self) -> None:
        """The system has refused room: so it is, whatever it says is free."""
        if self._held is not None:
            self._refused = True
            if self._level == "enough":
                self._level = "low"

    def spend(self, *, upkeep: bool = False) -> bool:
        """Let go of one step of the reserve; False when there is none left, for `upkeep` none of its half."""
        held = self._held
        if held is None or (upkeep and held.bytes <= KEPT_SHARE * held.bytes_max):
            return False
        if not held.bytes:
            self._level = "spent"
            return False
        held.shrink()
        return True

    @property
    def wants(self) -> bool:
        """Whether `hold` has something to do."""
        held = self._held
        return held is not None and self._level == "enough" and not self._stalled and held.bytes < held.bytes_max

    def hold(self) -> None:
        """One step more of the reserve, as long as enough is left beside it."""
        held = self._held
        if held is None:
            return
        left = held.free_bytes() - held.step_bytes
        self._stalled = left < RESUME_TIMES * held.bytes_max or not held.grow()

    def _resume(self, held: Held, free: int) -> None:
        if free < self.report.resume_bytes or not self._may_ask(free):
            return
        while held.bytes < held.bytes_max:
            if not held.grow():
                self._asked = self._monotonic(), free
                return
        if self._refused:
            if not held.grow():
                self._asked = self._monotonic(), free
                return
            held.shrink()
        self._level, self._refused, self._asked = "enough", False, None
        self._free_bytes = held.free_bytes()

    def _may_ask(self, free: int) -> bool:
        """Asking costs writes: not again and again while nothing has changed."""
        if self._asked is None:
            return True
        asked_s, free_then = self._asked
        return free > free_then or self._monotonic() >= asked_s + ASK_AGAIN_S
