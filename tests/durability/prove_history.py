"""The history checker, for `make prove`: concurrent writers and readers that are killed, on a daemon that is killed.

Each request is recorded with when it was sent and answered, and judged by revision (oracle.py, order.py) and, on
slices, by the independent search (linear.py). Counts requests that were judged.

Rule: what was not judged is not counted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from durability import linear
from durability.journal import Deed
from durability.killloop import Plan, run
from proof.tally import Tally, counting, parser

#: A round is judged in memory.
ROUND_KILLS: Final = 20
UP_S: Final = (0.5, 3.0)
SLICES_MAX: Final = 200
#: More on the way at once than in the kill loop: it is requests that are counted here.
BURST: Final = 24


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Record what concurrent clients see, and judge it.").parse_args(arguments)
    with counting(given) as tally:
        seed = given.seed
        while not tally.over:
            tally.begun(seed)
            _one(tally, seed)
            seed += 1
        return tally.end()


def _one(tally: Tally, seed: int) -> None:
    def search(deeds: list[Deed], unknown: list[Deed]) -> None:
        found = linear.search(deeds, unknown, slices_max=SLICES_MAX, seed=seed)
        for word in found.words:
            tally.violation(f"seed {seed}: no order: {word}")
        tally.figure("searched_slices_sum", found.slices)
        tally.figure("searched_operations_sum", found.operations)
        tally.figure("undecided_slices_sum", found.undecided)

    plan = Plan(
        cycles=ROUND_KILLS,
        seed=seed,
        client_kills=0.8,
        slow_watchers=1,
        window=50_000,
        up_s=UP_S,
        burst=BURST,
        time_s_max=tally.seconds_left,
    )
    report = run(plan, on_round=search)
    for word in report.words:
        tally.violation(f"seed {seed}: {word}")
    tally.figure("clients_killed_sum", report.clients_killed)
    tally.figure("unknown_committed_sum", report.unknown_committed)
    tally.count(report.operations)


if __name__ == "__main__":
    sys.exit(main())
