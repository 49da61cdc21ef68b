"""The file `reserve` of the state directory: space that is held so that it can be let go of when the disk is full.

It is laid out a step at a time, with posix_fallocate where the system has it, and filled with random bytes, which no
file system packs together. Letting go of a step is a truncation. A file system that never overwrites in place (btrfs,
ZFS, APFS) gives the space back a little later, and keeps what a snapshot has: there the reserve helps less.

Rule: what is in the file means nothing, so nothing of it is synced or verified; an error while it grows means that it
does not grow, and is nobody's end.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cosession.errors import ConfigError
from cosessiond.process.durable import sync
from cosessiond.process.files import open_plain

NAME: Final = "reserve"
RESERVE_BYTES: Final = 8 * 1024 * 1024
#: The reserve is laid out and let go of in so many steps.
STEPS: Final = 8
#: Of a small file system at most this part is held.
SHARE: Final = 8
_BLOCK_BYTES: Final = 256 * 1024
_PROBE: Final = "room"
_PROBE_BYTES: Final = 64 * 1024
_UNKNOWN_BYTES: Final = 1 << 60
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class Reserve:
    """The reserve of one state directory (`directory`: its open descriptor)."""

    def __init__(self, state: Path, directory: int, random_bytes: Callable[[int], bytes]) -> None:
        self._path = state / NAME
        self._directory = directory
        self._random_bytes = random_bytes
        self._descriptor = -1
        volume = os.fstatvfs(directory)
        total = volume.f_blocks * volume.f_frsize
        self.step_bytes = max(4096, min(RESERVE_BYTES, total // SHARE) // STEPS)
        self.bytes_max = STEPS * self.step_bytes
        with contextlib.suppress(FileNotFoundError):
            self._descriptor = open_plain(self._path, os.O_RDWR)

    @property
    def bytes(self) -> int:
        """How much is held now."""
        return os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def free_bytes(self) -> int:
        """Free space beside the reserve, for this user, as far as the file system says; a quota may leave less."""
        try:
            volume = os.fstatvfs(self._directory)
        except OSError:  # it does not say: then the writes tell
            return _UNKNOWN_BYTES
        return volume.f_bavail * volume.f_frsize

    def grow(self) -> bool:
        """Hold one step more, also beyond `bytes_max`; False when there is no room for it, and nothing is changed."""
        try:
            if self._descriptor < 0:
                self._descriptor = open_plain(self._path, os.O_RDWR | os.O_CREAT)
            before = self.bytes
        except (OSError, ConfigError):  # not even a name fits, or something else is in its place
            return False
        try:
            self._fill(before, self.step_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, before)
            return False
        return True

    def shrink(self) -> None:
        """Let go of one step. The sync is for file systems that reuse the space once that is on record."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, max(0, self.bytes - self.step_bytes))
            sync(self._descriptor)

    def close(self) -> None:
        """Let go of the descriptor; the file stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _fill(self, at: int, size: int) -> None:
        allocate = getattr(os, "posix_fallocate", None)  # not on macOS
        if allocate is not None:
            try:
                allocate(self._descriptor, at, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        _write(self._descriptor, at, size, self._random_bytes(min(size, _BLOCK_BYTES)))


def refuses_to_grow(directory: Path) -> bool:
    """Whether the file system gives no more space to a new file here: it is full, or a quota is used up.

    SQLite tells a full disk from other errors, and takes a quota that is used up for one of the others.
    """
    path = directory / _PROBE
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # of a crash in the middle of this
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            path.unlink()
            _write(descriptor, 0, _PROBE_BYTES, bytes(4096))
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno in _NO_ROOM
    return False


def _write(descriptor: int, at: int, size: int, block: bytes) -> None:
    end = at + size
    while at < end:
        at += os.pwrite(descriptor, block[: end - at], at)
