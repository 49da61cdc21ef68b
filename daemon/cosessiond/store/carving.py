"""Rows out of a damaged database, page by page, without SQLite: whatever else is broken, what is readable is found.

SQLite gives up at the first page that leads nowhere. But every page that holds rows says so in its first byte and can
be read by itself (https://www.sqlite.org/fileformat.html#b_tree_pages). What tells a row from rubbish is its hash,
which the caller checks. Of each page the newest copy counts: that of the last frame in the log whose checksum holds.

Rule: reads, and believes nothing: a number that leads out of the file, or in a circle, ends that row and no other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from cosessiond.store.walcheck import frames_that_hold

Value = int | float | str | bytes | None
#: A row: its rowid (0 in a table without), and its columns.
Row = tuple[int, tuple[Value, ...]]

_PAGE_BYTES: Final = 4096
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_HEADER_BYTES: Final = 100
#: No column of ours is longer than a batch; what claims to be is none.
_PAYLOAD_MAX: Final = 4 * 1024 * 1024
_VARINT_BYTES_MAX: Final = 9
_BLOB, _TEXT = 12, 13
_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_FLOAT, _ZERO, _ONE = 7, 8, 9


class _Unreadable(Exception):
    """A row that is not to be read."""


class Pages:
    """A database and its log as pages by number."""

    def __init__(self, database: bytes, log: bytes) -> None:
        logged, page_bytes = frames_that_hold(log)
        said = int.from_bytes(database[16:18])
        self._size = page_bytes or (said if said in {1 << n for n in range(9, 16)} else _PAGE_BYTES)
        self._database = database
        self._logged = logged
        self.count = max([-(-len(database) // self._size), *logged])

    def page(self, number: int) -> bytes:
        """One page, b"" where there is none."""
        found = self._logged.get(number)
        return found if found is not None else self._database[(number - 1) * self._size : number * self._size]

    def rows(self) -> Iterator[Row]:
        """Every row that can be read of every page that holds some, in no order."""
        for number in range(1, self.count + 1):
            page = self.page(number)
            start = _HEADER_BYTES if number == 1 else 0
            if len(page) == self._size and page[start] in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
                yield from self._rows_of(page, start)

    def _rows_of(self, page: bytes, start: int) -> Iterator[Row]:
        kind = page[start]
        head = start + (12 if kind == _INDEX_INTERIOR else 8)
        cells = int.from_bytes(page[start + 3 : start + 5])
        for at in range(head, min(head + 2 * cells, self._size - 1), 2):
            try:
                yield self._cell(page, int.from_bytes(page[at : at + 2]), kind)
            except (_Unreadable, IndexError, UnicodeDecodeError, struct.error):
                continue

    def _cell(self, page: bytes, at: int, kind: int) -> Row:
        if kind == _INDEX_INTERIOR:
            at += 4
        size, at = _varint(page, at)
        rowid = 0
        if kind == _TABLE_LEAF:
            rowid, at = _varint(page, at)
        if not 0 < size <= _PAYLOAD_MAX:
            raise _Unreadable
        return rowid, _columns(self._payload(page, at, size, is_table=kind == _TABLE_LEAF))

    def _payload(self, page: bytes, at: int, size: int, *, is_table: bool) -> bytes:
        """What lies on the page, and on the chain of pages behind it."""
        usable = self._size
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            return page[at : at + size]
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        parts = [page[at : at + local]]
        left = size - local
        following = int.from_bytes(page[at + local : at + local + 4])
        while left > 0:
            more = self.page(following) if 0 < following <= self.count else b""
            if len(more) != self._size:
                raise _Unreadable
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            following = int.from_bytes(more[:4])
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for count in range(_VARINT_BYTES_MAX):
        byte = data[at + count]
        if count == _VARINT_BYTES_MAX - 1:
            return number << 8 | byte, at + count + 1
        number = number << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that there is more
            return number, at + count + 1
    raise _Unreadable


def _columns(payload: bytes) -> tuple[Value, ...]:
    """The record format (section 2.1 of the file format)."""
    end, at = _varint(payload, 0)
    if end > len(payload):
        raise _Unreadable
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    found: list[Value] = []
    at = end
    for kind in kinds:
        value, at = _column(payload, at, kind)
        found.append(value)
    if at != len(payload):
        raise _Unreadable
    return tuple(found)


def _column(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in (_ZERO, _ONE):
        return kind - _ZERO, at
    size = _INTEGERS.get(kind, 8) if kind <= _FLOAT else (kind - _BLOB) // 2
    data = payload[at : at + size]
    if len(data) != size or kind in (10, 11):
        raise _Unreadable
    if kind == _FLOAT:
        return struct.unpack(">d", data)[0], at + size
    if kind < _FLOAT:
        return int.from_bytes(data, signed=True), at + size
    return (data.decode() if kind % 2 else data), at + size
