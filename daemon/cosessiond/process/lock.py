"""The single-instance lock: one daemon per state directory, for as long as it lives.

Rule: lock first, everything else after; the file is never unlinked, so that there is never a second one to lock. Its
content (JSON) tells clients where the holder listens; the lock itself, not the content, says whether it lives.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

# portalocker asks for the directory of temporary files while it is imported, though nothing used here needs one, and
# Python looks for it by writing: on a full disk, or where it may write to none, there would be no daemon.
_before, tempfile.tempdir = tempfile.tempdir, os.sep
import portalocker  # noqa: E402

tempfile.tempdir = _before

from msgspec import DecodeError, Struct, ValidationError, json  # noqa: E402

from cosession.errors import ConfigError, CosessionError  # noqa: E402
from cosessiond.process.files import open_plain  # noqa: E402
from cosessiond.process.neighbour import answering_pid  # noqa: E402

_LOOKS: Final = 25
_LOOK_S: Final = 0.02


class Holder(Struct, frozen=True, kw_only=True):
    """Who holds the lock; what `daemon.lock` contains. `act`: what it does to the store instead of serving it."""

    pid: int
    start_time: int = 0
    boot_id: str = ""
    socket: str = ""
    version: str = ""
    daemon_id: str = ""
    act: str = ""


class InstanceLock:
    """`daemon.lock`, held from construction to `release`.

    Raises CosessionError already_running naming the holder, ConfigError when the file cannot be opened.
    """

    def __init__(self, path: Path, pause: Callable[[float], None]) -> None:
        self._path = path
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            portalocker.lock(self._file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked as error:
            holder = _living_holder(path, pause)
            self._file.close()
            raise _already_running(holder) from error
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


def _already_running(holder: Holder | None) -> CosessionError:
    """The error for whoever wanted the lock of `holder` (None: it has not said yet who it is)."""
    if holder and holder.act:
        return CosessionError(
            f"cannot start: already running, {holder.act} is at work on the store (pid {holder.pid}); "
            "wait until it has ended",
            code="already_running",
            data={"pid": holder.pid, "act": holder.act},
        )
    who = f"pid {holder.pid}, version {holder.version}" if holder else "it is still starting"
    what_to_do = "use it, or run: cosession restart"
    if holder and holder.socket and answering_pid(Path(holder.socket)) is None:
        who += f", but nobody answers on its socket {holder.socket}: it is ending, or the socket was removed"
        what_to_do = f"run: kill {holder.pid}, then: cosession start"
    return CosessionError(
        f"cannot start: already running ({who}); {what_to_do}",
        code="already_running",
        data={"pid": holder.pid if holder else 0},
    )


def _living_holder(path: Path, pause: Callable[[float], None]) -> Holder | None:
    """Who holds the lock now. Between taking the lock and saying so there is a moment in which the file still names
    the one before, whose process is gone; that is waited out, bounded.
    """
    for _ in range(_LOOKS):
        holder = read_holder(path)
        if holder and _exists(holder.pid):
            return holder
        pause(_LOOK_S)
    return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_holder(path: Path) -> Holder | None:
    """The content of a lock file, None when there is none or it is being written."""
    try:
        return json.decode(path.read_bytes(), type=Holder)
    except (OSError, DecodeError, ValidationError):
        return None
