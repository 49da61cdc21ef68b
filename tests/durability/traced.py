"""A daemon under strace, which writes down what it does, or makes some of it fail.

Rule: whoever waits, stops or kills means the daemon, and never its tracer.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Self

import psutil

import zygote
from durability.loop import ScriptedDaemon
from harness import Started

#: Where it is; None: what needs it is skipped.
STRACE: Final = shutil.which("strace")
END_S: Final = 120.0


class TracedDaemon(ScriptedDaemon):
    """A daemon under strace. What signals it gets, it gets itself, and not its tracer."""

    def __init__(self, home: Path, command: Sequence[str], traces: Path, flags: Sequence[str]) -> None:
        super().__init__(home)
        self._traced = tuple(command)
        self._traces = traces
        self.flags = tuple(flags)
        #: Off: the same daemon without strace, from its next start on.
        self.is_traced = True
        self.runs = 0

    @property
    def trace(self) -> Path:
        """The file of the newest run."""
        return self._traces / f"trace.{self.runs}"

    def start(self, *, wait: bool = True) -> Self:
        """Each time with a trace of its own."""
        assert STRACE is not None, "strace is not installed"
        self.runs += 1
        strace = (STRACE, "-f", "-qq", "-o", str(self.trace), *self.flags)
        self.command = (*strace, *self._traced) if self.is_traced else self._traced
        return super().start(wait=wait)

    def run_traced(self, command: Sequence[str]) -> None:
        """Something else over the same home, to its end, with a trace of its own. Raises AssertionError."""
        assert STRACE is not None, "strace is not installed"
        self.runs += 1
        done = subprocess.run(
            [STRACE, "-f", "-qq", "-o", str(self.trace), *self.flags, *command],
            env=self.env,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=END_S,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}"

    @property
    def pid(self) -> int:
        """That of the daemon."""
        started = self._running().pid
        children = psutil.Process(started).children() if self.is_traced else []
        return children[0].pid if children else started

    def signal(self, number: signal.Signals) -> None:
        """To the daemon."""
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the daemon; strace sees it end, and ends."""
        self.signal(signal.SIGKILL)
        self.wait(END_S)

    def stop(self) -> int:
        """SIGTERM to the daemon."""
        self.signal(signal.SIGTERM)
        return self.wait(END_S)

    def sweep(self) -> None:
        """End whatever still runs for this home, by force."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self._process is not None:
            self.wait(END_S)


class AttachedDaemon(ScriptedDaemon):
    """A daemon that was forked, and to which strace was attached before it began: what it imports is not traced, which
    is most of what a traced start takes. `module` is what runs, see tests/zygote.py.
    """

    def __init__(self, home: Path, module: str, arguments: Sequence[str], traces: Path, flags: Sequence[str]) -> None:
        super().__init__(home)
        self._forked = True
        self._module = module
        self._arguments = tuple(arguments)
        self._traces = traces
        self.flags = tuple(flags)
        self.is_traced = True
        self.runs = 0

    @property
    def trace(self) -> Path:
        """The file of the newest run."""
        return self._traces / f"trace.{self.runs}"

    def _begun(self, log: IO[bytes]) -> Started:
        self.runs += 1
        if not self.is_traced:
            return zygote.start(self._module, self._arguments, env=self.env, out=log)
        assert STRACE is not None, "strace is not installed"
        strace = (STRACE, "-f", "-qq", "-o", str(self.trace), *self.flags)
        return zygote.Traced(self._module, self._arguments, env=self.env, out=log, strace=strace)

    def wait(self, timeout_s: float = END_S) -> int:
        """With more patience: it is traced."""
        return super().wait(timeout_s)

    def sweep(self) -> None:
        """End whatever still runs for this home, by force."""
        if self._process is not None:
            self._process.kill()
            self.wait(END_S)
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
