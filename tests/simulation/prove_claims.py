"""The long form of the claims in the simulation, for `make prove`: seeds in which every client claims, one by one.

Judged are the oracles of claims. What another oracle finds in the same runs is counted beside them, as `others_sum`,
and is the business of test_simulation.py.

Rule: a seed counts when its whole run was judged.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from proof.tally import counting, parser
from simulation.knobs import draw
from simulation.known import new
from simulation.oracles import judge
from simulation.world import run_knobs

ORACLES: Final = frozenset({"exclusive", "tokens", "in time", "fenced", "in line"})


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Run seeds of the simulation in which clients claim, and judge their claims.").parse_args(arguments)
    with counting(given) as tally:
        seed = given.seed
        while not tally.over:
            tally.begun(seed)
            began_s = time.process_time()
            history = run_knobs(draw(seed, claims=True))
            for violation in new(judge(history)):
                if violation.oracle in ORACLES:
                    tally.violation(f"seed {seed}: {violation}")
                else:
                    tally.figure("others_sum", 1)
                    print(f"seed {seed}: {violation}", file=sys.stderr)
            grants = sum(row.outcome.origin.operation == "claim.acquire" for row in history.rows)
            tally.figure("grants_sum", grants)
            tally.figure("seconds_sum", round(time.process_time() - began_s, 3))
            tally.count()
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
