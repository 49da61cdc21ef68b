"""The power-loss explorer, for `make prove`: of each seed one recording of a daemon, and the states it could leave.

Rule: what was not judged is not counted; a violation says the seed, the moment and what was known.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from durability.traced import STRACE
from harness import private_home
from power.explorer import Explorer
from power.recording import Plan, record
from proof.tally import counting, parser

#: Of one recording.
STATES: Final = 10_000
#: One state in so many is also opened by a real daemon.
SERVED_IN: Final = 500


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    options = parser("Open every state that a power cut could leave, and judge what is recovered.")
    options.add_argument("--bug", default="none", help="record a daemon with this seeded bug, see serving.py")
    given = options.parse_args(arguments)
    began, seed = time.monotonic(), given.seed
    figures: dict[str, float] = dict.fromkeys(("recordings", "moments", "served"), 0)
    with counting(given) as tally:
        if STRACE is None:
            tally.skip("strace is not installed")
        while STRACE is not None and not tally.over:
            tally.begun(seed)
            with private_home() as home:
                explorer = Explorer(record(Plan(seed=seed, bug=given.bug, acts=True), home), seed)
            for wrong in explorer.explore(STATES, served_in=SERVED_IN):
                tally.count()
                for word in wrong:
                    tally.violation(word)
                if tally.over:
                    break
            seed += 1
            for name, more in (("recordings", 1), ("moments", explorer.moments), ("served", explorer.served)):
                figures[name] += more
                tally.figure(name, figures[name])
            tally.figure("states_per_s", tally.result.reached / (time.monotonic() - began))
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
