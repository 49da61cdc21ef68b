"""The daemon's directories: made, opened once without following links, and checked before anything trusts them.

Rule: owner, mode and file system are checked on the open descriptor; what is wrong is refused with the command that
mends it, and nothing is changed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cosession.errors import ConfigError
from cosessiond.process.durable import make_directory
from cosessiond.process.filesystems import file_system_of


def private_directory(path: Path) -> int:
    """Make `path` if it is not there (0700, parents too) and return an open descriptor of it.

    Raises ConfigError when it is a link, not a directory, not ours, or open to others.
    """
    try:
        make_directory(os.fspath(path))
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
    found = file_system_of(descriptor)
    if found.is_network:
        raise ConfigError(
            f"cannot keep the store in {path}: {found.kind} is a network file system, whose locks and syncs do not "
            "hold; set COSESSION_HOME to a directory on a local disk"
        )
