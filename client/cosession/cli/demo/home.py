"""The demo's private home: a temporary directory, an environment that leads there, and the sweep at the end.

Rule: whatever happens, no process that was started with this home and no file of it is left behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from cosession import paths, sync
from cosession.errors import CosessionError
from cosession.messages.admin import Stop
from cosession.reach import SANDBOXES

#: A longer temporary directory would push the socket's path over its limit.
PLACE_BYTES_MAX = 60
STOP_S = 5.0
SWEEP_S = 5.0
POLL_S = 0.02
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def private_home() -> Iterator[Path]:
    """Make it, lead this process and its children there, and afterwards stop, sweep and remove all of it."""
    place = tempfile.gettempdir()
    if len(os.fsencode(place)) > PLACE_BYTES_MAX:
        place = "/tmp"  # noqa: S108 (mkdtemp makes a private directory of a new name)
    with _signals_as_exit():
        home = Path(tempfile.mkdtemp(prefix="cosession-demo-", dir=place)).resolve()
        before = dict(os.environ)
        try:
            _lead_to(home)
            yield home
        finally:
            # Nobody may interrupt the sweep; every step of it is bounded.
            held = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
            try:
                _stop_daemon()
                _sweep(home)
                shutil.rmtree(home, ignore_errors=True)
            finally:
                os.environ.clear()
                os.environ.update(before)
                for number, handler in held.items():
                    signal.signal(number, handler)


def _lead_to(home: Path) -> None:
    """Take everything out of the environment that would lead elsewhere, or forbid a daemon of our own."""
    for name in [name for name in os.environ if name.startswith("COSESSION_") or name in SANDBOXES]:
        del os.environ[name]
    os.environ["COSESSION_HOME"] = str(home)


@contextlib.contextmanager
def _signals_as_exit() -> Iterator[None]:
    """SIGTERM and SIGHUP end this process through its `finally` blocks, as Ctrl-C does."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_daemon() -> None:
    """The orderly end; what does not follow is left to the sweep."""
    with contextlib.suppress(OSError):
        Path(paths.stop_latch()).touch(mode=0o600)  # so that nothing starts it again
    with contextlib.suppress(CosessionError), sync.connect(timeout_s=STOP_S, spawn=False) as client:
        pid = client.call(Stop()).pid
        deadline = time.monotonic() + STOP_S
        while _is_alive(pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _sweep(home: Path) -> None:
    """Kill every process that was started with this home, until there is none."""
    deadline = time.monotonic() + SWEEP_S
    while (left := _processes_of(home)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(POLL_S)


def _processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("COSESSION_HOME") == str(home):
                found.append(process)
    return found
