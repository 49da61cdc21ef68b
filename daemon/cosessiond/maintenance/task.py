"""One act at work: the words and options it was given, the places it works in, and how it says how far it is.

Rule: progress costs nothing to speak of, and is said at most twenty times a second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from cosessiond.clock import Clock, Entropy, SystemClock, SystemEntropy, ulid

_EVERY_S: Final = 0.05


class Act(NamedTuple):
    """One row of the table of acts: what it takes and the function that does it, which returns its result.

    `words`: how few and how many. `options`: each by whether a value follows. `changes`: it works under the lock.
    """

    run: Callable[[Task], dict[str, Any]]
    words: tuple[int, int]
    options: Mapping[str, bool]
    changes: bool


class Task:
    """What an act is given. `state`: the state directory, open as `state_fd`."""

    def __init__(
        self,
        state: Path,
        state_fd: int,
        *,
        words: list[str],
        options: dict[str, str],
        say: Callable[[dict[str, Any]], None] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.state = state
        self.state_fd = state_fd
        self.words = words
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self.entropy: Entropy = entropy or SystemEntropy()
        self._say = say or (lambda _: None)
        self._what = ""
        self._said_s = 0.0

    def given(self, options: dict[str, str]) -> Task:
        """The same for another act that this one calls, with these options."""
        return Task(
            self.state,
            self.state_fd,
            words=[],
            options=options,
            say=self._say,
            clock=self.clock,
            entropy=self.entropy,
        )

    def flag(self, name: str) -> bool:
        """Whether an option was given."""
        return name in self.options

    def new_epoch(self) -> str:
        """An id for an epoch that begins now."""
        return ulid(self.clock, self.entropy)

    def progress(self, what: str, done: int = 0, total: int = 0) -> None:
        """So much of a part of the work is done; `total` 0 when nobody knows. A new part is always said."""
        now = self.clock.monotonic()
        if what == self._what and now - self._said_s < _EVERY_S:
            return
        self._what, self._said_s = what, now
        self._say({"progress": {"what": what, "done": done, "total": total}})


def say(message: dict[str, Any]) -> None:
    """One JSON object as a line on standard output, at once."""
    sys.stdout.write(json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()
