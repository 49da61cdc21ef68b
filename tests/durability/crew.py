"""The writers of one round, as processes: started, killed now and then and replaced, finished, and always swept.

Rule: a successor has the place and the keys of the killed one, and a number of its own, so that no request id is used
twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zygote
from durability import journal
from durability.journal import Deed
from durability.oracle import Found
from harness import Started

FINISH_S: Final = 30.0
_SCRIPT: Final = Path(__file__).resolve().with_name("writer.py")


class Crew:
    """`writers` processes with their journals in `directory`; numbers from `first` on. A context manager."""

    def __init__(self, socket: Path, directory: Path, *, writers: int, first: int, seed: int, burst: int) -> None:
        self._socket = socket
        self._directory = directory
        self._writers = writers
        self._given = [str(writers), str(seed), str(burst)]
        self._random = random.Random(f"{seed}/crew/{first}")
        self._next = list(range(first, first + writers))
        self._processes: list[Started] = []
        self._numbers: list[int] = []
        self.killed = 0
        self.board = journal.Board(directory / "board", writers)

    @property
    def next_number(self) -> int:
        """The first number that is free when this crew has ended."""
        return max(self._numbers) + self._writers - max(self._numbers) % self._writers

    def __enter__(self) -> Self:
        self._processes = [self._start(slot) for slot in range(self._writers)]
        return self

    def kill_one(self) -> None:
        """SIGKILL for one of them, in the middle of what it does; another takes its place."""
        slot = self._random.randrange(self._writers)
        self._processes[slot].kill()
        self._processes[slot].wait()
        self.killed += 1
        self._processes[slot] = self._start(slot)

    def finish(self, found: Found) -> None:
        """Let each finish what is in doubt; who does not, or ends otherwise, is a violation."""
        for process in self._processes:
            process.terminate()
        for slot, process in enumerate(self._processes):
            try:
                code = process.wait(FINISH_S)
            except subprocess.TimeoutExpired:
                found.add("writer", f"the writer of place {slot} did not come to an end within {FINISH_S:g} s")
            else:
                if code and not (code == -signal.SIGTERM and not self._began(slot)):
                    said = (self._directory / f"{slot}.stderr").read_text(errors="replace")[-500:]
                    found.add("writer", f"the writer of place {slot} ended with {code}: {said}")

    def deeds(self) -> tuple[list[Deed], list[Deed]]:
        """What all of them did, and what those that were killed never learned the end of."""
        ended: list[Deed] = []
        open_: list[Deed] = []
        for number in self._numbers:
            one = journal.read(self._directory / f"{number}.journal")
            ended += one[0]
            open_ += one[1]
        return ended, open_

    def _began(self, slot: int) -> bool:
        """Whether who has this place now has written anything yet; a successor may be asked to end while it loads."""
        path = self._directory / f"{self._next[slot] - self._writers}.journal"
        return path.exists() and path.stat().st_size > 0

    def _start(self, slot: int) -> Started:
        number = self._next[slot]
        self._next[slot] += self._writers
        self._numbers.append(number)
        words = [str(self._socket), str(self._directory), str(number), *self._given]
        with (self._directory / f"{slot}.stderr").open("wb") as stderr:
            if zygote.available():
                return zygote.start("durability.writer", words, env=os.environ, out=stderr)
            command = [sys.executable, str(_SCRIPT), *words]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.board.close()
