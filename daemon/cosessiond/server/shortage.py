"""When the system has no descriptor left: who comes is refused with a word instead of waiting for nothing.

One descriptor is kept in reserve. It is given up for the moment in which a connection is taken, told why, and closed,
so that the backlog drains, nothing spins, and the first connection that fits again is served at once.

Rule: said once when it begins and once when it is over, and at most once in TOLD_EVERY_S.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from cosession.errors import CosessionError, Overloaded
from cosessiond.clock import Clock

TOLD_EVERY_S: Final = 60.0
_WHY: Final = (
    "cannot connect: the daemon has no file descriptor left; close connections, or raise its limit (ulimit -n)"
)


class Shortage:
    """The reserve, and what has been said about its use."""

    def __init__(self, clock: Clock, log: Any) -> None:
        self._clock = clock
        self._log = log
        self._told_s: float | None = None
        self._is_told = False
        self._refused = 0
        self._reserve = -1
        self._fill()

    def close(self) -> None:
        """Give the reserve back."""
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

    def refuse(self, listening: socket.socket, refuse: Callable[[socket.socket, CosessionError], None]) -> None:
        """Take one waiting connection by means of the reserve, and `refuse` it, which closes it.

        Raises what accept raises: BlockingIOError when nobody waits (a full table hides that), OSError when even the
        reserve does not help.
        """
        self.close()
        try:
            sock, _ = listening.accept()
            refuse(sock, Overloaded(_WHY))
        finally:
            self._fill()
        self._refused += 1
        self.begins(_WHY)

    def begins(self, why: str) -> None:
        """Connections are not taken, from now on or still."""
        now_s = self._clock.monotonic()
        if not self._is_told and (self._told_s is None or now_s >= self._told_s + TOLD_EVERY_S):
            self._told_s = now_s
            self._is_told = True
            self._log.warning("cannot accept", reason=why)

    def ends(self) -> None:
        """A connection was taken."""
        if self._is_told:
            self._log.info("accepting again", refused=self._refused)
        self._is_told = False
        self._refused = 0
        if self._reserve < 0:
            self._fill()

    def _fill(self) -> None:
        with contextlib.suppress(OSError):  # somebody else was faster; the next `ends` tries again
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
