"""The single-instance lock: one daemon per state directory, for as long as it lives.

Rule: lock first, everything else after; the file is never unlinked, so that there is never a second one to lock. Its
content (JSON) tells clients where the holder listens; the lock itself, not the content, says whether it lives.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import portalocker
from msgspec import DecodeError, Struct, ValidationError, json

from cosession.errors import ConfigError, CosessionError


class Holder(Struct, frozen=True, kw_only=True):
    """Who holds the lock; what `daemon.lock` contains."""

    pid: int
    start_time: int = 0
    boot_id: str = ""
    socket: str = ""
    version: str = ""
    daemon_id: str = ""


class InstanceLock:
    """`daemon.lock`, held from construction to `release`.

    Raises CosessionError already_running naming the holder, ConfigError when the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot open {path}: {error.strerror}; it must be a plain file of yours") from error
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            portalocker.lock(self._file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked as error:
            holder = read_holder(path)
            self._file.close()
            who = f"pid {holder.pid}, version {holder.version}" if holder else "it is still starting"
            raise CosessionError(
                f"cannot start: already running ({who}); use it, or run: cosession restart",
                code="already_running",
                data={"pid": holder.pid if holder else 0},
            ) from error
        except portalocker.LockException as error:
            self._file.close()
            raise ConfigError(f"cannot lock {path}: {error}; keep the state on a local disk") from error
        self._inode = os.fstat(self._file.fileno()).st_ino

    def publish(self, holder: Holder) -> None:
        """Write who holds the lock and where it listens."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.encode(holder) + b"\n")

    def still_ours(self) -> bool:
        """False when someone has removed or replaced the file: another daemon could then hold "the" lock too."""
        try:
            return os.lstat(self._path).st_ino == self._inode
        except OSError:
            return False

    def release(self) -> None:
        """Let the next daemon in. The content stays, as the trace of the last holder."""
        self._file.close()


def read_holder(path: Path) -> Holder | None:
    """The content of a lock file, None when there is none or it is being written."""
    try:
        return json.decode(path.read_bytes(), type=Holder)
    except (OSError, DecodeError, ValidationError):
        return None
