"""The processes of the frame: each runs in a session of its own, is asked to end first, and leaves nobody behind.

Rule: whatever was started for a proof bears its mark in the environment, which daemons and writers inherit; by that
mark they are found and ended, and nobody else is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "CS_PROOF_MARK"
#: After SIGTERM: long enough to stop a daemon in order.
END_S: Final = 20.0
LOG_BYTES_SHOWN: Final = 2_000


class Child:
    """One command, whose output goes to a file."""

    def __init__(self, command: Sequence[str], *, log: Path, cwd: Path) -> None:
        self.log = log
        self._mark = uuid.uuid4().hex
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def wait(self, within_s: float) -> int | None:
        """Its exit code, None when it has not ended in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(within_s)
        return None

    def end(self) -> list[str]:
        """Ask it to end, then make it end, and everybody it has started; the commands of who was left behind."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)
            if self.wait(END_S) is None:
                self._process.kill()
                self._process.wait()
        left = []
        for process in self._marked():
            with contextlib.suppress(psutil.Error):
                left.append(" ".join(process.cmdline())[:200])
                process.kill()
        return left

    def tail(self) -> str:
        """The end of what it wrote."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_BYTES_SHOWN))
            return file.read().decode(errors="replace").strip()

    def _marked(self) -> list[psutil.Process]:
        """A process that is about to end by itself is given a moment."""
        deadline = time.monotonic() + 1.0
        while (found := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
