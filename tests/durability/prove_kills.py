"""The long form of the kill loop, for `make prove`: kills in rounds, each round judged before its kills are counted.

One state directory goes on through all rounds of a run, trimmed as it goes, with writers killed now and then,
watchers that lag, and backups made one after another.

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
#: Of one state directory; by then it has been trimmed many times.
DIRECTORY_KILLS: Final = 500
WINDOW: Final = 10_000


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Kill the daemon with SIGKILL under load, and judge what is left.").parse_args(arguments)
    seed = given.seed
    with counting(given) as tally:
        while not tally.over:
            tally.begun(seed)
            plan = Plan(
                cycles=min(DIRECTORY_KILLS, tally.left),
                round_cycles=ROUND_KILLS,
                seed=seed,
                client_kills=0.2,
                slow_watchers=2,
                backups=True,
                window=WINDOW,
                time_s_max=tally.seconds_left,
            )
            report = run(plan)
            for word in report.words:
                tally.violation(f"seed {seed}: {word}")
            tally.figure("ready_s_max", report.ready_max_s)
            for name in (
                "acknowledged",
                "clients_killed",
                "unknown_committed",
                "killed_early",
                "watch_resumed",
                "backups",
            ):
                tally.figure(f"{name}_sum", getattr(report, name))
            tally.count(report.cycles)
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
