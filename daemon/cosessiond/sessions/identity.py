"""Who a process is: boot id, pid and start time, its ancestors, and who is at the other end of a socket.

A pid alone proves nothing, it is reused; (boot id, pid, start time) is never shared by two processes. On Linux the
start time is in clock ticks since boot, from /proc: psutil's `create_time` is that plus the wall-clock moment of
boot, so it moves when the clock is set. On macOS it is the wall clock at the moment of the fork, in microseconds, which
the kernel notes once (`procs.facts_psutil`). Neither changes by exec: that is another program in the same process.

Rule: an identity comes from the kernel, never from what a client says. What cannot be known is None, or NotAllowed.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from cosession.errors import NotAllowed
from cosession.peer import PLATFORM, credentials
from cosessiond.sessions.procs import (
    LINUX,
    CannotJudge,
    ProcessFacts,
    boot_id,
    facts,
    owner,
    same_pid_namespace,
)

if TYPE_CHECKING:
    from cosession.peer import Answers

__all__ = [
    "CannotJudge",
    "Peer",
    "ProcessRef",
    "ancestry",
    "ancestry_of",
    "boot_id",
    "owner",
    "parent",
    "peer_of",
    "same_pid_namespace",
    "start_time",
]

ANCESTORS_MAX: Final = 32
_OPEN_PIDFD: Final[Callable[[int], int] | None] = getattr(os, "pidfd_open", None)

#: Linux: <asm-generic/socket.h>. SO_PEERPIDFD came with 6.5; Python has no name for it.
_SO_PEERPIDFD: Final = 77
#: What it answers for a peer that is over and was collected: EINVAL from pidfd_prepare() until 6.15, ESRCH since; a
#: kernel that still has a pidfd for such a process (6.16) gives it out. ENODATA: it never knew one.
_COLLECTED: Final = (errno.EINVAL, errno.ESRCH, errno.ENODATA)


class ProcessRef(Struct, frozen=True):
    """One process of this boot."""

    pid: int
    start_time: int


class Peer(Struct, frozen=True):
    """The process at the other end of a Unix socket, as the kernel names it: the one that called connect().

    `pid` is 0 when it lives in a pid namespace that is not visible here; `start_time` is 0 when it is over or not
    visible.
    """

    pid: int
    uid: int
    gid: int
    start_time: int = 0


def start_time(pid: int) -> int | None:
    """When `pid` started (see `cosession.model.Instance`), None when there is no such process or nobody can tell."""
    found = _known(pid)
    return found.start_time if found else None


def parent(pid: int) -> int | None:
    """The parent of `pid`; None when there is no such process, or it has no parent that is visible here."""
    found = _known(pid)
    return found.parent or None if found else None


def ancestry(pid: int, limit: int = ANCESTORS_MAX) -> tuple[ProcessRef, ...]:
    """`pid` and its ancestors, nearest first, at most `limit`; empty when there is no such process.

    Each step is proved: the child is read again after its parent, and still has that parent. So a parent that died
    in between, and whose pid went to another process, never stands in the answer.
    """
    chain: list[ProcessRef] = []
    child = _known(pid)
    while child and len(chain) < limit:
        chain.append(ProcessRef(child.pid, child.start_time))
        above = _known(child.parent)
        if above and _known(child.pid) != child:
            break  # over or adopted while we looked: what is above is not certain
        child = above
    return tuple(chain)


def ancestry_of(peer: Peer) -> tuple[ProcessRef, ...]:
    """`ancestry` of the process that connected; empty when it is over, whoever has its pid now."""
    chain = ancestry(peer.pid) if peer.start_time else ()
    return chain if chain[:1] == (ProcessRef(peer.pid, peer.start_time),) else ()


def pidfd_ended(pidfd: int) -> bool:
    """Whether the process of `pidfd` is over: a pidfd becomes readable when the last thread has exited."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a connected Unix socket.

    Where the kernel hands out the peer's own pidfd (Linux 6.5) the identity is exact. Before that the pidfd is opened
    by pid: if the peer died and its pid was reused between its connect() and now, the new process is taken for it.
    On macOS the peer is whoever used the other end last (see `cosession.peer`); it is asked for again after the look,
    and by then the other end of a process that died is closed, unless another process has it too.
    Raises NotAllowed when the kernel names nobody.
    """
    try:
        pid, uid, gid = credentials(sock)
        started = (_started_linux(sock, pid) if LINUX else started_elsewhere(sock, pid)) if pid > 0 else 0
    except OSError as error:
        raise NotAllowed(f"cannot tell who is connected: {error}; connect over the Unix socket") from error
    return Peer(pid=pid, uid=uid, gid=gid, start_time=started)


def _started_linux(sock: socket.socket, pid: int) -> int:
    """When the peer started, 0 when it is over: then the number may already be that of the next process."""
    try:
        pidfd = _peer_pidfd(sock, pid)
    except ProcessLookupError:
        return 0
    try:
        started = start_time(pid) or 0
        return 0 if pidfd >= 0 and pidfd_ended(pidfd) else started
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def _peer_pidfd(sock: socket.socket, pid: int) -> int:
    """A pidfd of the peer, -1 when none can be had. Raises ProcessLookupError when the peer is over and collected."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno in _COLLECTED:
            raise ProcessLookupError(errno.ESRCH, "the peer is over") from error
    try:
        return _OPEN_PIDFD(pid) if _OPEN_PIDFD is not None else -1
    except ProcessLookupError:
        raise
    except OSError:
        return -1


def started_elsewhere(sock: Answers, pid: int, platform: str = PLATFORM) -> int:
    """`_started_linux` where there are no pidfds."""
    started = start_time(pid) or 0
    return started if credentials(sock, platform)[0] == pid else 0


def _known(pid: int) -> ProcessFacts | None:
    try:
        return facts(pid)
    except CannotJudge:
        return None
