"""The fault sweep, for `make prove`: SIGKILL, EIO and ENOSPC at each call by which the daemon touches its home.

A course without a fault shows the calls; then each of them fails once, in each way, those of every kind in turns. Each
seed is a part of that order, so that a later run goes on where this one has ended.

Rule: a course whose fault did not come is not counted.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from durability.traced import STRACE
from faults.course import SCENES, Came, Course, Scene
from faults.points import FAULTS, Point
from harness import private_home
from proof.tally import Tally, counting, parser

#: Points of one seed.
PART: Final = 20
AT_ONCE: Final = 2


class Trial(NamedTuple):
    """One point in one scene."""

    scene: Scene
    point: Point


def trials(calls: Sequence[tuple[Scene, str, int]]) -> list[Trial]:
    """Every call in every way, the kinds in turns, so that the rare ones come early; always in the same order."""
    by_kind: defaultdict[tuple[str, str, str], list[Trial]] = defaultdict(list)
    for (scene, call, number), fault in itertools.product(calls, FAULTS):
        by_kind[scene, call, fault].append(Trial(scene, Point(call, number, fault)))
    for kind, each in by_kind.items():
        random.Random(str(kind)).shuffle(each)
    turns = itertools.zip_longest(*(by_kind[kind] for kind in sorted(by_kind)))
    return [trial for turn in turns for trial in turn if trial is not None]


def came_of(trial: Trial) -> Came:
    """Run one trial in a home of its own."""
    with private_home() as home:
        return Course(home, trial.scene, trial.point).run()


def each_came(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Came]]:
    """What comes of each, some at a time: a course waits for the disk most of its time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: deque[tuple[Trial, Future[Came]]] = deque()
        for trial in trials:
            running.append((trial, pool.submit(came_of, trial)))
            if len(running) == AT_ONCE:
                first, came = running.popleft()
                yield first, came.result()
        for trial, came in running:
            yield trial, came.result()


def listing(tally: Tally) -> list[Trial]:
    """The courses in which nothing fails, and what can fail in them."""
    calls: list[tuple[Scene, str, int]] = []
    for scene in SCENES:
        with private_home() as home:
            came = Course(home, scene, None).run()
        for word in came.wrong:
            tally.violation(f"{scene}, without a fault: {word}")
        calls += [(scene, call, number) for call, number in came.points]
    return trials(calls)


def outcome(came: Came) -> str:
    """What became of it, in a word."""
    if came.end:
        return {-9: "killed", 70: "ended_70", 78: "ended_78"}[came.end]
    return "refused" if came.refused else "went_on"


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Let each call of the daemon fail once, in each way, and judge what becomes of it.").parse_args(
        arguments
    )
    seed = given.seed
    with counting(given) as tally:
        if STRACE is None:
            tally.skip("strace is not installed")
            return tally.end()
        order = listing(tally)
        tally.figure("points_in_all", len(order))
        figures: defaultdict[str, int] = defaultdict(int)
        while not tally.over:
            tally.begun(seed)
            at = (seed - 1) * PART % len(order)
            for trial, came in each_came(order[at : at + PART]):
                for word in came.wrong:
                    tally.violation(f"{trial.scene}, {trial.point}: {word}")
                name = outcome(came) if came.injected else "did_not_come"
                figures[name] += 1
                tally.figure(name, figures[name])
                if came.injected:
                    tally.count()
                if tally.over:
                    break
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
