"""What every figure is printed with: the machine, and the floors that no daemon can go below, measured in the same run.

Rule: a figure without these says nothing; absolute numbers drift from machine to machine.
"""

from __future__ import annotations

import os
import platform
import socket
import sqlite3
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.children import Children

PACE_S = 0.003


def machine(place: Path) -> dict[str, Any]:
    """Processor, system, Python, SQLite, the file system that `place` is on, and how busy it all is already."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "file_system": _file_system(place),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(place: Path) -> str:
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    best = ("", "unknown")
    for line in mounts.read_text().splitlines():
        _, where, kind, *_ = line.split()
        if str(place).startswith(where.rstrip("/") + "/") and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which the fraction `q` lies, by nearest rank; 1.0 is the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def spread(values: Sequence[float], digits: int = 0) -> dict[str, float]:
    """p50, p99 and max."""
    found = {"p50": statistics.median(values), "p99": quantile(values, 0.99), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def fdatasync_us(place: Path, count: int) -> list[float]:
    """Microseconds of writing 256 B into a zero-filled file and syncing them, each at a new place."""
    file = place / "fdatasync.probe"
    sync = getattr(os, "fdatasync", os.fsync)
    took: list[float] = []
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, bytes(256 * (count + 1)))
        os.fsync(descriptor)
        for index in range(count):
            began = time.perf_counter()
            os.pwrite(descriptor, b"x" * 256, 256 * index)
            sync(descriptor)
            took.append((time.perf_counter() - began) * 1e6)
            time.sleep(PACE_S / 3)
    finally:
        os.close(descriptor)
        file.unlink()
    return took


def push_us(place: Path, count: int) -> list[float]:
    """Microseconds from before a send on a Unix socket to after the receipt in a waiting process, paced."""
    path = place / "push.sock"
    with Children({**os.environ}) as children, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(10)
        reader = children.start("receive", path=str(path), count=count)
        sock, _ = listener.accept()
        with sock:
            for _ in range(count):
                time.sleep(PACE_S)
                sock.sendall(time.monotonic_ns().to_bytes(8, sys.byteorder).ljust(256, b"x"))
            took: list[float] = reader.result()
    return took
