"""The soak: a daemon at full write speed for minutes, and whether what it takes stays within what it should.

    python tests/durability/soak.py --seconds 600 --json soak.json

Writers of every shape (200 B over 10,000 keys, one hot key, transactions of 100 writes, as many deletes as puts), a
slow watch, readers of the past, and one writer every 20 ms whose waits are what any commit waits. Each second the size
of the database and of its log, resident memory, how far trimming is behind, and how long upkeep has held up a commit
(`--default-limits`: with the log window of a release, which takes minutes to fill). Ends with 1 when the database is
larger than live data, window and history allow, or trimming is further behind than its bound.

Rule: the bound is computed from what is written, never from what was measured before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from cosession import connect
from cosession.messages.limits import VERSIONS_KEPT, Limits
from cosessiond.store.pacing import BACKLOG_TIMES_MAX, TRIM_DUE_BATCHES
from durability import soaker
from harness import Daemon, private_home
from server.daemons import configure

ROLES: Final = ("small", "hot", "wide", "deleting", "past", "watch", "paced")
MIB: Final = 1024 * 1024
#: Of a row besides its value: keys, origin, hashes, its place in the index.
ROW_BYTES: Final = 400
#: Pages are not full, and freed ones are used again later.
SLACK: Final = 1.5
SPARE_BYTES: Final = 32 * MIB


class Plan(NamedTuple):
    """How long, and how much of the log is kept: small, so that it is written through many times."""

    seconds: float = 10.0
    window_revisions: int = 20_000
    window_bytes: int = 32 * MIB
    request_ids: int = 20_000


class Sample(NamedTuple):
    """One look at the daemon."""

    at_s: float
    revision: int
    database: int  # bytes of the file
    used: int  # of its pages in use, in bytes
    wal: int
    resident: int
    surplus: int  # batches that are still to be trimmed
    stall_ms: float = 0.0  # the longest that upkeep has held up a commit so far
    stall_p99_ms: float = 0.0


class Report(NamedTuple):
    """What came of it."""

    plan: Plan
    samples: list[Sample]
    roles: list[dict[str, Any]]
    bound: int
    broken: list[str]


def bound_bytes(plan: Plan, mean_batch: float) -> int:
    """What live data, history, window and request ids may take together."""
    keys = soaker.KEYS + soaker.WIDE_KEYS + 2_000 + 2
    live = soaker.KEYS * (200 + ROW_BYTES) + (keys - soaker.KEYS) * (100 + ROW_BYTES)
    history = VERSIONS_KEPT * live
    window = 3 * min(plan.window_bytes, plan.window_revisions * mean_batch)  # the log, and the versions it still needs
    requests = plan.request_ids * mean_batch
    return int(SLACK * (2 * live + history + window + requests) + SPARE_BYTES)


def run(plan: Plan) -> Report:
    """One soak in a home of its own."""
    with private_home() as home:
        configure(
            home,
            log_window_revisions=plan.window_revisions,
            log_window_bytes=plan.window_bytes,
            request_ids_max=plan.request_ids,
        )
        with Daemon(home) as daemon:
            children = [_child(daemon, role, plan.seconds) for role in ROLES]
            try:
                samples = list(_samples(daemon, plan.seconds))
                roles = [json.loads(child.communicate(timeout=120)[0]) for child in children]
            finally:
                for child in children:
                    child.kill()
                    child.wait()
    batches = samples[-1].revision
    wide = next(role["calls"] for role in roles if role["role"] == "wide")
    mean_batch = (batches * 400 + wide * soaker.WIDE * 150) / max(1, batches)
    bound = bound_bytes(plan, mean_batch)
    return Report(plan, samples, roles, bound, _broken(samples, roles, bound))


def _child(daemon: Daemon, role: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", str(Path(soaker.__file__)), role, str(daemon.socket), str(seconds)]
    return subprocess.Popen(command, env=daemon.env, stdout=subprocess.PIPE, text=True)


def _samples(daemon: Daemon, seconds: float) -> Any:
    """A look about every second, and one at the end."""
    process = psutil.Process(daemon.pid)
    began = time.monotonic()
    with connect(daemon.socket, timeout_s=60.0) as client:
        while (now_s := time.monotonic() - began) < seconds + 1:
            status = client.status()
            yield Sample(
                round(now_s, 1),
                status.revision,
                daemon.database.stat().st_size,
                status.database_bytes,
                Path(f"{daemon.database}-wal").stat().st_size,
                process.memory_info().rss,
                status.surplus_batches,
                status.counters.get("commit_stall_ms.max", 0.0),
                status.counters.get("commit_stall_ms.p99", 0.0),
            )
            time.sleep(min(1.0, seconds / 10))


def _broken(samples: Sequence[Sample], roles: Sequence[dict[str, Any]], bound: int) -> list[str]:
    """Each bound that did not hold, in words."""
    found = []
    largest = max(sample.database for sample in samples)
    if largest > bound:
        found.append(f"the database grew to {largest / MIB:.0f} MiB, its bound is {bound / MIB:.0f}")
    behind = max(sample.surplus for sample in samples)
    if behind > BACKLOG_TIMES_MAX * TRIM_DUE_BATCHES + 256:
        found.append(f"trimming was {behind} batches behind")
    for role in roles:
        refused = {code: times for code, times in role["refused"].items() if code != "compacted"}
        if refused:
            found.append(f"{role['role']} was refused: {refused}")
    return found


def render(report: Report) -> str:
    """For people: about twenty samples, then who waited how long."""
    samples = report.samples
    shown = samples[:: max(1, len(samples) // 20)]
    lines = [f"{'s':>6} {'revision':>10} {'file MiB':>9} {'used MiB':>9} {'WAL MiB':>8} {'RSS MiB':>8} {'to trim':>8}"]
    lines += [
        f"{s.at_s:>6.0f} {s.revision:>10,} {s.database / MIB:>9.1f} {s.used / MIB:>9.1f} {s.wal / MIB:>8.1f}"
        f" {s.resident / MIB:>8.1f} {s.surplus:>8,}"
        for s in dict.fromkeys((*shown, samples[-1]))
    ]
    lines += ["", f"{'':<10} {'calls':>10} {'p50 ms':>9} {'p99 ms':>9} {'longest ms':>11}"]
    lines += [
        f"{r['role']:<10} {r['calls']:>10,} {r['p50_ms']:>9.2f} {r['p99_ms']:>9.2f} {r['longest_ms']:>11.2f}"
        for r in report.roles
    ]
    stall = f"longest commit stall {samples[-1].stall_ms:.1f} ms, p99 {samples[-1].stall_p99_ms:.1f} ms"
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    lines += ["", stall, f"bound of the database {report.bound / MIB:.0f} MiB; load of the machine {load}"]
    return "\n".join([*lines, *[f"broken: {each}" for each in report.broken]]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one soak, print it; 1 when a bound did not hold."""
    parser = argparse.ArgumentParser(description="full write speed for a while; whether size stays bounded")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--window", type=int, default=Plan().window_revisions, help="log_window_revisions")
    parser.add_argument("--json", type=Path, help="write the whole report there")
    parser.add_argument("--default-limits", action="store_true", help="the window and request ids of a release")
    given = parser.parse_args(arguments)
    plan = Plan(given.seconds, given.window)
    if given.default_limits:
        usual = Limits()
        plan = Plan(given.seconds, usual.log_window_revisions, usual.log_window_bytes, usual.request_ids_max)
    report = run(plan)
    sys.stdout.write(render(report))
    if given.json:
        whole = {**report._asdict(), "samples": [sample._asdict() for sample in report.samples]}
        given.json.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
