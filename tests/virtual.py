"""A virtual world for deterministic tests: one clock, one loop, one seed.

What runs in it takes `clock` (`cosessiond.clock.Clock`), `entropy` (`Entropy`) and the world itself as `Timers`. Time
stands still while callbacks run and moves only in `advance`. Callbacks that are ready at the same moment run in an
order drawn from the seed, except that those of one lane keep theirs: a lane is whatever delivers in order, like one
connection or one thread. The same seed gives the same run, which `digest` tells in one number.

Rule: nothing here looks at the machine: no time, no threads, no I/O, and no order that depends on hashing.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from hashlib import blake2b
from itertools import count
from random import Random

Action = Callable[[], None]

#: A run that is not idle after so many callbacks goes round in circles.
STEPS_MAX = 100_000


class VirtualClock:
    """`cosessiond.clock.Clock`, moved by hand."""

    def __init__(self, *, monotonic_s: float = 1_000.0, wall_ms: int = 1_800_000_000_000) -> None:
        self._now_s = monotonic_s
        self._wall_ms = float(wall_ms)

    def monotonic(self) -> float:
        """Seconds; never steps back."""
        return self._now_s

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._wall_ms)

    def move_to(self, when_s: float) -> None:
        """Let both clocks go on until the monotonic one shows `when_s`."""
        assert when_s >= self._now_s, "time does not go back"
        self._wall_ms += (when_s - self._now_s) * 1000.0
        self._now_s = when_s

    def step_wall(self, by_ms: float) -> None:
        """Set the wall clock, as a user or NTP does; the monotonic one does not notice."""
        self._wall_ms += by_ms


class VirtualEntropy:
    """`cosessiond.clock.Entropy`, the same for the same seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes."""
        return self._random.randbytes(count)


class Timer:
    """A pending call; `cosessiond.clock.TimerHandle`."""

    def __init__(self, when_s: float, action: Action) -> None:
        self.when_s = when_s
        self.action: Action | None = action

    def cancel(self) -> None:
        """Forget it."""
        self.action = None


class World:
    """The loop. `late_s`: timers come up to so much later than asked for, as they may on a busy machine."""

    def __init__(self, seed: int, *, late_s: float = 0.0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.clock = VirtualClock()
        self.entropy = VirtualEntropy(Random(seed ^ 0x5EED))
        self.steps = 0
        self._late_s = late_s
        self._serial = count()
        self._timers: list[tuple[float, int, Timer]] = []
        self._lanes: dict[Hashable, deque[Action]] = {}
        self._digest = blake2b(digest_size=8)

    def call_soon(self, action: Action, *, lane: Hashable = None) -> None:
        """Run `action` in this moment, in any order among what is ready, but after what its lane already holds."""
        key = ("alone", next(self._serial)) if lane is None else ("lane", lane)
        self._lanes.setdefault(key, deque()).append(action)

    def call_at(self, when_s: float, action: Action) -> Timer:
        """Run `action` at `when_s` or up to `late_s` later; see `cosessiond.clock.Timers`."""
        late_s = self.random.uniform(0.0, self._late_s) if self._late_s else 0.0
        timer = Timer(when_s + late_s, action)
        heapq.heappush(self._timers, (timer.when_s, next(self._serial), timer))
        return timer

    def call_after(self, delay_s: float, action: Action) -> Timer:
        """`call_at` relative to now."""
        return self.call_at(self.clock.monotonic() + delay_s, action)

    def run_until_idle(self, steps_max: int = STEPS_MAX) -> int:
        """Run everything that is ready, and what becomes ready by it; returns how many callbacks ran.

        Time does not move. Raises AssertionError when it does not come to an end.
        """
        ran = 0
        self._wake()
        while self._lanes:
            assert ran < steps_max, f"not idle after {steps_max} callbacks (seed {self.seed})"
            choice = self.random.randrange(len(self._lanes))
            key = list(self._lanes)[choice]
            lane = self._lanes[key]
            action = lane.popleft()
            if not lane:
                del self._lanes[key]
            self._digest.update(f"{self.clock.monotonic()!r} {choice};".encode())
            ran += 1
            self.steps += 1
            action()
            self._wake()
        return ran

    def advance(self, seconds: float) -> int:
        """Let time pass, running every timer at its moment; returns how many callbacks ran."""
        assert seconds >= 0
        end_s = self.clock.monotonic() + seconds
        ran = self.run_until_idle()
        while (when_s := self.next_timer_s()) is not None and when_s <= end_s:
            self.clock.move_to(max(when_s, self.clock.monotonic()))
            ran += self.run_until_idle()
        self.clock.move_to(end_s)
        return ran + self.run_until_idle()

    def next_timer_s(self) -> float | None:
        """When the earliest timer is due, None without any."""
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    @property
    def digest(self) -> str:
        """What was chosen when, so far: equal for equal runs."""
        return self._digest.hexdigest()

    def _wake(self) -> None:
        while (when_s := self.next_timer_s()) is not None and when_s <= self.clock.monotonic():
            _, _, timer = heapq.heappop(self._timers)
            self.call_soon(partial(_run, timer))


def _run(timer: Timer) -> None:
    action, timer.action = timer.action, None
    if action is not None:
        action()
