"""Time and randomness, the only module that may ask the system for either.

Rule: everything else receives a `Clock`, an `Entropy` and a `Timers`, so that the core runs under a virtual clock.
Leases and deadlines use `monotonic`; the wall clock is for display and retention only (P8).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, Protocol

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Clock(Protocol):
    """Now, twice."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never steps back."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may step."""
        ...


class Entropy(Protocol):
    """Randomness."""

    def random_bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""
        ...


class TimerHandle(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Forget it; harmless afterwards."""
        ...


class Timers(Protocol):
    """Calls in the future on the loop that owns memory."""

    def call_at(self, when_s: float, action: Callable[[], None]) -> TimerHandle:
        """Call `action` at or after `when_s` on the monotonic clock of the same loop."""
        ...


class SystemClock:
    """The machine's clocks. The monotonic one stands still while the machine sleeps, and so do all leases: holders
    cannot renew in their sleep, and daemon and holders wake up together.
    """

    def monotonic(self) -> float:
        """Seconds since some fixed moment; the same clock as the event loop's."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def pause(seconds: float) -> None:
    """Block this thread; only before the loop runs."""
    time.sleep(seconds)


class SystemEntropy:
    """The kernel's randomness."""

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes of os.urandom."""
        return os.urandom(count)


def ulid(clock: Clock, entropy: Entropy) -> str:
    """A ULID (https://github.com/ulid/spec): 26 characters that sort by wall-clock millisecond."""
    number = (clock.wall_ms() << 80) | int.from_bytes(entropy.random_bytes(10))
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def elapsed_ms(since_s: float, clock: Clock) -> float:
    """Milliseconds from `since_s` (monotonic) to now."""
    return (clock.monotonic() - since_s) * 1000.0


class LoopTimers:
    """`Timers` over an asyncio loop, whose clock is `SystemClock.monotonic`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_at(self, when_s: float, action: Callable[[], None]) -> TimerHandle:
        """See `Timers`."""
        return self._loop.call_at(when_s, action)
