"""The daemon's directories: made, opened once without following links, and checked before anything trusts them.

Rule: owner, mode and file system are checked on the open descriptor; what is wrong is refused with the command that
mends it, and nothing is changed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cosession.errors import ConfigError

#: File systems whose locks and syncs a store cannot rely on; names as in /proc/self/mountinfo.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "ncpfs", "coda"),
        *("ocfs2", "gfs2", "beegfs", "webdav", "davfs", "vboxsf", "prl_fs", "fuse.sshfs", "fuse.glusterfs"),
        *("fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs2"),
    )
)


def private_directory(path: Path) -> int:
    """Make `path` if it is not there (0700, parents too) and return an open descriptor of it.

    Raises ConfigError when it is a link, not a directory, not ours, or open to others.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"cannot use directory {path}: {error.strerror}; it must be a directory of yours, not a link"
        ) from error
    try:
        _check(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"cannot use directory {path}: it belongs to uid {status.st_uid}, this is uid {os.geteuid()}; "
            f"move it away, or set COSESSION_HOME to a directory of yours"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(
            f"cannot use directory {path}: mode {stat.S_IMODE(status.st_mode):04o} lets others in; "
            f"run: chmod 700 {path}"
        )


def refuse_network_file_system(path: Path, descriptor: int) -> None:
    """Raises ConfigError when the directory lies on a network file system, as far as that can be told."""
    kind = _file_system(os.fstat(descriptor).st_dev)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"cannot keep the store in {path}: {kind} is a network file system, whose locks and syncs do not hold; "
            "set COSESSION_HOME to a directory on a local disk"
        )


def _file_system(device: int, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the mounted device, "" when unknown (https://man7.org/linux/man-pages/man5/proc.5.html)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mountinfo.read_text(errors="replace").splitlines()
    except OSError:
        return _file_system_elsewhere(device)
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split(" ")[2:3] == [wanted]:
            return after.split(" ")[0]
    return ""


def _file_system_elsewhere(device: int) -> str:
    import psutil  # only where there is no /proc

    for partition in psutil.disk_partitions(all=True):
        try:
            if Path(partition.mountpoint).stat().st_dev == device:
                return str(partition.fstype)
        except OSError:
            continue
    return ""
