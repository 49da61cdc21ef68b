"""Whole files copied with a word on how far it is, and the room that this takes.

Rule: what is too large for the disk is refused before a byte is written; what was copied is synced.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cosession.errors import CosessionError
from cosessiond.process.durable import sync
from cosessiond.process.files import open_plain

_CHUNK_BYTES: Final = 1024 * 1024
#: What must stay free beside the copies: directories, the journal, the first commits afterwards.
SPARE_BYTES: Final = 8 * 1024 * 1024

Tell = Callable[[int, int], None]


def size_of(path: Path) -> int:
    """Bytes of a file, 0 when it is not there."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def demand_room(directory: int, needed: int, what: str) -> None:
    """Raises CosessionError disk_full when the disk of an open directory has no room for `needed` bytes more."""
    volume = os.fstatvfs(directory)
    free = volume.f_bavail * volume.f_frsize
    if free < needed + SPARE_BYTES:
        raise CosessionError(
            f"cannot {what}: it takes {needed + SPARE_BYTES:,} bytes, the disk has {free:,}; free space and try again",
            code="disk_full",
            data={"needed_bytes": needed + SPARE_BYTES, "free_bytes": free},
        )


def copy(source: Path, target: Path, tell: Tell = lambda _done, _all: None) -> None:
    """Copy a plain file of ours to a new one (0600), synced. Raises OSError, ConfigError."""
    with os.fdopen(open_plain(source, os.O_RDONLY), "rb") as old:
        size, done = os.fstat(old.fileno()).st_size, 0
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(made, "wb") as new:
            while data := old.read(_CHUNK_BYTES):
                new.write(data)
                done += len(data)
                tell(done, size)
            new.flush()
            sync(made)
