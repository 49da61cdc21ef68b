"""Which file system an open directory lies on: by /proc/self/mountinfo on Linux, by fstatfs(2) on macOS.

The structure is `struct statfs` with 64-bit inodes of <sys/mount.h>, the only one on Apple silicon; on Intel its
function has a name of its own. Written from the header and never run on a Mac.

Rule: what cannot be told is "", which nobody refuses.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

#: File systems whose locks and syncs a store cannot rely on; names as in mountinfo, and as in f_fstypename.
NETWORK: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "ncpfs", "coda"),
        *("ocfs2", "gfs2", "beegfs", "webdav", "davfs", "vboxsf", "prl_fs", "fuse.sshfs", "fuse.glusterfs"),
        *("fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs2", "afpfs", "ftp"),
    )
)

_MNT_LOCAL: Final = 0x00001000  # <sys/mount.h>: stored locally
_STATFS_BYTES: Final = 2168
_FLAGS_AT: Final = 64  # after 2 numbers of 32 bits, 5 of 64, fsid_t (2 of 32), owner and type (32 each)
_NAME_AT: Final = 72
_NAME_BYTES: Final = 16  # MFSTYPENAMELEN, with the NUL


class FileSystem(Struct, frozen=True):
    """`kind` is "" when unknown; `local` False where the system itself says that it is not stored on this machine."""

    kind: str
    local: bool = True

    @property
    def is_network(self) -> bool:
        """Whether a store must not be kept there."""
        return not self.local or self.kind in NETWORK


def file_system_of(descriptor: int) -> FileSystem:
    """Of an open file or directory."""
    if sys.platform == "darwin":
        return by_fstatfs(descriptor)
    return by_mountinfo(os.fstat(descriptor).st_dev)


def by_mountinfo(device: int, mountinfo: Path = Path("/proc/self/mountinfo")) -> FileSystem:
    """Of a mounted device (https://man7.org/linux/man-pages/man5/proc.5.html)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mountinfo.read_text(errors="replace").splitlines()
    except OSError:
        return FileSystem("")
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split(" ")[2:3] == [wanted]:
            return FileSystem(after.split(" ")[0])
    return FileSystem("")


def by_fstatfs(descriptor: int, libc: Any = None) -> FileSystem:
    """Of an open file, by the C library of macOS or what stands in for it. It asks the mounted file system nothing, so
    a server that does not answer holds nothing up.
    """
    import ctypes  # only here: it is not light

    library = ctypes.CDLL(None, use_errno=True) if libc is None else libc
    ask = getattr(library, "fstatfs$INODE64", None) or getattr(library, "fstatfs", None)
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if ask is None or ask(ctypes.c_int(descriptor), buffer):
        return FileSystem("")
    raw = buffer.raw
    flags = int.from_bytes(raw[_FLAGS_AT : _FLAGS_AT + 4], sys.byteorder)
    kind = raw[_NAME_AT : _NAME_AT + _NAME_BYTES].partition(b"\0")[0].decode("ascii", "replace")
    return FileSystem(kind, local=bool(flags & _MNT_LOCAL)) if kind else FileSystem("")
