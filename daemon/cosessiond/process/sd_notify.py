"""What a service manager is told: ready, what it is doing, alive, stopping (the protocol of sd_notify(3)).

One datagram of NAME=VALUE lines to the socket that `$NOTIFY_SOCKET` names; where there is none, all of it is nothing.

Rule: telling never waits and never fails: a service manager that does not listen is no reason to stop.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

_STATUS_CHARS_MAX: Final = 200
_USEC: Final = 1_000_000


class Notices:
    """The way to the service manager that started this process. What it said in the environment is taken out of it:
    no child of ours may speak for us.
    """

    def __init__(self, env: MutableMapping[str, str] = os.environ) -> None:
        self._address = _address(env.pop("NOTIFY_SOCKET", ""))
        usec, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        is_ours = usec.isascii() and usec.isdigit() and pid in ("", str(os.getpid())) and bool(self._address)
        #: How long the service watchdog waits for `alive` before it ends this process; 0: there is none.
        self.watchdog_s = int(usec) / _USEC if is_ours else 0.0

    @property
    def wanted(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The socket answers, for the first time or again after `reloading`."""
        self._tell("READY=1", _status(status))

    def status(self, text: str) -> None:
        """One line for people, as `systemctl status` shows it."""
        self._tell(_status(text))

    def alive(self) -> None:
        """The service watchdog may wait anew."""
        self._tell("WATCHDOG=1")

    def reloading(self, now_s: float) -> None:
        """The configuration is read again. `now_s`: of the monotonic clock, by which systemd tells this from an older
        word.
        """
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(now_s * _USEC)}")

    def stopping(self, status: str) -> None:
        """The orderly end begins."""
        self._tell("STOPPING=1", _status(status))

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.setblocking(False)
            telling.sendto("\n".join(lines).encode(), self._address)


def _address(named: str) -> str:
    """The address to send to, "" for what is none: a path, or `@` for a name without a file."""
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else ""


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())[:_STATUS_CHARS_MAX]}"
