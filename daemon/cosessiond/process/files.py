"""Opening the daemon's own small files: never through a link, never a pipe or a device, never one of somebody else.

Rule: what is there is checked on the open descriptor, and nothing but a plain file of ours is read or written.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cosession.errors import ConfigError


def open_plain(path: Path, flags: int) -> int:
    """A descriptor of the plain file at `path`, made 0600 when `flags` ask for it.

    Raises FileNotFoundError, and ConfigError for anything but a plain file of ours.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot open {path}: {error.strerror}; it must be a plain file of yours") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise ConfigError(f"cannot open {path}: it is no plain file of yours; move it away")
    return descriptor
