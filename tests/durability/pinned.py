"""A log of SQLite without chance in it: its salts, which SQLite draws, become numbers, and every checksum follows.

Rule: for who reads it nothing has changed: what held holds, and what was left over from an earlier round is still of
another one.
"""

from __future__ import annotations

import struct
from typing import Final

from cosessiond.store.walcheck import FRAME_BYTES, HEADER_BYTES, Sums, checksum

_BIG_ENDIAN: Final = 0x83
_SUMMED: Final = 24
_SUMMED_OF_FRAME: Final = 8


def pinned(log: bytes) -> bytes:
    """The log with salts of ours; as it is when it has none."""
    if not any(log[:HEADER_BYTES]):
        return log
    order = ">" if log[3] == _BIG_ENDIAN else "<"
    step = FRAME_BYTES + int.from_bytes(log[8:12])
    found = bytearray(log)
    salts = {log[16:24]: _salts(0)}
    found[16:24] = _salts(0)
    sums = checksum(order, bytes(found[:_SUMMED]), (0, 0))
    found[_SUMMED:HEADER_BYTES] = struct.pack(">II", *sums)
    for at in range(HEADER_BYTES, len(log) - step + 1, step):
        salt = log[at + 8 : at + 16]
        if any(salt):
            found[at + 8 : at + 16] = salts.setdefault(salt, _salts(len(salts)))
            sums = _summed(order, found, at, step, sums)
    return bytes(found)


def _summed(order: str, log: bytearray, at: int, step: int, before: Sums) -> Sums:
    """Give one frame the checksum that it has behind another."""
    sums = checksum(order, bytes(log[at : at + _SUMMED_OF_FRAME]), before)
    sums = checksum(order, bytes(log[at + FRAME_BYTES : at + step]), sums)
    log[at + 16 : at + FRAME_BYTES] = struct.pack(">II", *sums)
    return sums


def _salts(number: int) -> bytes:
    return struct.pack(">II", 1_000 - number, 7 + number)
