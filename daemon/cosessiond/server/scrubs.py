"""When the scrub goes through the store: `[store] scrub_interval_s` after the last time, the first time ten minutes
after the start, or when it is asked.

A pass is a slice at a time, with a pause behind each that is longer while somebody writes. It finds what no read has
met: damage in old versions, in the log, in what is kept beside it.

Rule: one pass at a time; whoever asks for another waits for the one under way. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cosession.config import Config
from cosession.errors import CosessionError, Overloaded
from cosessiond.clock import Clock
from cosessiond.process.configuration import Configuration
from cosessiond.server.damage import Damage
from cosessiond.store.engine import Scrubbed
from cosessiond.store.leases import Deadlines
from cosessiond.store.revisions import Store

FIRST_S: Final = 600.0
PAUSE_S: Final = 0.005
#: While there are writes, or reads of the past that wait.
BUSY_PAUSE_S: Final = 0.05
SLICE_ROWS: Final = 256
_BEGIN: Final = Scrubbed("log", 0, ("", "", ""), 0, ())


class Scrubs:
    """The passes of one daemon. `time_s` and `rows` are of the last one that came to its end (0: none yet)."""

    def __init__(
        self, store: Store, damage: Damage, deadlines: Deadlines, clock: Clock, configuration: Configuration
    ) -> None:
        self._store = store
        self._damage = damage
        self._deadlines = deadlines
        self._clock = clock
        self._interval_s = configuration.in_force.store.scrub_interval_s
        self._is_on = False
        configuration.listeners.append(self._configure)
        self._at: Scrubbed | None = None  # None: no pass is under way
        self._rows = 0
        self._wrong = 0
        self._waiting: list[Callable[[int, int], None]] = []
        self.time_s = 0.0
        self.rows = 0

    def begin(self) -> None:
        """Go by the clock from now on."""
        self._is_on = True
        self._wait(FIRST_S)

    def ask(self, done: Callable[[int, int], None]) -> None:
        """A whole pass; `done` gets how many rows were looked at and how much was damaged."""
        self._waiting.append(done)
        if self._at is None:
            self._start()

    def _configure(self, config: Config) -> None:
        interval_s, self._interval_s = self._interval_s, config.store.scrub_interval_s
        if self._is_on and self._at is None and self._interval_s != interval_s:
            self._wait(self._interval_s if self.time_s else FIRST_S)

    def _wait(self, delay_s: float) -> None:
        """For the next pass by the clock, at most as long as is configured."""
        if self._interval_s:
            self._deadlines.after("scrub", min(delay_s, self._interval_s), self._start)
        else:
            self._deadlines.cancel("scrub")

    def _start(self) -> None:
        if self._at is None:
            self._at, self._rows, self._wrong = _BEGIN, 0, 0
            self._slice()

    def _slice(self) -> None:
        at = self._at
        assert at is not None, "a pass is under way"
        try:
            self._store.run(lambda engine: engine.scrub(at, SLICE_ROWS), self._done)
        except Overloaded:
            self._deadlines.after("scrub", BUSY_PAUSE_S, self._slice)

    def _done(self, found: Scrubbed | CosessionError) -> None:
        if isinstance(found, CosessionError):  # a bug of ours, which was told: no use in going on
            found = Scrubbed("", 0, ("", "", ""), 0, ())
        self._rows += found.rows
        self._wrong += len(found.wrong)
        for what in found.wrong:
            self._damage.met("scrub", what)
        self._at = found if found.table else None
        if self._at is not None:
            self._deadlines.after("scrub", BUSY_PAUSE_S if self._store.queued else PAUSE_S, self._slice)
            return
        self.time_s, self.rows = self._clock.wall_ms() / 1000, self._rows
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(self._rows, self._wrong)
        self._wait(self._interval_s)
