"""A service manager of our own for tests: it opens the socket, starts the daemon with it, and hears what it is told.

Rule: it does what sd_listen_fds(3) and sd_notify(3) say, so that what passes here passes under systemd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from harness import START_S, STOP_S, Daemon

#: What becomes the daemon, so that LISTEN_PID and WATCHDOG_PID are its own; 3 is where systemd passes.
_BECOME = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "WATCHDOG_PID": str(os.getpid())}
os.execve(sys.executable, [sys.executable, "-m", "cosessiond"], {**os.environ, **told})
"""
_DATAGRAM_BYTES = 65_536


class Supervisor:
    """One home with a socket that is always open, and the daemon that is started for it."""

    def __init__(self, home: Path, *, watchdog_s: float = 0.0, at: Path | None = None) -> None:
        self.home = home
        self.env = dict(Daemon(home).env)
        self.socket = at or home / "run" / "d.sock"
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watchdog_s = watchdog_s
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._process: subprocess.Popen[str] | None = None
        self.heard: list[str] = []

    def __enter__(self) -> Self:
        before = os.umask(0o177)
        self._listening.bind(str(self.socket))
        os.umask(before)
        self._listening.listen(16)
        self._notified.bind(str(self.home / "notify"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._listening.close()
        self._notified.close()

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self._process is not None
        return self._process.pid

    def start(self, **env: str) -> None:
        """Start the daemon with the socket, and do not wait."""
        told = {"NOTIFY_SOCKET": str(self.home / "notify")}
        if self._watchdog_s:
            told["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        descriptor = self._listening.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BECOME, str(descriptor)],
            env={**self.env, **told, **env},
            pass_fds=[descriptor],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self, word: str, *, times: int = 1) -> list[str]:
        """Wait until something that begins with `word` was told so often from now on; all that was told until then."""
        found: list[str] = []
        deadline = time.monotonic() + START_S
        while sum(each.startswith(word) for each in found) < times:
            self._notified.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                lines = self._notified.recv(_DATAGRAM_BYTES).decode().split("\n")
            except TimeoutError:
                raise AssertionError(f"no {word} but {found} within {START_S:g} s: {self._said()}") from None
            found += lines
        self.heard += found
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for the daemon's end: its exit code, and what it wrote."""
        assert self._process is not None
        _, said = self._process.communicate(timeout=STOP_S)
        code = self._process.returncode
        self._process = None
        return code, said

    def _said(self) -> str:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            if self._process is not None and self._process.poll() is not None:
                return str(self.end())
        return "it runs"
