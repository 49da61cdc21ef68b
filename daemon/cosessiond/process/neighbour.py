"""Whether another daemon answers on a socket, and which process that is.

Rule: it asks the kernel alone, so that a daemon that is stopped or busy counts as answering, and nothing waits.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from cosession import peer
from cosession.errors import CosessionError


def answering_pid(path: Path) -> int | None:
    """The process that listens on the socket at `path`: 0 when nobody can tell which, None when there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            found = probe.connect_ex(os.fspath(path))
            if found in (errno.EAGAIN, errno.EINPROGRESS):  # its queue of connections is full
                return 0
            return peer.pid_of(probe) if found == 0 else None
        except OSError:  # a path no socket can have
            return None


def refuse_neighbour(path: Path) -> None:
    """Raises CosessionError already_running when another daemon listens on the socket that would be ours.

    The lock does not tell: somebody may have removed `daemon.lock` by hand, or a daemon of another state directory
    was given the same socket and holds another lock.
    """
    pid = answering_pid(path)
    if pid is not None:
        who = f"pid {pid}" if pid else "its pid cannot be told"
        raise CosessionError(
            f"cannot start: already running ({who}) on the socket {path}, under another lock file; use that daemon, "
            "end it with: cosession stop, or give this one another COSESSION_SOCKET",
            code="already_running",
            data={"pid": pid},
        )
