"""How long a commit waits while a large store is backed up, beside the same without: p50, p99, the longest.

    python tests/durability/backup_stall.py --mib 1024 --seconds 10 --rounds 2

One client puts 200 B, one after the other, so that each waits for its own sync; alone for so many seconds and while a
backup is made, in turns. The store is filled with values of 200 KiB, whose history and log weigh most. What the daemon
says of the longest wait for other work than commits (`commit_stall_ms`) stands behind it: of that alone the steps of
a backup can be a part; the rest is the disk, and who else uses the machine.

Rule: it measures and judges nothing; a ratio is worth more than a figure.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import Daemon, private_home
from rawclient import Pack

VALUE_BYTES = 200 * 1024


def fill(peer: Pack, mib: int) -> None:
    """Each put leaves an entry, a version and a log row: about twice its value in the end."""
    number = 0
    while peer.reply("status")["database_bytes"] < mib << 20:
        for _ in range(50):
            number += 1
            peer.reply("put", key=f"big/{number % 500}", value="x" * VALUE_BYTES)


def measure(peer: Pack, seconds: float) -> list[float]:
    """The milliseconds of each put."""
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        peer.reply("put", key=f"small/{len(found) % 100}", value="y" * 200)
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)


def show(what: str, found: list[float], peer: Pack) -> None:
    """One line."""
    found = sorted(found)
    p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
    said = peer.reply("status")["counters"]
    stalls = (
        f"p99 {said.get('commit_stall_ms.p99', 0):.1f}, max since the start {said.get('commit_stall_ms.max', 0):.1f}"
    )
    print(
        f"{what:<8} {len(found):>7,} puts  p50 {p50:.2f} ms  p99 {p99:.2f} ms  max {found[-1]:.1f} ms; "
        f"held up by other work: {stalls} ms",
        flush=True,
    )


def backed_up(peer: Pack, other: Pack) -> list[float]:
    """The milliseconds of each put while a backup is made."""
    number = other.reply("backup.now", wait_s=0)["number"]
    began, phases = time.monotonic(), []
    found: dict[str, list[float]] = {}
    while True:
        said = other.reply("backup.now", number=number, wait_s=0)
        phases.append(said["phase"])
        if said["phase"] == "over":
            break
        found.setdefault(said["phase"], []).extend(measure(peer, 0.5))
    copying = phases.count("copying") / len(phases)
    took = time.monotonic() - began
    print(f"the backup took {took:.1f} s, {copying:.0%} of it copying; {said['backup']['size_bytes'] >> 20} MiB")
    for phase, each in found.items():
        show(phase, each, peer)
    return [each for every in found.values() for each in every]


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    alone: list[float] = []
    backup: list[float] = []
    with private_home() as home, Daemon(home) as daemon:
        with Pack(daemon.socket, timeout_s=600.0) as peer:
            fill(peer, given.mib)
            print(f"database {peer.reply('status')['database_bytes'] >> 20} MiB", flush=True)
        daemon.restart()  # what held up the filling is told of no more
        with Pack(daemon.socket, timeout_s=600.0) as peer, Pack(daemon.socket, timeout_s=600.0) as other:
            for _ in range(given.rounds):
                alone += measure(peer, given.seconds)
                show("alone", alone, peer)
                backup += backed_up(peer, other)
                show("backup", backup, peer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
