"""The long form of `backupkill`, for `make prove`: kills while backups are made, none of which may be published wrong.

Rule: as many are counted as the phase was hit that was hit least, times the number of phases: a proof that never hits
one of them reaches nothing.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from durability.backupkill import PHASES, Loop
from harness import private_home
from proof.tally import counting, parser

#: Of one state directory.
DIRECTORY_KILLS: Final = 60


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Kill the daemon with SIGKILL while it makes backups, and judge what is left.").parse_args(arguments)
    hits = dict.fromkeys(PHASES, 0)
    with counting(given) as tally:
        seed = given.seed
        while not tally.over:
            tally.begun(seed)
            with private_home() as home, closing(Loop(home, seed)) as loop:
                while not tally.over and loop.found.cycles < DIRECTORY_KILLS:
                    before = dict(loop.found.hits), loop.found.published
                    loop.cycle()
                    for word in loop.found.wrong:
                        tally.violation(f"seed {seed}: {word}")
                    for phase in PHASES:
                        more = loop.found.hits[phase] - before[0][phase]
                        hits[phase] += more
                        tally.figure(f"{phase}_sum", more)
                    tally.figure("published_sum", loop.found.published - before[1])
                    tally.count(len(PHASES) * min(hits.values()) - tally.result.reached)
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
