"""Told of ended processes by Linux: a pidfd for each, which becomes readable when the last thread has exited.

Rule: at most half of the descriptors of this process; the listener needs some too.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from cosessiond.sessions.notifying import AddReader, Attached, RemoveReader


def pidfds_allowed() -> int:
    """Half of the descriptors this process may open: the other half is for connections and files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (soft if soft > 0 else 2**16) // 2


class Pidfds:
    """`notifying.Notifier` of Linux. `open_pidfd` is os.pidfd_open (5.3); `pidfds_max` None: `pidfds_allowed`."""

    def __init__(
        self,
        open_pidfd: Callable[[int], int],
        add_reader: AddReader,
        remove_reader: RemoveReader,
        *,
        pidfds_max: int | None = None,
    ) -> None:
        self._open_pidfd = open_pidfd
        self._add_reader = add_reader
        self._remove_reader = remove_reader
        self._pidfds_max = pidfds_max
        self._open = 0

    def count(self) -> int:
        """See `Notifier`."""
        return self._open

    def attach(self, pid: int, ended: Callable[[str], None], lost: Callable[[], None]) -> Attached | None:  # noqa: ARG002  # a pidfd stays
        """See `Notifier`. A process that is over and not collected is attached to, and `ended` follows."""
        most = pidfds_allowed() if self._pidfds_max is None else self._pidfds_max  # the limit may be raised later
        if self._open >= most:
            return None
        try:
            pidfd = self._open_pidfd(pid)
        except ProcessLookupError:
            raise
        except OSError:
            return None
        attached = _Pidfd(self, pidfd)
        self._open += 1
        try:
            self._add_reader(pidfd, lambda: ended("pidfd readable"))
        except OSError:  # epoll has limits of its own
            attached.close()
            return None
        return attached

    def release(self, pidfd: int) -> None:
        """For `_Pidfd.close` only."""
        self._open -= 1
        self._remove_reader(pidfd)
        os.close(pidfd)


class _Pidfd:
    def __init__(self, owner: Pidfds, pidfd: int) -> None:
        self._owner = owner
        self._pidfd = pidfd

    def close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            self._owner.release(pidfd)
