"""Who a process is: boot id, pid and start time, its ancestors, and who is at the other end of a socket.

A pid alone proves nothing, it is reused; (boot id, pid, start time) is never shared by two processes. On Linux the
start time is in clock ticks since boot, from /proc: psutil's `create_time` is that plus the wall-clock moment of
boot, so it moves when the clock is set.

Rule: an identity comes from the kernel, never from what a client says. What cannot be known is None, or NotAllowed.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import Final

from msgspec import Struct

from cosession.errors import NotAllowed
from cosessiond.sessions.procs import (
    LINUX,
    CannotJudge,
    ProcessFacts,
    boot_id,
    facts,
    owner,
    same_pid_namespace,
)

__all__ = [
    "CannotJudge",
    "Peer",
    "ProcessRef",
    "ancestry",
    "boot_id",
    "owner",
    "parent",
    "peer_of",
    "same_pid_namespace",
    "start_time",
]

ANCESTORS_MAX: Final = 32

# Linux: <asm-generic/socket.h>. SO_PEERPIDFD came with 6.5; Python has no name for it.
_SO_PEERCRED: Final = 17
_SO_PEERPIDFD: Final = 77
_UCRED: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid
_NOBODY: Final = 2**32 - 1
# macOS: <sys/un.h>, and struct xucred of <sys/ucred.h>: version, uid, number of groups, 16 groups.
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_LOCAL_PEERPID: Final = 2
_XUCRED: Final = struct.Struct("IIh2x16I")


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


def pidfd_ended(pidfd: int) -> bool:
    """Whether the process of `pidfd` is over: a pidfd becomes readable when the last thread has exited."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a connected Unix socket.

    Where the kernel hands out the peer's own pidfd (Linux 6.5) the identity is exact. Before that the pidfd is opened
    by pid: if the peer died and its pid was reused between its connect() and now, the new process is taken for it.
    Raises NotAllowed when the kernel names nobody.
    """
    try:
        return _peer_linux(sock) if LINUX else _peer_darwin(sock)
    except (OSError, struct.error) as error:
        raise NotAllowed(f"cannot tell who is connected: {error}; connect over the Unix socket") from error


def _peer_linux(sock: socket.socket) -> Peer:
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _UCRED.size))
    if uid == _NOBODY:
        raise OSError(errno.ENOTCONN, "the socket has no peer")
    pidfd = _peer_pidfd(sock, pid)
    try:
        started = start_time(pid) or 0
        if pidfd >= 0 and pidfd_ended(pidfd):
            started = 0  # over: the start time may already be that of the next process with this pid
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return Peer(pid=pid, uid=uid, gid=gid, start_time=started)


def _peer_pidfd(sock: socket.socket, pid: int) -> int:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT or pid <= 0:
            return -1
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _peer_darwin(sock: socket.socket) -> Peer:
    uid, gid = parse_xucred(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    pid = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID)
    return Peer(pid=pid, uid=uid, gid=gid, start_time=start_time(pid) or 0)


def parse_xucred(raw: bytes) -> tuple[int, int]:
    """(uid, gid) of a macOS `struct xucred`, whose first group is the effective one; (uid, -1) without groups."""
    _, uid, groups, *gids = _XUCRED.unpack(raw)
    return uid, gids[0] if groups > 0 else -1


def _known(pid: int) -> ProcessFacts | None:
    try:
        return facts(pid)
    except CannotJudge:
        return None
