"""Who is at the other end of a connected Unix socket, by word of the kernel: its pid and its user.

The numbers and the layouts of both systems, for the daemon, the library and the fast verbs alike. What the kernel
answers in another shape than its headers say is refused, not guessed: nobody is trusted by a number at a wrong place.

Linux, SO_PEERCRED of socket(7): struct ucred { pid_t pid; uid_t uid; gid_t gid; } of the process that called connect(),
kept by the kernel from that moment on. The pid is 0 where that process lives in a pid namespace not visible here.

macOS, <sys/un.h> and struct xucred of <sys/ucred.h>: the effective user and groups at connect(), also kept. The pid
(LOCAL_PEERPID) is that of the process that used the other end last, and there is none (ENOTCONN) once that end is
closed. LOCAL_PEEREPID differs only for sockets delegated to another process, which is not who acts. Never run on a Mac.

Rule: the standard library's C parts only; the fast verbs load this. What cannot be told is an OSError.
"""

from __future__ import annotations

import _socket
import sys
from errno import EBADMSG, ENOTCONN, EOPNOTSUPP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol

    class Answers(Protocol):
        """A socket, as far as it is asked here."""

        def getsockopt(self, level: int, option: int, length: int, /) -> bytes:
            """The raw answer of the kernel, as long as the kernel made it."""
            ...


PLATFORM: Final = sys.platform

#: 17 on most machines; the names of the other system are missing from Python's module.
_SO_PEERCRED: Final[int] = getattr(_socket, "SO_PEERCRED", 17)
_UCRED_BYTES: Final = 12  # Linux: three numbers of 32 bits
_NOBODY: Final = 2**32 - 1  # (uid_t) -1: a socket that was never connected

_SOL_LOCAL: Final = 0  # macOS <sys/un.h>
_LOCAL_PEERCRED: Final = 0x001
_LOCAL_PEERPID: Final = 0x002
_XUCRED_VERSION: Final = 0  # <sys/ucred.h>
_XUCRED_BYTES: Final = 76  # u_int version, uid_t uid, short ngroups, 2 bytes of padding, gid_t groups[NGROUPS]
_NGROUPS: Final = 16  # <sys/syslimits.h>
_PID_BYTES: Final = 4


def credentials(sock: Answers, platform: str = PLATFORM) -> tuple[int, int, int]:
    """(pid, uid, gid) of the peer: pid 0 where the kernel names none, gid -1 where it names no group."""
    if platform == "linux":
        return decode_ucred(sock.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, _UCRED_BYTES))
    if platform != "darwin":
        raise OSError(EOPNOTSUPP, f"nobody knows how to ask {platform} for the peer of a socket")
    uid, gid = decode_xucred(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES))
    try:
        raw = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, _PID_BYTES)
    except OSError as error:
        if error.errno != ENOTCONN:
            raise
        return 0, uid, gid  # it hung up already; what it sent before is still here to read
    if len(raw) != _PID_BYTES:
        raise OSError(EBADMSG, f"the kernel names the peer's process in {len(raw)} bytes, not {_PID_BYTES}")
    return int.from_bytes(raw, sys.byteorder, signed=True), uid, gid


def uid_of(sock: Answers, platform: str = PLATFORM) -> int:
    """The user the peer runs as; raises OSError where the kernel does not say."""
    return credentials(sock, platform)[1]


def pid_of(sock: Answers, platform: str = PLATFORM) -> int:
    """The process at the other end, 0 where the kernel does not say. For messages; `credentials` is for decisions."""
    try:
        return credentials(sock, platform)[0]
    except OSError:
        return 0


def decode_ucred(raw: bytes) -> tuple[int, int, int]:
    """(pid, uid, gid) of a Linux `struct ucred`."""
    if len(raw) != _UCRED_BYTES:
        raise OSError(EBADMSG, f"the kernel's struct ucred has {len(raw)} bytes, not {_UCRED_BYTES}")
    pid, uid, gid = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4, 8))
    if uid == _NOBODY:
        raise OSError(ENOTCONN, "the socket has no peer")
    return pid, uid, gid


def decode_xucred(raw: bytes) -> tuple[int, int]:
    """(uid, gid) of a macOS `struct xucred`, whose first group is the effective one; (uid, -1) without groups."""
    if len(raw) != _XUCRED_BYTES:
        raise OSError(EBADMSG, f"the kernel's struct xucred has {len(raw)} bytes, not {_XUCRED_BYTES}")
    version, uid = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4))
    groups = int.from_bytes(raw[8:10], sys.byteorder, signed=True)
    if version != _XUCRED_VERSION or not 0 <= groups <= _NGROUPS:
        raise OSError(EBADMSG, f"the kernel's struct xucred is of version {version} with {groups} groups")
    return uid, int.from_bytes(raw[12:16], sys.byteorder) if groups else -1
