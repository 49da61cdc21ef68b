"""The long form of the kill loop, for `make prove`: kills in rounds, each round judged before its kills are counted.

Rule: what was not judged is not counted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from durability.killloop import Plan, run
from proof.tally import counting, parser

ROUND_KILLS: Final = 100


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Kill the daemon with SIGKILL under load, and judge what is left.").parse_args(arguments)
    seed = given.seed
    with counting(given) as tally:
        while not tally.over:
            tally.begun(seed)
            report = run(Plan(cycles=min(ROUND_KILLS, tally.left), seed=seed, time_s_max=tally.seconds_left))
            for word in report.words:
                tally.violation(f"seed {seed}: {word}")
            tally.figure("ready_s_max", report.ready_max_s)
            tally.count(report.cycles)
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
