"""How long a bystander waits beside floods, and how much of that is the daemon's own doing, for a quiet machine:

    python tests/server/flood_delay.py --seconds 60 [--json FILE]

Three phases in turns: nothing beside it, a flood of its own daemon, and the same flood of another daemon, which takes
as much of the machine and nothing of this daemon. What the second has above the third is what the daemon holds up; P16
says that it is no more than 100 ms. The bystander and the floods are processes of their own.

Rule: a measurement and no test: it fails by nothing but a bystander that is not served.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.live import LIMITS, Fuzz
from harness import Daemon
from rawclient import Pack, Peer
from server import floods
from server.daemons import serving

KINDS: Final = ("frames", "half_open", "never_reading")
BESIDE: Final = ("nothing", "own", "other")
ROUNDS: Final = 4
HALF_OPEN: Final = 500
NEVER_READING: Final = 8
WRITES: Final = 200
PAUSE_S: Final = 0.002
P16_MS: Final = 100.0


def flood(kind: str, socket: Path) -> None:
    """Without end, in a process of its own."""
    daemon: Any = SimpleNamespace(socket=socket, pid=1, running=True, stderr=str)
    if kind == "frames":
        fuzz = Fuzz(daemon, seed=1)
        fuzz.bystander.stop()
        while not fuzz.wrong:
            fuzz.one()
    while True:
        if kind == "half_open":
            crowd(socket)
        else:
            floods.never_reading(daemon, NEVER_READING, writes=WRITES)


def crowd(socket: Path) -> None:
    """Connections with half a frame each, all open at once, then all gone."""
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            peer = stack.enter_context(contextlib.closing(Peer(socket)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # over the cap: refused already
                peer.send(b"\x00\x00\x00" if number % 2 else b'{"jsonrpc":')


@contextlib.contextmanager
def flooded(kind: str, socket: Path | None) -> Iterator[None]:
    """Meanwhile the daemon at `socket` is flooded; None: nobody is."""
    if socket is None:
        yield
        return
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--flood", kind, "--socket", str(socket)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)  # its imports are not what is measured
        yield
        assert process.poll() is None, f"the flood of {kind} ended with {process.returncode}"
    finally:
        process.kill()
        process.wait()


def waits_ms(daemon: Daemon, seconds: float) -> list[float]:
    """How long each of a bystander's puts and reads of it took."""
    found = []
    end = time.monotonic() + seconds
    with Pack(daemon.socket, timeout_s=30.0) as peer:
        while time.monotonic() < end:
            began = time.monotonic()
            peer.reply("put", key="bystander", value=len(found), project="bystander")
            assert peer.reply("get", key="bystander", project="bystander")["entry"]["value"] == len(found)
            found.append((time.monotonic() - began) * 1000)
            time.sleep(PAUSE_S)
    return found


def quantile(found: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return sorted(found)[min(len(found) - 1, int(share * len(found)))] if found else 0.0


def measure(kind: str, seconds: float) -> dict[str, Any]:
    """All three phases of one kind, in turns."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    with serving(**LIMITS) as daemon, serving(**LIMITS) as other:
        sockets = {"nothing": None, "own": daemon.socket, "other": other.socket}
        for _ in range(ROUNDS):
            for beside in BESIDE:
                with flooded(kind, sockets[beside]):
                    found[beside] += waits_ms(daemon, seconds / ROUNDS / len(BESIDE))
    rows: dict[str, Any] = {
        beside: {
            "served": len(each),
            **{f"p{percent}_ms": round(quantile(each, percent / 100), 2) for percent in (50, 99)},
            "max_ms": round(max(each), 2),
        }
        for beside, each in found.items()
    }
    rows["p99_above_nothing_ms"] = round(rows["own"]["p99_ms"] - rows["nothing"]["p99_ms"], 2)
    rows["p99_of_the_daemon_ms"] = round(rows["own"]["p99_ms"] - rows["other"]["p99_ms"], 2)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Measure how long a bystander waits beside floods.")
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--json", type=Path, help="write it to this file too")
    parser.add_argument("--flood", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.flood:
        flood(given.flood, given.socket)
    found = {kind: measure(kind, given.seconds / len(KINDS)) for kind in KINDS}
    print(f"{'flood':14} {'beside':8} {'served':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for kind, rows in found.items():
        for beside in BESIDE:
            row = rows[beside]
            print(f"{kind:14} {beside:8} {row['served']:7} {row['p50_ms']:8} {row['p99_ms']:8} {row['max_ms']:8}")
        own, above = rows["p99_of_the_daemon_ms"], rows["p99_above_nothing_ms"]
        print(f"{'':14} p99 above nothing {above} ms, of which the daemon's own {own} ms (P16: {P16_MS:g} ms)")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
