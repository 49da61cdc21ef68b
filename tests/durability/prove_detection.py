"""The long form of `detection` and `crowds`, for `make prove`: as often as the time allows, and each form as often.

Rule: as many are counted as the form was judged that was judged least, times the number of forms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cosession
from durability import crowds, detection
from durability.detection import Found
from durability.loop import ScriptedDaemon
from harness import private_home
from proof.tally import Tally, counting, parser

FORMS: Final = ("killed", "zombie", "stopped", "reused")
#: Of each form, before the next form.
ROUND: Final = 20
CROWD: Final = 200
RACES: Final = 100
SESSIONS: Final = 1_000
PROCESSES: Final = 200


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Kill, stop and replace processes of sessions, and judge the verdicts.").parse_args(arguments)
    judged = dict.fromkeys(FORMS, 0)
    took: dict[str, list[float]] = {form: [] for form in FORMS}
    with counting(given) as tally:
        if not Path("/usr/bin/unshare").exists() or not detection.LAST_PID.exists():
            tally.skip("a pid is reused on purpose in a pid namespace of Linux only")
            return tally.end()
        _crowd(tally)
        while not tally.over:
            tally.begun(given.seed + sum(judged.values()))
            for form in FORMS:
                found = _round(form, ROUND)
                judged[form] += found.judged
                took[form] += found.took_ms
                for word in found.wrong:
                    tally.violation(word)
            for form in ("killed", "zombie", "stopped"):
                cuts = quantiles(took[form], n=100)
                tally.figure(f"{form}_p50_ms", round(cuts[49], 2))
                tally.figure(f"{form}_p99_ms", round(cuts[98], 2))
            tally.count(len(FORMS) * min(judged.values()) - tally.result.reached)
        return tally.end()


def _round(form: str, count: int) -> Found:
    if form == "reused":
        return detection.reused_inside(count)
    rounds: dict[str, Callable[[Path, cosession.Client], Found]] = {
        "killed": lambda path, client: detection.killed(path, client, "killed", count),
        "zombie": lambda path, client: detection.killed(path, client, "zombie", count, zombies=True),
        "stopped": lambda path, client: detection.stopped(path, client, "stopped", count),
    }
    with private_home() as home:
        daemon = ScriptedDaemon(home)
        try:
            daemon.start_timed()
            with cosession.connect(daemon.socket) as client:
                return rounds[form](daemon.socket, client)
        finally:
            daemon.close()


def _crowd(tally: Tally) -> None:
    """The figures of many at once, and what was wrong with them."""
    with private_home() as home:
        daemon = ScriptedDaemon(home)
        try:
            daemon.start_timed()
            costs = sorted(crowds.cascades(daemon.socket, "cascade", 500))
            tally.figure("cascade_p99_ms", costs[int(len(costs) * 0.99)])
            tally.figure("cascade_ms_max", costs[-1])
            found, seconds = crowds.killed_at_once(daemon.socket, CROWD)
            tally.figure("crowd_of_200_seconds_max", round(seconds, 3))
            races = crowds.raced(daemon.socket, RACES)
            tally.figure("races_sum", races.judged)
            for word in (*found.wrong, *races.wrong):
                tally.violation(word)
        finally:
            daemon.close()
    with private_home() as home:
        without, with_all = crowds.starts(home, SESSIONS, PROCESSES)
        tally.figure("start_seconds", round(without, 3))
        tally.figure("start_with_1000_sessions_seconds", round(with_all, 3))


if __name__ == "__main__":
    sys.exit(main())
