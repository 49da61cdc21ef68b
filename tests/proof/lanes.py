"""The work of `make prove`: which proof runs when and for how long, its seeded bugs before it, and what came of each.

Rule: the ledger is written after every step, so that a run that is stopped anywhere has lost no count.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import DecodeError, json

from proof.children import Child
from proof.ledger import Ledger
from proof.place import HERE, Place
from proof.table import Proof
from proof.tally import Result, command

#: A proof judges what it has gathered when its time is over.
JUDGING_S: Final = 300.0
#: What was begun of the seeded bugs is ended, however little time is left: half a look at them says nothing.
SEEDED_S: Final = 1200.0
REPORT_EVERY_S: Final = 10.0
POLL_S: Final = 0.1
#: Less is not worth a start.
RUN_S_MIN: Final = 3.0


class Work:
    """One run over some proofs, by several threads that each wait for one child at a time."""

    def __init__(self, ledger: Ledger, directory: Path, *, deadline: float, place: Place = HERE) -> None:
        self._ledger = ledger
        self._place = place
        self._directory = directory
        self._deadline = deadline
        self._lock = threading.Lock()  # over the ledger and what runs
        self._waiting: list[Proof] = []
        self._reserved = 0.0
        self._running: dict[str, tuple[Proof, Child, Path | None]] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = False

    # -- lanes -----------------------------------------------------------------------------------------------------

    def run(self, proofs: Sequence[Proof], *, lanes: int, reserved: float = 0.0) -> None:
        """Run them all, at most `lanes` at once; `reserved` is the share of those that come afterwards, one by one."""
        if not proofs:
            return
        self._waiting = list(proofs)
        self._reserved = reserved
        lanes = min(lanes, len(proofs))
        self._threads = [threading.Thread(target=self._lane, args=(lanes,), daemon=True) for _ in range(lanes)]
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():  # in small steps, so that Ctrl-C is heard
                thread.join(POLL_S)

    def stop(self) -> None:
        """End everything that runs, and wait until it has ended."""
        self._stopping = True
        with self._lock:
            children = [child for _, child, _ in self._running.values()]
        for child in children:
            child.end()
        for thread in self._threads:
            thread.join()  # what was counted up to here goes into the ledger

    def _lane(self, lanes: int) -> None:
        while not self._stopping:
            with self._lock:
                if not self._waiting:
                    return
                proof = self._waiting.pop(0)
            if time.monotonic() >= self._deadline:
                return
            if self._ledger.of(proof.name).seeded != "caught":
                self._seeded(proof)
            with self._lock:
                waiting = sum(each.share for each in self._waiting)
            left_s = self._deadline - time.monotonic()
            mine = proof.share / (proof.share + waiting / lanes + self._reserved)
            if left_s * mine >= RUN_S_MIN and not self._stopping:
                self._prove(proof, left_s * mine)

    # -- one proof -------------------------------------------------------------------------------------------------

    def _seeded(self, proof: Proof) -> None:
        """Whether the tests that put the seeded bugs before this proof pass."""
        arguments = ["-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header"]
        arguments += [str(self._place.tests / each) if ".py" in each else each for each in proof.seeded]
        log = self._directory / f"{proof.name}.seeded.log"
        child = self._child(f"{proof.name} (seeded bugs)", proof, [self._place.python, "-P", *arguments], log, None)
        code = child.wait(max(SEEDED_S, self._deadline - time.monotonic()))
        text = child.tail()
        self._ended(f"{proof.name} (seeded bugs)", child)
        if self._stopping:
            return
        with self._lock:
            standing = self._ledger.of(proof.name)
            last = text.splitlines()[-1] if text else ""
            caught = code == 0 and re.search(r"\d+ passed", last) and "skipped" not in last
            standing.seeded = "caught" if caught else "missed"
            standing.seeded_words = "" if caught else text
            self._ledger.save(self._directory)

    def _prove(self, proof: Proof, seconds: float) -> None:
        standing = self._ledger.of(proof.name)
        result = standing.result
        count = max(1, proof.goal - result.reached)
        file = self._directory / f"{proof.name}.json"
        file.unlink(missing_ok=True)
        seed = max(1, result.next_seed)
        given = [f"--minutes={seconds / 60:.3f}", f"--count={count}", f"--seed={seed}", f"--json={file}"]
        began = time.monotonic()
        script, *own = proof.command
        words = command(self._place.tests / script, [*own, *given], python=self._place.python)
        child = self._child(proof.name, proof, words, self._directory / f"{proof.name}.log", file)
        code = child.wait(seconds + JUDGING_S)
        left = self._ended(proof.name, child)
        with self._lock:
            run = told(file)
            broken = ""
            if not self._stopping:
                if code is None:
                    broken = f"it did not end within {JUDGING_S:g} s of its time"
                elif run is None or code != bool(run.violations):
                    broken = f"it ended with {code}: {child.tail()}"
                elif left:
                    broken = f"it left behind: {'; '.join(left)}"
            standing.broken = broken
            standing.add(run or Result(next_seed=seed), time.monotonic() - began)
            self._ledger.save(self._directory)

    # -- children --------------------------------------------------------------------------------------------------

    def _child(self, name: str, proof: Proof, words: list[str], log: Path, file: Path | None) -> Child:
        with self._lock:
            child = Child(words, log=log, cwd=self._place.root)
            self._running[name] = (proof, child, file)
        return child

    def _ended(self, name: str, child: Child) -> list[str]:
        left = child.end()
        with self._lock:
            self._running.pop(name, None)
        return left

    def line(self) -> str:
        """Where everything that runs has come to, and its goal."""
        with self._lock:
            running = list(self._running.items())
        parts = []
        for name, (proof, _, file) in running:
            if file is None:
                parts.append(name)
                continue
            run = told(file)
            reached = self._ledger.of(proof.name).result.reached + (run.reached if run else 0)
            parts.append(f"{name} {reached:,}/{proof.goal:,} {proof.unit}")
        left_s = max(0, int(self._deadline - time.monotonic()))
        return f"{left_s // 60:3}:{left_s % 60:02} left  " + "  |  ".join(parts)


def told(file: Path) -> Result | None:
    """What a proof has counted so far, None when it has said nothing that can be read."""
    try:
        return json.decode(file.read_bytes(), type=Result)
    except (FileNotFoundError, DecodeError):
        return None


def report(work: Work, over: threading.Event) -> None:
    """A line of progress now and then, until `over`."""
    live = sys.stderr.isatty()
    while not over.wait(1.0 if live else REPORT_EVERY_S):
        end = "\x1b[K\r" if live else "\n"
        print(work.line(), end=end, file=sys.stderr, flush=True)
    if live:
        print("\x1b[K", end="", file=sys.stderr, flush=True)
