"""Run many seeds, or look at one: `python tests/simulation/run.py --seeds 10000 --start 0`, `--seed 17`.

For a seed that fails it prints what is wrong, the smallest run that still fails, and that run's trace. Rule: exits
with 1 when anything failed that is not in `known`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simulation.history import History
from simulation.knobs import Knobs, draw
from simulation.known import new
from simulation.oracles import Violation, judge
from simulation.seeded import BUGS, Bug
from simulation.shrink import shrink
from simulation.world import run_knobs

LINES_MAX: Final = 400
EVERY_S: Final = 5.0


@dataclass(frozen=True)
class Asked:
    """What every run has in common: the engine, and a seeded bug by its name."""

    engine: str
    bug: str = ""

    def knobs(self, seed: int) -> Knobs:
        """Of a seed."""
        return draw(seed, **({"engine": self.engine} | (self._bug.knobs if self.bug else {})))

    def run(self, knobs: Knobs, lines: list[str] | None = None) -> History:
        """One run."""
        return run_knobs(knobs, seed_bug=self._bug.in_daemon, wrap=self._bug.in_engine, lines=lines)

    @property
    def _bug(self) -> Bug:
        return next((bug for bug in BUGS if bug.name == self.bug), Bug("none", frozenset()))


def one(asked: Asked, seed: int) -> tuple[int, int, list[Violation]]:
    """A seed: its number, its steps and what is new about it."""
    history = asked.run(asked.knobs(seed))
    return seed, history.steps, new(judge(history))


def show(asked: Asked, seed: int, *, raw: bool) -> bool:
    """Explain one seed; True when it fails."""
    knobs = asked.knobs(seed)
    found = new(judge(asked.run(knobs)))
    if not found:
        print(f"seed {seed}: clean ({knobs.changed()})")
        return False
    print(f"seed {seed} fails:")
    for violation in found:
        print(f"  {violation}")
    oracle = found[0].oracle
    smallest = knobs if raw else shrink(knobs, lambda each: _fails(asked, each, oracle))
    lines: list[str] = []
    history = asked.run(smallest, lines)
    told = [line for line in lines if raw or not _is_noise(line)]
    print(f"smallest run: {smallest.changed()}")
    for violation in new(judge(history)):
        print(f"  {violation}")
    print(f"its trace ({len(told)} lines{'' if raw else ', bytes on the wire left out'}):")
    for line in told if raw else told[:LINES_MAX]:
        print(f"  {line}")
    if len(told) > LINES_MAX and not raw:
        print(f"  ... {len(told) - LINES_MAX} more; --raw shows all")
    return True


def _fails(asked: Asked, knobs: Knobs, oracle: str) -> bool:
    return any(violation.oracle == oracle for violation in new(judge(asked.run(knobs))))


def _is_noise(line: str) -> bool:
    words = line.split(" ", 3)
    return len(words) > 2 and words[1] == "link" and (" up " in line or " down " in line)


def many(asked: Asked, start: int, seeds: int, jobs: int) -> list[int]:
    """Run seeds with a line of progress now and then; the failing ones."""
    began_s = told_s = time.monotonic()
    failed: list[int] = []
    steps = done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for seed, count, found in pool.map(partial(one, asked), range(start, start + seeds), chunksize=8):
            steps += count
            done += 1
            if found:
                failed.append(seed)
                print(f"seed {seed}: {found[0]}", flush=True)
            if time.monotonic() - told_s > EVERY_S or done == seeds:
                told_s = time.monotonic()
                rate = done / max(told_s - began_s, 1e-9)
                line = f"{done}/{seeds} seeds, {steps} steps, {len(failed)} failed, {rate:.1f} seeds/s"
                print(line, file=sys.stderr, flush=True)
    return failed


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="explain this one")
    parser.add_argument("--engine", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--raw", action="store_true", help="with --seed: the whole trace, nothing made smaller")
    parser.add_argument("--digests", action="store_true", help="print seed and digest of each, and judge nothing")
    parser.add_argument("--bug", choices=[bug.name for bug in BUGS], default="", help="with this bug seeded")
    given = parser.parse_args()
    asked = Asked(given.engine, given.bug)
    if given.seed is not None:
        return int(show(asked, given.seed, raw=given.raw))
    if given.digests:
        for seed in range(given.start, given.start + given.seeds):
            print(seed, asked.run(asked.knobs(seed)).digest)
        return 0
    failed = many(asked, given.start, given.seeds, given.jobs)
    if failed:
        show(asked, failed[0], raw=given.raw)
        print(f"failed: {' '.join(map(str, failed[:50]))}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
