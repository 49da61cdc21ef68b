"""A real daemon process to test against, usable without pytest: started, waited for, killed, stopped, and swept after.

    with Daemon(home) as daemon: ...                        # home: a short private directory, see `private_home`

Rule: it knows the outside of the daemon only (its command, its socket, its exit codes), like any other program.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psutil

#: Coverage is being measured: everything takes several times as long, and no process begins with our own code.
MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ
START_S = 60.0 if MEASURED else 10.0
STOP_S = 60.0 if MEASURED else 10.0
POLL_S = 0.01


@contextlib.contextmanager
def private_home() -> Iterator[Path]:
    """A private COSESSION_HOME, removed afterwards. In /tmp, not in a test's own directory: a Unix socket path has room
    for 107 bytes (103 on macOS)."""
    home = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp")).resolve()
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def processes_of(place: Path) -> list[psutil.Process]:
    """Every process that lives for a home under `place`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("COSESSION_HOME", "").startswith(str(place)):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


class Started(Protocol):
    """What a test needs of a process that it has started; `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Daemon:
    """One home and the daemon that serves it, over as many starts as a test needs. Not started by the constructor.

    `close()` is the last word: it stops what runs and raises AssertionError when the daemon ended by itself, did not
    end with 0 after SIGTERM, or left a process behind.
    """

    def __init__(self, home: Path, *, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.socket = home / "run" / "d.sock"
        self.database = home / "state" / "store.db"
        self.log = home / "stderr.log"
        self.args = tuple(args)
        #: The environment of the daemon, and of clients that a test starts: `subprocess.run(..., env=daemon.env)`.
        self.env = {**os.environ, "COSESSION_HOME": str(home), "COSESSION_NO_SPAWN": "1", **(env or {})}
        self.env.pop("COSESSION_SOCKET", None)  # either would lead away from this home
        self.env.pop("XDG_RUNTIME_DIR", None)
        self._process: Started | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The pid of the running daemon."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> Self:
        """Start the daemon in the foreground; by default return when it takes connections."""
        assert self._process is None, "the daemon has not been stopped"
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cosessiond", *self.args],
                env=self.env,
                cwd="/",  # nothing of the working directory may matter
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a signal for the tests' terminal is not for the daemon
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Return when the socket takes a connection; fail at once, with what it wrote, when the process has ended."""
        process = self._running()
        deadline = time.monotonic() + START_S
        while not self.accepts():
            code = process.poll()
            if code is not None:
                self._process = None
                raise AssertionError(f"the daemon ended with {code} while starting:\n{self.stderr()}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the daemon took no connection within {START_S:g} s:\n{self.stderr()}")
            time.sleep(POLL_S)

    def accepts(self) -> bool:
        """Whether a connection can be made now."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def stderr(self) -> str:
        """What the daemon wrote since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, e.g. SIGHUP or SIGSTOP."""
        self._running().send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait for the daemon to end by itself and return its exit code (-N when signal N ended it)."""
        code = self._running().wait(timeout_s)
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._running().kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code. A daemon that does not end is killed and fails the test."""
        process = self._running()
        process.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon did not end within {STOP_S:g} s of SIGTERM:\n{self.stderr()}") from None

    def restart(self) -> Self:
        """An orderly stop, then a start."""
        code = self.stop()
        assert code == 0, f"the daemon ended with {code}:\n{self.stderr()}"
        return self.start()

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started with this home: daemon, children, clients, orphans of any."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("COSESSION_HOME") == str(self.home) and process.pid != os.getpid():
                    found.append(process)
        return found

    def close(self) -> None:
        """Stop what runs, sweep, and say what was wrong."""
        wrong: list[str] = []
        if self._process is not None:
            ended = self._process.poll()
            if ended is not None:
                self._process = None
                wrong.append(f"the daemon ended by itself with {ended}")
            else:
                try:
                    code = self.stop()
                except AssertionError as error:
                    wrong.append(str(error))
                else:
                    if code:
                        wrong.append(f"the daemon ended with {code} after SIGTERM")
        left = self._left_behind()
        for process, command in left:
            wrong.append(f"left behind: pid {process.pid}, {command}")
            with contextlib.suppress(psutil.Error):
                process.kill()
        if wrong:
            log = self.stderr() if self.log.exists() else ""
            raise AssertionError("\n".join([*wrong, f"its log:\n{log}" if log else "it wrote nothing"]))

    def _left_behind(self) -> list[tuple[psutil.Process, str]]:
        """Processes of this home that outlive the daemon by more than a moment (a child may end just after it)."""
        deadline = time.monotonic() + 0.5
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        found = []
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append((process, " ".join(process.cmdline()) or process.name()))
        return found

    def _running(self) -> Started:
        assert self._process is not None, "the daemon is not running"
        return self._process

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
