"""Where the time of a request went: its stages, for those who ask why it was slow.

Rule: bounded in number and in time; while nobody asks a request costs one look at a flag. Nothing of what a request is
about is kept, but its method and session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from cosession.messages.debug import Trace
from cosession.messages.limits import TRACES_MAX
from cosessiond.clock import Clock
from cosessiond.store.leases import Deadlines
from cosessiond.store.tickets import Took

#: Those of one connection that traces itself.
MINE_MAX: Final = 64

#: Hears of every traced request; what the log does with it.
Tell = Callable[[Trace], None]


class Tracing:
    """One request on its way: moments by the monotonic clock."""

    __slots__ = ("answered_s", "arrived_s", "began_s", "client", "code", "decided_s", "method", "session", "took")

    def __init__(self, client: int, method: str, *, arrived_s: float, began_s: float) -> None:
        self.client = client
        self.method = method
        self.session = ""
        self.code = ""
        self.arrived_s = min(arrived_s, began_s)
        self.began_s = began_s
        self.decided_s = began_s
        self.answered_s = 0.0
        self.took: Took | None = None

    def explained(self, sent_s: float, wall_ms: int, unsent_bytes: int) -> Trace:
        """What is known once the answer was sent."""
        took, answered_s = self.took, self.answered_s
        decided_s = min(self.decided_s, answered_s)  # the handler may have answered itself
        queued_until_s = committed_s = synced_s = answered_s
        if took is not None and took.taken_s >= decided_s:
            queued_until_s = took.taken_s
            committed_s = took.written_s or took.done_s
            synced_s = took.synced_s or took.done_s
        else:
            took = None  # answered while others' batches were published
        work = (queued_until_s, committed_s, synced_s)
        stages = (self.arrived_s, self.began_s, decided_s, *work, answered_s, sent_s)
        took_ms = [round(max(0.0, end - begin) * 1000, 3) for begin, end in pairwise(stages)]
        total_ms = (sent_s - self.arrived_s) * 1000
        return Trace(
            client=self.client,
            method=self.method,
            session=self.session,
            code=self.code,
            time=round(wall_ms / 1000 - total_ms / 1000, 6),
            total_ms=round(total_ms, 3),
            wait_ms=took_ms[0],
            decide_ms=took_ms[1],
            queue_ms=took_ms[2],
            commit_ms=took_ms[3],
            fsync_ms=took_ms[4],
            publish_ms=took_ms[5],
            send_ms=took_ms[6],
            group=took.batches if took else 0,
            unsent_bytes=unsent_bytes,
        )


class Tracer:
    """All traced requests of a daemon. `tell` hears of each while it is set."""

    def __init__(self, clock: Clock, deadlines: Deadlines) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._traces: deque[Trace] = deque(maxlen=TRACES_MAX)
        self._is_switched_on = False
        self._tell: Tell | None = None
        self.slow_ms = 0.0
        self.seen = 0
        #: Whether requests of all connections are traced.
        self.is_on = False

    def switch_on(self, *, slow_ms: float, for_s: float) -> None:
        """Trace from now on for so long, and forget what was traced before."""
        self._is_switched_on = self.is_on = True
        self.slow_ms = slow_ms
        self.seen = 0
        self._traces.clear()
        self._deadlines.after("trace", for_s, self.switch_off)

    def switch_off(self) -> None:
        """No longer; what was traced stays."""
        self._is_switched_on = False
        self.is_on = self._tell is not None
        self._deadlines.cancel("trace")

    def tell(self, tell: Tell | None) -> None:
        """Somebody else hears of each request from now on, or nobody."""
        self._tell = tell
        self.is_on = self._is_switched_on or tell is not None

    @property
    def left_s(self) -> float:
        """How long it will go on; 0 when it is off."""
        until_s = self._deadlines.when("trace")
        return max(0.0, until_s - self._clock.monotonic()) if until_s is not None else 0.0

    @property
    def is_switched_on(self) -> bool:
        """Whether somebody asked for it and the time is not over."""
        return self._is_switched_on

    def newest(self, count: int) -> list[Trace]:
        """The newest slow ones, newest first."""
        return [self._traces[-index - 1] for index in range(min(count, len(self._traces)))]

    def sent(self, tracings: list[Tracing], unsent_bytes: int, mine: deque[Trace] | None) -> None:
        """The answers of these requests were sent, of one connection, which may keep its own as well."""
        now_s, wall_ms = self._clock.monotonic(), self._clock.wall_ms()
        for tracing in tracings:
            trace = tracing.explained(now_s, wall_ms, unsent_bytes)
            if mine is not None:
                mine.append(trace)
            if self._is_switched_on:
                self.seen += 1
                if trace.total_ms >= self.slow_ms:
                    self._traces.append(trace)
            if self._tell is not None:
                self._tell(trace)
