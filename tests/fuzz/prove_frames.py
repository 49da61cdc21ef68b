"""The protocol fuzz on the live socket, for `make prove`: counts frames that were answered or cut.

Rule: one daemon takes a whole run, so that what leaks has time to.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.live import LIMITS, Fuzz
from proof.tally import Tally, counting, parser
from server.daemons import MIB, serving


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Send bad frames to a live daemon.").parse_args(arguments)
    with counting(given) as tally:
        _run(tally)
        return tally.end()


def _run(tally: Tally) -> None:
    with serving(**LIMITS) as daemon:
        fuzz = Fuzz(daemon, tally.seed)
        try:
            while not tally.over and not fuzz.wrong:
                tally.count(fuzz.one())
        finally:
            fuzz.end()
            for wrong in fuzz.wrong:
                tally.violation(f"seed {tally.seed}: {wrong}")
            tally.figure("connections_sum", fuzz.connections)
            tally.figure("memory_grown_mib_max", round(fuzz.grown_max / MIB, 1))
            tally.figure("bystander_served_sum", fuzz.bystander.served)
            tally.figure("bystander_waited_ms_max", round(fuzz.bystander.waited_s_max * 1000, 1))


if __name__ == "__main__":
    sys.exit(main())
