"""Taking in what was spooled: round by round, the calls of each session one after the other, each exactly once.

A round looks at the directory, hands the calls on, and when all have their outcome removes what is committed and puts
aside what was refused for good. A file goes only after its call is durable; what is found again after a crash has a
request id that the store knows. What cannot be done now (a full disk, an end that is near) holds up the later calls of
the same session, stays, and is tried again.

Rule: one round at a time; the loop decides and hands on, files are another thread's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from msgspec import Struct

from cosession.errors import CosessionError
from cosessiond.metrics import Metrics
from cosessiond.spool.directory import Aside, Directory, Look, Spooled

#: Errors by which nothing is decided: the same call may be taken later.
PASSING: Final = frozenset({"overloaded", "shutting_down", "disk_full", "read_only"})
#: How soon what could not be taken is tried again, at first and at most.
RETRY_S: Final = 1.0
RETRY_S_MAX: Final = 60.0

Done = Callable[[CosessionError | None], None]


class Failed(Struct, frozen=True):
    """What was to be done elsewhere was not: no thread was to be had, or it met a fault of ours."""

    why: str


class Deadlines(Protocol):
    """The named deadlines of the loop (`store.leases.Deadlines`)."""

    def after(self, name: str, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` once after `delay_s`, instead of what `name` had pending."""
        ...

    def cancel(self, name: str) -> None:
        """Forget what `name` has pending, if anything."""
        ...


class Aboard(Struct):
    """How the spool stands, for people: its directory, calls that wait, calls taken and refused since the start, files
    in `refused/`, and why it cannot be looked into, "" when it can.
    """

    directory: str = ""
    waiting: int = 0
    taken: int = 0
    refused: int = 0
    aside: int = 0
    error: str = ""


class Intake:
    """The one intake of a daemon.

    `take` carries out a call and says how it ended; `elsewhere` runs something on another thread and calls back on the
    loop with the result, or with why there is none; `tell` is told what was refused.
    """

    def __init__(
        self,
        directory: Directory,
        take: Callable[[Spooled, Done], None],
        *,
        elsewhere: Callable[[Callable[[], Any], Callable[[Any | Failed], None]], None],
        deadlines: Deadlines,
        wall_s: Callable[[], float],
        metrics: Metrics,
        tell: Callable[[Aside], None],
    ) -> None:
        self.directory = directory
        self.stands = Aboard(directory=str(directory.path))
        self._take = take
        self._elsewhere = elsewhere
        self._deadlines = deadlines
        self._wall_s = wall_s
        self._metrics = metrics
        self._tell = tell
        self._under_way = self._again = self._closed = False
        self._retry_s = RETRY_S
        self._lanes: dict[str, deque[Spooled]] = {}
        self._done: list[str] = []
        self._refused: list[Aside] = []
        self._held_up = False

    def look(self) -> None:
        """Something may have come; harmless at any time."""
        if self._closed:
            return
        if self._under_way:
            self._again = True
            return
        self._under_way, self._again = True, False
        self.directory.now_s = self._wall_s()
        self._elsewhere(self.directory.look, self._found)

    def close(self) -> None:
        """Take in nothing more; what is under way is answered and stays until the next start."""
        self._closed = True
        self._deadlines.cancel("spool")

    def _found(self, found: Look | Failed) -> None:
        if isinstance(found, Failed):
            found = Look(error=found.why)
        stands = self.stands
        stands.waiting, stands.aside, stands.error = found.waiting, found.refused, found.error
        for each in found.aside:
            self._refuse(each)
        self._done, self._refused, self._held_up = [], [], False
        self._lanes = {}
        for call in found.calls:
            self._lanes.setdefault(call.header.session, deque()).append(call)
        if not found.calls:
            self._over(progress=bool(found.aside))
            return
        for session in list(self._lanes):
            self._next_of(session)

    def _next_of(self, session: str) -> None:
        """Hand on the next call of a session; when no session has any more, the round is over."""
        lane = self._lanes.get(session)
        if lane and not self._closed:
            self._take(lane[0], partial(self._ended, session, lane[0]))
            return
        self._lanes.pop(session, None)
        if not self._lanes:
            self._elsewhere(partial(self.directory.settle, self._done, self._refused), self._settled)

    def _ended(self, session: str, call: Spooled, error: CosessionError | None) -> None:
        lane = self._lanes[session]
        if error is not None and error.code in PASSING:
            self._held_up = True
            lane.clear()  # what comes behind it waits with it
        else:
            lane.popleft()
            if error is None:
                self._done.append(call.name)
                self.stands.taken += 1
                self._metrics.count("spool.taken")
            else:
                aside = Aside(call.name, error.message)
                self._refused.append(aside)
                self._refuse(aside)
        self._next_of(session)

    def _settled(self, wrong: str | Failed) -> None:
        wrong = wrong.why if isinstance(wrong, Failed) else wrong
        if wrong:
            self.stands.error = wrong
        self.stands.waiting -= 0 if wrong else len(self._done) + len(self._refused)
        self.stands.aside += len(self._refused)
        self._over(progress=bool(self._done or self._refused) and not wrong)

    def _over(self, *, progress: bool) -> None:
        """A round has ended: on with the next while there is something to do and it can be done, else later."""
        self._under_way = False
        if self._closed:
            return
        if progress and not self._held_up:
            self._retry_s = RETRY_S
            self.look()
        elif self._held_up or self.stands.error:
            self._deadlines.after("spool", self._retry_s, self.look)
            self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)
        elif self._again:
            self.look()

    def _refuse(self, aside: Aside) -> None:
        self.stands.refused += 1
        self._metrics.count("spool.refused")
        self._tell(aside)
