"""Every system call of an upgrade and of a restore, for `make prove`: killed there, and the store judged after a start.

A seed is a place in all there is to try, in an order that is always the same: the next run goes on behind the last that
was judged, so that all of them are reached over several runs, and then all of them again in another order.

Rule: what was not killed where it should have been is no proof, and is not counted.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import upgrades
from harness import private_home
from process import killing
from process.restoring import killed_restore, restore_points
from proof.tally import counting, parser

#: Kills there; whether it came so far, and what is wrong.
Trial = Callable[[], tuple[bool, list[str]]]


def restored(point: killing.Point) -> tuple[bool, list[str]]:
    """One restore."""
    with private_home() as home:
        try:
            return killed_restore(home, point), []
        except AssertionError as error:
            return True, [str(error)]


def trials() -> list[tuple[str, Trial]]:
    """All there is to try."""
    found: list[tuple[str, Trial]] = [
        (f"restore, {point.call} {point.number}: {point.what}", partial(restored, point)) for point in restore_points()
    ]
    for store in upgrades.OLDER:
        for point in upgrades.migrating_points(store):
            name = f"{store.place.parent.name}/{store.variant}, {point.call} {point.number}: {point.what}"
            found.append((name, partial(upgrades.killed, store, point)))
    return found


def at(found: list[tuple[str, Trial]], seed: int) -> tuple[str, Trial]:
    """What this seed, from 1, stands for."""
    times, place = divmod(seed - 1, len(found))
    return random.Random(times).sample(found, len(found))[place]


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Kill upgrades and restores at every system call, and judge what is left.").parse_args(arguments)
    with counting(given) as tally:
        if reason := killing.missing():
            tally.skip(reason)
            return tally.end()
        found = trials()
        tally.figure("points_max", len(found))
        seed = given.seed
        tally.result.next_seed = seed  # the first may be broken off, and comes again then
        while not tally.over:
            name, trial = at(found, seed)
            is_killed, wrong = trial()
            for word in wrong:
                tally.violation(f"{name}: {word}")
            tally.begun(seed)
            if is_killed:
                tally.count()
            else:
                tally.figure("not_reached_sum", 1)
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
