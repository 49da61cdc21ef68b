"""How much of SQLite's write-ahead log counts: the frames since it was last begun anew.

The file does not tell by its size: it is written from its start again after each checkpoint, since overwriting costs
the disk a third less than growing. Its frames tell: those of the present round carry the salts of the header
(https://www.sqlite.org/fileformat.html#the_write_ahead_log).

Rule: reads the headers of frames, and writes only where SQLite has written nothing yet. A descriptor of its own is safe
here: the locks of SQLite are on the database file, never on this one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from cosessiond.process.durable import sync

HEADER_BYTES: Final = 32
FRAME_BYTES: Final = 24
#: With less free space than this nothing is laid out ahead: whoever has little needs it for other things.
FREE_BYTES_MIN: Final = 256 * 1024 * 1024


def lay_out(path: Path, size: int) -> None:
    """Fill an empty WAL with zeros, so that its first round overwrites as well: a sync has no new length to record.

    SQLite takes a header of zeros for an empty log. Where there is no room, it grows as it would have.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        volume = os.fstatvfs(descriptor)
        if os.fstat(descriptor).st_size or volume.f_bavail * volume.f_frsize < FREE_BYTES_MIN:
            return
        with contextlib.suppress(OSError):
            os.write(descriptor, bytes(size))
            sync(descriptor)
    finally:
        os.close(descriptor)


class Wal:
    """The position in one WAL file, followed as it is written; the file must stay the same one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._salts = b""
        self._frame = 0  # bytes of one, with its page
        self._frames = 0
        self._moved = (b"", 0)

    def bytes(self) -> int:
        """Bytes that the next start would read; costs a few system calls, however much is new since the last look."""
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return 0
        header = os.pread(self._descriptor, HEADER_BYTES, 0)
        if len(header) < HEADER_BYTES or not any(header):
            return 0
        if header[16:24] != self._salts:
            self._salts = header[16:24]
            self._frame = FRAME_BYTES + int.from_bytes(header[8:12])
            self._frames = 0
        self._frames = self._end()
        return 0 if (self._salts, self._frames) == self._moved else self._frames * self._frame

    def _end(self) -> int:
        """How many frames are of this round. They are written one behind the other: where one is, all before it are, so
        the last is found by steps that grow, and then by halves.
        """
        known, step = self._frames, 1
        while self._is_of_round(known + step - 1):
            known += step
            step *= 2
        while step > 1:  # of the next `step` frames the last is not
            step //= 2
            if self._is_of_round(known + step - 1):
                known += step
        return known

    def _is_of_round(self, frame: int) -> bool:
        header = os.pread(self._descriptor, FRAME_BYTES, HEADER_BYTES + frame * self._frame)
        return len(header) == FRAME_BYTES and header[8:16] == self._salts

    def moved(self) -> None:
        """A checkpoint has brought all of it into the database."""
        self.bytes()
        self._moved = self._salts, self._frames

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
