"""Tails: connections that look at the traffic of others, each with a bounded buffer of frames.

A frame is kept as the bytes it was; what it says is found out when its tail asks, within the time of its own
connection. Who does not ask loses frames, then its connection; nobody else waits for a tail or notices it.

Rule: while nobody tails nothing is observed. Of what passes nothing is changed, delayed or kept twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from cosession.callids import CallId
from cosession.errors import CosessionError, Overloaded
from cosession.messages.debug import Frame
from cosession.messages.limits import (
    TAIL_BYTES_MAX,
    TAIL_FRAME_BYTES_MAX,
    TAIL_FRAMES_MAX,
    TAIL_IDLE_S,
    TAIL_PAGE_BYTES,
    TAILS_MAX,
)
from cosession.wire import Codec
from cosessiond.clock import Clock
from cosessiond.metrics import Metrics
from cosessiond.server import showing
from cosessiond.store.leases import Deadlines

#: A tail that waits is answered this long after something has passed, and after its last answer: so one answer brings
#: what belongs together, and decoding for it takes a bounded part of the loop (256 frames of about 20 us: a sixth).
GATHER_S: Final = 0.03
#: Calls without an answer yet that a tail remembers the methods of; of older ones the answer has none.
CALLS_KEPT: Final = 4_096
#: Shown whatever the methods asked for: nobody knows what they belong to.
_ALWAYS: Final = ("goodbye", "unreadable")


class Observed(Protocol):
    """A connection as a tail sees it (`conversation.Conversation`)."""

    number: int

    @property
    def pid(self) -> int:
        """Of the process at the other end, 0 when it is not known."""
        ...

    @property
    def codec(self) -> Codec | None:
        """Its encoding, once it has said something."""
        ...

    def observe(self, *, observed: bool) -> None:
        """Tell of every frame from now on, or no longer."""
        ...

    def refuse(self, error: CosessionError) -> None:
        """Say why and close."""
        ...


class Filter(Struct, frozen=True):
    """What a tail looks at; 0 and "" are everything."""

    client: int = 0
    pid: int = 0
    methods: str = ""
    values: bool = False


class _Seen(Struct, frozen=True, gc=False):
    """One frame that passed."""

    number: int
    wall_ms: int
    passed_s: float
    client: int
    pid: int
    codec: Codec
    is_ours: bool
    frame: bytes
    size: int


class Tail:
    """One tail: what it looks at, and the frames it has not asked for yet."""

    def __init__(self, filter: Filter) -> None:  # noqa: A002 (what it is)
        self.filter = filter
        self.lost = 0
        self.answered_s = 0.0
        self.wake: Callable[[], None] | None = None  # of the call that waits
        self._seen: deque[_Seen] = deque()
        self._bytes = 0
        self._number = 0
        self._calls: dict[tuple[int, CallId], tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def kept_bytes(self) -> int:
        """What it holds."""
        return self._bytes

    def add(self, who: Observed, codec: Codec, frame: bytes, *, is_ours: bool, wall_ms: int, now_s: float) -> None:
        """A frame passed; the oldest ones make room for it."""
        size = len(frame)
        if size > TAIL_FRAME_BYTES_MAX:
            frame = b""
        self._number += 1
        self._seen.append(_Seen(self._number, wall_ms, now_s, who.number, who.pid, codec, is_ours, frame, size))
        self._bytes += len(frame)
        while len(self._seen) > TAIL_FRAMES_MAX or self._bytes > TAIL_BYTES_MAX:
            self._bytes -= len(self._seen.popleft().frame)
            self.lost += 1

    def take(self, frames_max: int) -> list[Frame]:
        """What has passed, decoded: at most so many frames, and of so many bytes that it takes no long time."""
        found: list[Frame] = []
        left = TAIL_PAGE_BYTES
        while self._seen and len(found) < frames_max and left > 0:
            seen = self._seen.popleft()
            self._bytes -= len(seen.frame)
            left -= len(seen.frame)
            frame = self._frame(seen)
            if frame.left_out or frame.method.startswith(self.filter.methods) or frame.kind in _ALWAYS:
                found.append(frame)
        return found

    def take_lost(self) -> int:
        """How many had no place since this was asked last."""
        lost, self.lost = self.lost, 0
        return lost

    def _frame(self, seen: _Seen) -> Frame:
        said = _said(seen)
        method, took_ms = said.method, 0.0
        call = (seen.client, said.id)
        if said.kind == "call" and seen.frame:
            self._calls[call] = (method, seen.passed_s)
            if len(self._calls) > CALLS_KEPT:
                del self._calls[next(iter(self._calls))]
        elif said.kind in ("reply", "error") and call in self._calls:
            method, called_s = self._calls.pop(call)
            took_ms = round((seen.passed_s - called_s) * 1000, 3)
        return Frame(
            number=seen.number,
            time=seen.wall_ms / 1000,
            client=seen.client,
            pid=seen.pid,
            encoding=seen.codec.name,
            by="daemon" if seen.is_ours else "client",
            kind=said.kind,  # type: ignore[arg-type]  # of the same closed list
            id=said.id,
            method=method,
            size=seen.size,
            took_ms=took_ms,
            body=showing.hidden(said.body, values=self.filter.values) if seen.frame else None,
            left_out=not seen.frame,
        )


def _said(seen: _Seen) -> showing.Said:
    if not seen.frame:
        return showing.Said("reply" if seen.is_ours else "call", None, "", None)
    return (showing.said_by_daemon if seen.is_ours else showing.said_by_client)(seen.codec, seen.frame)


class Tails:
    """All tails of a daemon. `everybody` are the connections there are."""

    def __init__(
        self, clock: Clock, deadlines: Deadlines, metrics: Metrics, *, everybody: Callable[[], list[Any]]
    ) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._metrics = metrics
        self._everybody = everybody
        self._tails: dict[Observed, Tail] = {}

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def kept_bytes(self) -> int:
        """What all of them hold."""
        return sum(tail.kept_bytes for tail in self._tails.values())

    def of(self, who: Observed) -> Tail | None:
        """The tail of a connection."""
        return self._tails.get(who)

    def open(self, who: Observed, filter: Filter) -> Tail:  # noqa: A002 (what it is)
        """A tail from now on, instead of the one it may have had. Raises Overloaded."""
        self.left(who)
        if len(self._tails) >= TAILS_MAX:
            self._metrics.hit("tails")
            raise Overloaded(f"cannot tail: {TAILS_MAX} connections do so already; end one of them")
        tail = self._tails[who] = Tail(filter)
        self._metrics.level("tails", len(self._tails), TAILS_MAX)
        for each in self._everybody():
            each.observe(observed=each not in self._tails)
        return tail

    def asked(self, who: Observed) -> None:
        """A connection has asked, and has time again until it must."""
        self._deadlines.after(("tail", who), TAIL_IDLE_S, lambda: self._cut(who))

    def wait(self, who: Observed, wake: Callable[[], None], until_s: float) -> None:
        """Call `wake` when something has passed, or at `until_s`; who waits is not idle."""
        tail = self._tails[who]
        tail.wake = wake
        self._deadlines.cancel(("tail", who))
        at_s = min(until_s, tail.answered_s + GATHER_S) if len(tail) else until_s
        self._deadlines.set(("tail answer", who), at_s, lambda: self.woken(who))

    def woken(self, who: Observed) -> None:
        """Whoever waits there is answered now."""
        self._deadlines.cancel(("tail answer", who))
        tail = self._tails.get(who)
        if tail is not None and tail.wake is not None:
            wake, tail.wake = tail.wake, None
            tail.answered_s = self._clock.monotonic()
            wake()

    def left(self, who: Observed) -> None:
        """A connection is gone, and its tail with it."""
        if self._tails.pop(who, None) is None:
            return
        self._deadlines.cancel(("tail", who))
        self._deadlines.cancel(("tail answer", who))
        for each in self._everybody():
            each.observe(observed=bool(self._tails) and each not in self._tails)

    def drain(self) -> None:
        """The daemon is going: nobody waits any longer."""
        for who in list(self._tails):
            self.woken(who)

    def passed(self, who: Observed, frame: bytes, *, is_ours: bool) -> None:
        """A connection has read or queued a frame."""
        codec = who.codec
        if codec is None:
            return
        now_s = self._clock.monotonic()
        for other, tail in self._tails.items():
            wanted = tail.filter
            if (wanted.client and wanted.client != who.number) or (wanted.pid and wanted.pid != who.pid):
                continue
            tail.add(who, codec, frame, is_ours=is_ours, wall_ms=self._clock.wall_ms(), now_s=now_s)
            if tail.wake is not None and len(tail) == 1:
                self._deadlines.after(("tail answer", other), GATHER_S, lambda who=other: self.woken(who))  # type: ignore[misc]

    def _cut(self, who: Observed) -> None:
        self._metrics.count("tails.cut")
        self.left(who)
        who.refuse(Overloaded(f"cannot go on: this tail was not asked for {TAIL_IDLE_S} s; connect again and read on"))
