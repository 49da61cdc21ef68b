"""What tests against a daemon under attack need: lower limits, a bystander who must not notice, and its memory.

Rule: a bound in seconds here tells an answer from none, never fast from slow.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil

from harness import MEASURED, Daemon, private_home
from rawclient import Ended, Pack, Peer

#: How long a bystander waits for a ping: far more than a daemon in order needs, with other tests beside this one.
ANSWERED_S = 20.0 if MEASURED else 4.0
PAUSE_S = 0.02
MIB = 1 << 20


def configure(home: Path, **limits: float) -> None:
    """Lower limits of the daemon that will be started for `home`."""
    directory = home / "config"
    directory.mkdir(exist_ok=True)
    lines = "".join(f"{name} = {number}\n" for name, number in limits.items())
    (directory / "config.toml").write_text(f"[limits]\n{lines}", encoding="utf-8")


@contextlib.contextmanager
def serving(**limits: float) -> Iterator[Daemon]:
    """A daemon with lower limits in a home of its own."""
    with private_home() as home:
        configure(home, **limits)
        with Daemon(home) as daemon:
            yield daemon


class Watched:
    """While this context lasts, another client pings and somebody measures memory; both must end well.

    On leaving: every ping was answered within ANSWERED_S, and the daemon's memory never was `grown_max` bytes above
    what it was at the beginning.
    """

    def __init__(self, daemon: Daemon, *, grown_max: int = 48 * MIB) -> None:
        self._path = daemon.socket
        self._process = psutil.Process(daemon.pid)
        self._grown_max = grown_max
        self._done = threading.Event()
        self._wrong: list[str] = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.pings = 0
        self.grown = 0

    def __enter__(self) -> Self:
        self._before = self._process.memory_info().rss
        self._peer = Pack(self._path, timeout_s=ANSWERED_S)
        self._peer.reply("ping")
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._done.set()
        self._thread.join()
        self._peer.close()
        if error is None:
            assert not self._wrong, self._wrong
            assert self.pings
            assert self.grown <= self._grown_max, f"{self.grown / MIB:.0f} MiB more than before"

    def until(self, pings: int) -> None:
        """Wait until so many more pings have been answered."""
        wanted = self.pings + pings
        while self.pings < wanted and self._thread.is_alive():
            time.sleep(PAUSE_S)

    def _look(self) -> None:
        while not self._done.is_set():
            try:
                self._peer.reply("ping")
            except (OSError, Ended, AssertionError) as error:
                self._wrong.append(f"after {self.pings} pings: {error!r}")
                return
            self.pings += 1
            with contextlib.suppress(psutil.NoSuchProcess):
                self.grown = max(self.grown, self._process.memory_info().rss - self._before)
            self._done.wait(PAUSE_S)


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = 10.0) -> None:
    """Wait until `holds`; fails with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def rests(daemon: Daemon) -> None:
    """Wait until no thread of it wakes for half a second; by /proc."""
    process = psutil.Process(daemon.pid)

    def wakes() -> int:
        found = 0
        for thread in process.threads():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ended meanwhile
                text = Path(f"/proc/{process.pid}/task/{thread.id}/status").read_text(encoding="ascii")
                found += int(text.split("voluntary_ctxt_switches:")[1].split()[0])
        return found

    settled = [wakes()]

    def rested() -> bool:
        settled.append(wakes())
        return settled[-1] - settled[-50 if len(settled) > 50 else 0] == 0 and len(settled) > 50

    eventually(rested, "no thread wakes for half a second")


def drop(peer: Peer) -> None:
    """Close without reading what is left."""
    with contextlib.suppress(OSError):
        peer.close()
