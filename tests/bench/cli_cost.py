"""What starting a command costs, as a ratio to starting Python: the goal is 2.5 for the fast verbs, 5 for all others.

    python tests/bench/cli_cost.py [ROUNDS=30]

Every command runs once per round, interleaved with `python -c pass` of the same interpreter, round trip to a running
daemon included; the table shows medians of the wall clock, which the goals are about, and beside them of the processor
time of the command, which a busy machine disturbs less. The installed `cosession` script is measured when there is one
beside the interpreter, else its entry point.

Rule: it prints and judges nothing: timing decides no test.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import Daemon, private_home

ROUNDS = 30
GOAL_FAST, GOAL_OTHER = 2.5, 5.0
ENTRY = "import sys; from cosession.cli.main import main; sys.exit(main())"
FAST = ("get k", "put k 1", "ls", "status", "sockname", "metrics", "debug ping")
OTHER = (
    "merge k {}",
    "delete gone",
    "history k",
    "txn {}",
    "sessions",
    "debug call ping",
    "watch --count 1",
    "update k -- echo 1",
    "start",
)


def command_of(words: str) -> list[str]:
    """The command line of one row."""
    script = Path(sys.executable).with_name("cosession")
    start = [str(script)] if script.exists() else [sys.executable, "-P", "-c", ENTRY]
    return [*start, *words.split()]


def run(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Milliseconds of the wall clock and of the processor that one command takes."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall_ms = (time.perf_counter() - began) * 1000
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command} ended with {process.returncode}"
    return wall_ms, (used.ru_utime + used.ru_stime) * 1000


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """What `run` says of each row and round, by its words; "" is `python -c pass`."""
    rows: dict[str, list[str]] = {"": [sys.executable, "-c", "pass"]}
    rows |= {words: command_of(words) for words in (*FAST, *OTHER)}
    took: dict[str, list[tuple[float, float]]] = {words: [] for words in rows}
    with private_home() as home, Daemon(home) as daemon:
        run([*command_of("put k"), "{}"], daemon.env)
        for index in range(rounds + 1):
            for words, command in rows.items():
                one = run(command, daemon.env)
                if index:  # the first round warms the caches
                    took[words].append(one)
    return took


def medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    """The median of each kind of time."""
    return statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times)


def main() -> int:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    took = measure(rounds)
    wall, cpu = medians(took.pop(""))
    how = "installed script" if Path(command_of("")[0]).name == "cosession" else "entry point"
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"Python {sys.version.split()[0]}, {machine}, {how}, {rounds} rounds")
    print(f"{'command':<20} {'wall ms':>8} {'ratio':>6} {'goal':>5}   {'cpu ms':>7} {'ratio':>6}")
    print(f"{'python -c pass':<20} {wall:8.1f} {1.0:6.2f} {'':5}   {cpu:7.1f} {1.0:6.2f}")
    for words, times in took.items():
        goal = GOAL_FAST if words in FAST else GOAL_OTHER
        each_wall, each_cpu = medians(times)
        mark = "" if each_wall <= goal * wall else "  over"
        text = f"{words:<20} {each_wall:8.1f} {each_wall / wall:6.2f} {goal:5.1f}"
        print(f"{text}   {each_cpu:7.1f} {each_cpu / cpu:6.2f}{mark}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
