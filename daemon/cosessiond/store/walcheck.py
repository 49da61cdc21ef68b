"""Whether the write-ahead log was cut short by damage, though what follows proves that it once was whole.

SQLite ends a log at the first frame whose checksum fails, and drops what follows without a word: that is how it forgets
what a crash left half written. But a transaction is only begun when the one before it was synced. So where a frame
fails and a later transaction was begun behind its own, it was not a crash: the disk held it whole, and now does not.

Each frame's checksum goes on from that of the frame before it. A transaction counts as begun when its first frame is of
this round and goes on from the last of the one before: leftovers of an earlier crash, which may stand there as well, do
not, and what an earlier round left goes on from its own. A power cut may keep the last frame of a transaction and lose
those before it, where two of the earlier round then stand.

A header that does not hold makes SQLite drop all of it; it is not cut short by a crash either.

What it cannot know: whether the very last transaction was synced. Rule: reads, and writes nothing.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

from cosessiond.process.files import open_plain

HEADER_BYTES: Final = 32
FRAME_BYTES: Final = 24
#: Of the header, what its checksum is over.
_SUMMED_BYTES: Final = 24
#: The last byte of the magic number when checksums are over big-endian words.
_BIG_ENDIAN: Final = 0x83
_MASK: Final = 0xFFFFFFFF

Sums = tuple[int, int]


def torn(path: Path) -> str:
    """Why the log at `path` cannot be what was synced, "" when nothing says so."""
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                return ""
            rest = file.read()
    except FileNotFoundError:
        return ""
    if wrong := _unlike_a_header(header, rest):
        return wrong
    log = _Log.of(header)
    if log is None:
        return ""
    frames = log.frames(rest)
    sums = log.first
    for number, frame in enumerate(frames):
        if not frame.is_of_this_round or log.sums(frame, sums) != frame.sums:  # SQLite reads up to here
            return _later(log, frames, number)
        sums = frame.sums
    return ""


def _unlike_a_header(header: bytes, rest: bytes) -> str:
    """Why this can never have been the beginning of a log, in words: SQLite would take all of it for nothing. A header
    is written as a whole, in one sector, and synced before the first frame behind it.
    """
    if not any(header):
        return "" if rest.count(0) == len(rest) else "its header is gone, though frames were written behind it"
    order = ">" if header[3] == _BIG_ENDIAN else "<"
    said = int.from_bytes(header[_SUMMED_BYTES : _SUMMED_BYTES + 4]), int.from_bytes(header[_SUMMED_BYTES + 4 :])
    return "" if checksum(order, header[:_SUMMED_BYTES], (0, 0)) == said else "its header does not match its checksum"


def _later(log: _Log, frames: list[_Frame], failed: int) -> str:
    """A transaction that was begun after that of the failed frame, in words."""
    for number in range(failed, len(frames) - 1):
        frame, after = frames[number], frames[number + 1]
        if frame.ends and after.is_of_this_round and log.sums(after, frame.sums) == after.sums:
            return (
                f"frame {failed} of {len(frames)} does not match its checksum, though transactions were written "
                "behind it"
            )
    return ""


def frames_that_hold(data: bytes) -> tuple[dict[int, bytes], int]:
    """The newest copy of each page in a log whose own checksum holds, whatever became of others; and how large pages
    are (0: it is no log). More than SQLite would read, for whoever checks what is on them.
    """
    log = _Log.of(data[:HEADER_BYTES])
    if log is None:
        return {}, 0
    frames = log.frames(data[HEADER_BYTES:])
    found: dict[int, bytes] = {}
    before = log.first
    for frame in frames:
        if log.sums(frame, before) == frame.sums:
            found[int.from_bytes(frame.head[:4])] = frame.page
        before = frame.sums
    return found, int.from_bytes(data[8:12])


class _Frame(NamedTuple):
    """One page in the log. `ends`: it is the last of its transaction."""

    head: bytes
    page: bytes
    ends: bool
    is_of_this_round: bool
    sums: Sums


class _Log:
    """What the header of a log says: how its frames look, and how their checksums begin."""

    def __init__(self, header: bytes, page_bytes: int) -> None:
        self._order = ">" if header[3] == _BIG_ENDIAN else "<"
        self._salts = header[16:24]
        self._page_bytes = page_bytes
        self.first = int.from_bytes(header[24:28]), int.from_bytes(header[28:32])

    @classmethod
    def of(cls, header: bytes) -> _Log | None:
        """None for no log, or none that SQLite would read."""
        page_bytes = int.from_bytes(header[8:12])
        is_one = len(header) == HEADER_BYTES and any(header) and page_bytes in {1 << n for n in range(9, 17)}
        return cls(header, page_bytes) if is_one else None

    def frames(self, data: bytes) -> list[_Frame]:
        """Those of the present round; one whose salts alone were hit stands between others, and is among them."""
        step = FRAME_BYTES + self._page_bytes
        found: list[_Frame] = []
        last = 0
        for at in range(0, len(data) - step + 1, step):
            head = data[at : at + FRAME_BYTES]
            sums = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
            is_of_this_round = head[8:16] == self._salts
            page = data[at + FRAME_BYTES : at + step]
            found.append(_Frame(head[:8], page, any(head[4:8]), is_of_this_round, sums))
            if is_of_this_round:
                last = len(found)
        return found[:last]

    def sums(self, frame: _Frame, before: Sums) -> Sums:
        """The checksum of a frame behind one with the checksum `before`."""
        return checksum(self._order, frame.page, checksum(self._order, frame.head, before))


def checksum(order: str, data: bytes, sums: Sums) -> Sums:
    """The checksum of a log, carried on over `data`, which is of whole pairs of words (section "Checksum Algorithm" of
    https://www.sqlite.org/fileformat.html#the_write_ahead_log).
    """
    one, two = sums
    whole = len(data) & -32
    # Four steps at a time between two reductions: the numbers stay below 2**40.
    for a, b, c, d, e, f, g, h in struct.iter_unpack(f"{order}8I", memoryview(data)[:whole]):
        one += a + two
        two += b + one
        one += c + two
        two += d + one
        one += e + two
        two += f + one
        one = (one + g + two) & _MASK
        two = (two + h + one) & _MASK
    for first, second in struct.iter_unpack(f"{order}II", memoryview(data)[whole:]):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two
