"""SIGKILL at a chosen system call of a program: strace counts them, and kills before the n-th of a kind is carried out.

The calls are taken from a run that is let through: those that change something under one directory, each by its kind
and how many of that kind its thread had made. A later run with other content may make others: `killed` says whether it
came so far. Only what the program does is counted, so the same start makes the same calls.

Rule: strace is asked for, and where it is missing or may not trace the caller is told, who skips with that reason.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import zygote
from harness import Started

ENDS_S: Final = 120.0
#: What changes a file or a name; some systems know only some of them, which `?` allows.
CALLS: Final = (
    *("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate"),
    *("openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat"),
)
_SILENT: Final[dict[str, Any]] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
_OURS: Final = (sys.executable, "-m", "cosessiond")
_LINE: Final = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)", re.ASCII)
_OPENS_TO_WRITE: Final = re.compile(r"O_WRONLY|O_RDWR|O_CREAT", re.ASCII)
#: Without --seccomp-bpf: signals that are injected where it stops a call are lost (seen with strace 6.1).
_STRACE: Final = ("strace", "-f", "-qq")


class Point(NamedTuple):
    """Before the `number`-th call of a kind that some thread makes; `what` is how strace shows it."""

    call: str
    number: int
    what: str


def missing() -> str:
    """Why nothing can be killed here, "" when it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    tried = subprocess.run([*_STRACE, "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else ""


def points(command: Sequence[str], env: Mapping[str, str], place: Path, *, until: str = "") -> list[Point]:
    """The calls by which a run of `command` to its end changes something under `place`, in their order.

    `until`: the end is the first line with this, for a program that has to be ended by hand: it gets SIGTERM then.
    """
    trace = place / "trace"
    traced = [*CALLS, *(["bind"] if until else [])]
    strace = [*_STRACE, "-y", "-s", "0", "-o", str(trace), "-e", f"trace={','.join(f'?{each}' for each in traced)}"]
    with _running(strace, command, env) as running:
        if until:
            try:
                _wait_for(trace, until, running)
            finally:
                running.terminate()
        assert running.wait(ENDS_S) in (0, -signal.SIGTERM), "it was let through"
    found: list[Point] = []
    counts: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        if until and until in line:
            break
        call, rest = match["call"], match["rest"]
        counts[match["pid"], call] += 1
        if str(place) in rest and (call != "openat" or _OPENS_TO_WRITE.search(rest)):
            found.append(Point(call, counts[match["pid"], call], rest.replace(str(place), "")))
    trace.unlink()
    assert found, "it changed something"
    return _once(found)


def killed(command: Sequence[str], env: Mapping[str, str], point: Point) -> bool:
    """Run `command` and kill it there; False when it has ended before it came so far."""
    strace = [*_STRACE, "-o", os.devnull, "-e", f"trace={point.call}"]
    strace += ["-e", f"inject={point.call}:signal=KILL:when={point.number}"]
    with _running(strace, command, env) as running:
        return running.wait(ENDS_S) == -signal.SIGKILL


def sample(found: Sequence[Point], count: int) -> list[Point]:
    """So many of them, over the whole length, the first and the last among them; of one that in the middle."""
    if len(found) <= count:
        return list(found)
    if count == 1:
        return [found[len(found) // 2]]
    return [found[round(at * (len(found) - 1) / (count - 1))] for at in range(count)]


def _once(found: list[Point]) -> list[Point]:
    """Two threads may have made the same number of calls of a kind: it is one point, where the first of them is."""
    return list({(point.call, point.number): point for point in reversed(found)}.values())[::-1]


@contextlib.contextmanager
def _running(strace: Sequence[str], command: Sequence[str], env: Mapping[str, str]) -> Iterator[Started]:
    """Something under strace; ours is forked, so that what it imports is not traced. Nobody is left behind."""
    running: Started
    if zygote.available() and tuple(command[: len(_OURS)]) == _OURS:
        with Path(os.devnull).open("wb") as silent:
            arguments = command[len(_OURS) :]
            running = zygote.Traced("cosessiond.__main__", arguments, env=env, out=silent, strace=strace)
    else:
        running = _Parent([*strace, *command], env=env, cwd="/", **_SILENT)
    try:
        yield running
    finally:
        running.kill()
        running.wait(ENDS_S)


class _Parent(subprocess.Popen[bytes]):
    """strace as the parent of what it traces: it passes SIGTERM on by ending itself, so its child gets it."""

    def terminate(self) -> None:
        """SIGTERM to the child."""
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split():
            os.kill(int(child), signal.SIGTERM)


def _wait_for(trace: Path, text: str, running: Started) -> None:
    deadline = time.monotonic() + ENDS_S
    while not (trace.exists() and text in trace.read_text(encoding="utf-8", errors="replace")):
        assert running.poll() is None, "it ended before it came so far"
        assert time.monotonic() < deadline, f"{text} was never traced"
        time.sleep(0.05)
