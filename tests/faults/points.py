"""Which calls of a daemon can be made to fail: every one that touches its home, by its kind and its number.

strace counts the calls of a kind for each thread, from its beginning. A point is such a number: at the n-th call of a
kind, in whatever thread comes so far, something happens. The calls are taken from a run in which nothing fails.

Rule: what was injected is read from the trace, never assumed.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final, Literal, NamedTuple

Fault = Literal["KILL", "EIO", "ENOSPC"]
FAULTS: Final[tuple[Fault, ...]] = ("KILL", "EIO", "ENOSPC")
#: Calls by what they are; which of a kind the system has, and which the daemon uses, is left open.
KINDS: Final = {
    "write": ("pwrite64", "write"),
    "sync": ("fdatasync", "fsync"),
    "size": ("ftruncate", "fallocate"),
    "open": ("openat",),
    "rename": ("rename", "renameat", "renameat2"),
    "unlink": ("unlink", "unlinkat"),
    "mkdir": ("mkdir", "mkdirat"),
}
CALLS: Final = tuple(call for calls in KINDS.values() for call in calls)
#: What strace is asked for in the run that is let through.
LISTING: Final = ("--seccomp-bpf", "-y", "-s", "0", "-e", "trace=" + ",".join(f"?{call}" for call in CALLS))
_LINE: Final = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\((?P<rest>.*)", re.ASCII)


class Point(NamedTuple):
    """`fault` at the `number`-th `call` of a thread."""

    call: str
    number: int
    fault: Fault

    @property
    def flags(self) -> tuple[str, ...]:
        """What strace is asked for. Without --seccomp-bpf: it loses signals that are injected (seen with 6.1)."""
        what = f"signal={self.fault}" if self.fault == "KILL" else f"error={self.fault}"
        return ("-y", "-s", "0", "-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.number}")

    def __str__(self) -> str:
        return f"{self.fault} at {self.call} {self.number}"


def points(trace: Path, home: Path) -> list[tuple[str, int]]:
    """The calls of a run that touch `home`, in their order, each kind and number once."""
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], None] = {}
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.match(line)
        if match:
            counts[match["thread"], match["call"]] += 1
            if str(home) in match["rest"]:
                found[match["call"], counts[match["thread"], match["call"]]] = None
    return list(found)


def injected(trace: Path, point: Point, code: int | None) -> bool:
    """Whether it came so far: a call that was made to fail is marked, one that was killed at is the last thing seen."""
    if point.fault == "KILL":
        return code == -9
    return "(INJECTED)" in trace.read_text(encoding="utf-8", errors="replace")
