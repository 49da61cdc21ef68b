"""What a proof and the frame say to each other: the arguments that every proof takes, and the file in which it counts.

    SCRIPT ... --minutes 5 --count 2000 --seed 7 --json FILE

A proof counts its unit until the time is over or `count` is reached (0: no limit), and writes FILE anew as it goes, so
that what was reached stands there also when it is stopped. It ends with 1 when a promise was broken, with 0 else; with
SIGTERM it stops what it started and ends. A proof that cannot be run on this machine says why (`skip`) and counts
nothing: a skipped proof is not a proof.

Rule: what is counted was judged; a violation is never taken back.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, json

WORDS_MAX: Final = 20
WORD_CHARS_MAX: Final = 500
SAVE_EVERY_S: Final = 1.0


class Result(Struct, kw_only=True):
    """What a proof has come to. `words`: the first violations. `next_seed`: where the next run goes on."""

    reached: int = 0
    violations: int = 0
    words: list[str] = []
    skipped: str = ""
    next_seed: int = 0
    #: What was measured besides, see `measured`.
    figures: dict[str, float] = {}


def measured(figures: dict[str, float], name: str, value: float) -> None:
    """Note one more value: of a name that ends in `_max` the largest is kept, of `_sum` the sum, else the last."""
    if name.endswith("_max"):
        value = max(value, figures.get(name, value))
    elif name.endswith("_sum"):
        value += figures.get(name, 0)
    figures[name] = value


class Tally:
    """The counts of one run of a proof, saved as they grow."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._file: Path | None = given.json
        self._count: int = given.count
        self._deadline = time.monotonic() + given.minutes * 60
        self._saved = 0.0
        self.seed: int = given.seed
        self.result = Result(next_seed=given.seed + 1)

    @property
    def seconds_left(self) -> float:
        """How long this proof may still go on."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def left(self) -> int:
        """How many are still to be counted; very many without a limit."""
        return max(0, self._count - self.result.reached) if self._count else 1 << 60

    @property
    def over(self) -> bool:
        """Whether to end: by time, by count, or because a promise was broken."""
        return not self.seconds_left or not self.left or bool(self.result.violations)

    def count(self, more: int = 1) -> None:
        """So many more were tried and judged."""
        self.result.reached += more
        self._save()

    def violation(self, what: str) -> None:
        """A promise was broken."""
        self.result.violations += 1
        if len(self.result.words) < WORDS_MAX:
            self.result.words.append(what[:WORD_CHARS_MAX])
        self._save(now=True)

    def figure(self, name: str, value: float) -> None:
        """What was measured; see `measured`."""
        measured(self.result.figures, name, value)

    def skip(self, why: str) -> None:
        """Nothing can be proved here."""
        self.result.skipped = why[:WORD_CHARS_MAX]
        self._save(now=True)

    def begun(self, seed: int) -> None:
        """This seed has been used: the next run begins behind it."""
        self.result.next_seed = max(self.result.next_seed, seed + 1)

    def end(self) -> int:
        """Write the file for the last time and print it; the exit code."""
        self._save(now=True)
        print(json.format(json.encode(self.result)).decode())
        return 1 if self.result.violations else 0

    def _save(self, *, now: bool = False) -> None:
        if self._file is None or (not now and time.monotonic() - self._saved < SAVE_EVERY_S):
            return
        temporary = self._file.with_suffix(".partial")
        temporary.write_bytes(json.encode(self.result))
        temporary.replace(self._file)
        self._saved = time.monotonic()


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every proof takes; it may add its own."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--minutes", type=float, default=1.0, help="end after so long")
    found.add_argument("--count", type=int, default=0, help="end when so many are judged")
    found.add_argument("--seed", type=int, default=1, help="the first seed")
    found.add_argument("--json", type=Path, help="count in this file")
    return found


@contextlib.contextmanager
def counting(given: argparse.Namespace) -> Iterator[Tally]:
    """A tally whose file is written whatever happens; SIGTERM leaves through every `finally`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tally = Tally(given)
    try:
        yield tally
    finally:
        tally._save(now=True)


def command(script: Path, arguments: Sequence[str], *, python: str = sys.executable) -> list[str]:
    """The command of a script under tests/, and nothing of the working directory on its path."""
    return [python, "-P", os.fspath(script), *arguments]
