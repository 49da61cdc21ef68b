"""`make bench`: measures the figures and prints one table, with the machine they were measured on.

    make bench [ROUNDS=3] [ARGS="--quick --only abd --json FILE"]

Figures that drift are taken in ROUNDS interleaved rounds, of which the table shows the median. It ends with 1 when a
promise was broken (a lost update, a gap), never because a goal was missed.

Rule: bounded in time, and nothing that was started outlives it, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec import structs, to_builtins

from bench import facts, figures
from cosession._version import __version__

WIDTH = 84
#: Above this load average something else is running, and the figures are about that, too.
LOAD_MAX = 1.0


def measure(letters: str, scale: figures.Scale, rounds: int) -> list[list[figures.Row]]:
    """All rows, each with its value of every round, in the order of the letters; raises PromiseBroken."""
    found: dict[tuple[str, str], list[figures.Row]] = {}
    plan = [(each, figures.EACH_ROUND[each]) for _ in range(rounds) for each in letters if each in figures.EACH_ROUND]
    plan += [(each, figures.ONCE[each]) for each in letters if each in figures.ONCE]
    for letter, figure in plan:
        began = time.monotonic()
        print(f"measuring {letter}: {figure.__doc__}", file=sys.stderr)
        for row in figure(scale):
            found.setdefault((row.figure, row.name), []).append(row)
        print(f"          {time.monotonic() - began:.1f} s", file=sys.stderr)
    return sorted(found.values(), key=lambda rows: letters.index(rows[0].figure))


def median(rows: list[figures.Row]) -> figures.Row:
    """The row as the table shows it: the median round."""
    middle = statistics.median_low([row.value for row in rows])
    met = None if rows[0].met is None else next(row.met for row in rows if row.value == middle)
    return structs.replace(rows[0], value=middle, met=met)


def table(machine: dict[str, Any], rows: Sequence[figures.Row]) -> str:
    """Everything for people."""
    lines = [f"{name}: {value}" for name, value in machine.items()]
    letter = ""
    for row in rows:
        if row.figure != letter:
            letter = row.figure
            lines.append("-" * (WIDTH + 30))
        met = {None: "", True: "met", False: "MISSED"}[row.met]
        value = f"{row.value:,g}" if row.value < 1e6 else f"{row.value:,.0f}"
        lines.append(f"{row.figure}  {row.name:{WIDTH}}{value:>9} {row.unit:5}{row.goal:>9} {met}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    everything = "".join(sorted({**figures.EACH_ROUND, **figures.ONCE}))
    parser = argparse.ArgumentParser(description="Measure the figures of cosession.")
    parser.add_argument("--quick", action="store_true", help="a minute to see that it works; not to be quoted")
    parser.add_argument("--only", default=everything, help=f"letters of {everything}")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or 0))
    parser.add_argument("--json", type=Path, help="write everything to this file too")
    given = parser.parse_args(arguments)
    if set(given.only) - set(everything):
        parser.error(f"--only takes letters of {everything}")
    scale = figures.QUICK if given.quick else figures.FULL
    rounds = given.rounds or (1 if given.quick else 3)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves through every `finally`
    command = " ".join(["tests/bench/run.py", *(sys.argv[1:] if arguments is None else arguments)])
    machine = {"command": command, "version": __version__, "rounds": rounds, **facts.machine(Path("/tmp"))}
    if machine["load_average"] > LOAD_MAX:
        print(
            f"bench: load average {machine['load_average']}: the machine is busy, quote none of this", file=sys.stderr
        )
    try:
        measured = measure(given.only, scale, rounds)
    except figures.PromiseBroken as broken:
        print(f"bench: a promise is broken: {broken}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    rows = [median(each) for each in measured]
    print(table(machine, rows))
    if given.json:
        shown = [{**to_builtins(median(each)), "rounds": [row.value for row in each]} for each in measured]
        given.json.write_text(json.dumps({"machine": machine, "rows": shown}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
