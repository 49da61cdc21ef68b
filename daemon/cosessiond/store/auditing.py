"""The audit table: appending with a group, reading a slice, cutting the oldest.

Rule: rows are written once, in the transaction of their group, and cut from the oldest end only; each is checked
against its hash, and against its neighbour's id, before anyone sees it. Functions raise sqlite3.Error or StoreDamaged;
`sqlite.SqliteEngine` translates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from cosessiond.store.engine import Committed, Outcome, StoreDamaged, Window
from cosessiond.store.hash import record_hash
from cosessiond.store.record import Attached, AuditSpan, KeptRecord, Record

_COLUMNS: Final = "id, time_ms, latest_ms, total_bytes, kind, project, session, body, hash"
_PUT: Final = f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # of constants
_SELECT: Final = f"SELECT {_COLUMNS} FROM audit"  # noqa: S608  # of constants
_ROW: Final = f"{_SELECT} WHERE id = ?"
_ENDS: Final = "SELECT min(id), max(id) FROM audit"
_OLDEST_FIRST: Final = f"{_SELECT} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
_NEWEST_FIRST: Final = f"{_SELECT} WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
_NO_BOUND: Final = 2**63 - 1


class _Row(Struct, frozen=True, gc=False):
    """A row with what it adds to a record."""

    id: int
    latest_ms: int
    total_bytes: int
    record: Record


class AuditTable:
    """The audit of one database. What `write` has added counts when `written` says that it is committed."""

    def __init__(self, db: sqlite3.Connection, window: Window) -> None:
        self._db = db
        self._window = window
        first, last = db.execute(_ENDS).fetchone()
        self._first: _Row | None = None if first is None else self._row(first)
        self._last: _Row | None = None if last is None else self._row(last)
        self._fresh: list[_Row] = []

    @property
    def span(self) -> AuditSpan:
        """See `Engine.audit_span`."""
        if self._first is None or self._last is None:
            return AuditSpan()
        size = self._last.total_bytes - self._first.total_bytes + self._first.record.size
        return AuditSpan(self._first.id, self._last.id, size, self._first.record.time_ms)

    def write(self, records: Sequence[Record]) -> None:
        """Append, inside the transaction of the caller."""
        before = self._last
        for record in records:
            latest_ms = record.time_ms if before is None else max(before.latest_ms, record.time_ms)
            total = record.size + (before.total_bytes if before else 0)
            before = _Row((before.id if before else 0) + 1, latest_ms, total, record)
            self._fresh.append(before)
        self._db.executemany(_PUT, [_columns(row) for row in self._fresh])

    def written(self) -> None:
        """The group is committed."""
        if self._fresh:
            self._first = self._first or self._fresh[0]
            self._last = self._fresh[-1]
            self._fresh = []

    def rolled_back(self) -> None:
        """The group never was."""
        self._fresh = []

    def read(self, *, after: int, before: int, limit: int, newest_first: bool) -> list[KeptRecord]:
        """See `Engine.audited`."""
        span = self.span
        first, end = max(after + 1, span.first), min(before or _NO_BOUND, span.last + 1)
        ids = range(first, end)
        expected = list((ids[::-1] if newest_first else ids)[: max(0, limit)])
        if not expected:
            return []
        found = self._db.execute(_NEWEST_FIRST if newest_first else _OLDEST_FIRST, (first, end, len(expected)))
        rows = [_checked(row) for row in found]
        if [row.id for row in rows] != expected:
            raise StoreDamaged(f"cannot trust the store: audit records from {first} to {end - 1} are missing")
        return [KeptRecord(row.id, row.record) for row in rows]

    def since(self, time_ms: int) -> int:
        """See `Engine.audit_since`: the first row whose `latest_ms` is not before `time_ms`, by bisection."""
        span = self.span
        low, high = span.first, span.last + 1
        while low < high:
            middle = (low + high) // 2
            if self._row(middle).latest_ms >= time_ms:
                high = middle
            else:
                low = middle + 1
        return low

    def trim(self, rows_max: int) -> int:
        """One transaction that cuts at most `rows_max` of the oldest records; returns how many."""
        count = self._surplus(rows_max)
        if not count:
            return 0
        assert self._first is not None, "there is something to cut"
        first = self._row(self._first.id + count)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM audit WHERE id < ?", (first.id,))
        self._db.execute("COMMIT")
        self._first = first
        return count

    def _surplus(self, rows_max: int) -> int:
        """How many of the oldest records go now: a question to memory as long as the oldest one stays."""
        span, window = self.span, self._window
        if self._first is None or self._last is None:
            return 0
        newest_ms, total = self._last.record.time_ms, self._last.total_bytes
        count, row = 0, self._first
        while count < rows_max and row.id < span.last:
            is_over = total - row.total_bytes + row.record.size > window.audit_bytes
            is_old = newest_ms - row.record.time_ms > window.audit_ms and span.last - row.id >= window.audit_min
            if not (is_over or is_old):
                break
            count += 1
            row = self._row(row.id + 1)
        return count

    def _row(self, id: int) -> _Row:
        row = self._db.execute(_ROW, (id,)).fetchone()
        if row is None:
            raise StoreDamaged(f"cannot trust the store: audit record {id} is missing")
        return _checked(row)


def checked_columns(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of the table as it lies there, that matches its hash; else raises StoreDamaged."""
    _checked(row)
    return row


def put_columns(db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put such rows, in the caller's transaction."""
    db.executemany(_PUT, rows)


def due(records: Sequence[Attached], outcomes: Sequence[Outcome]) -> list[Record]:
    """The records that are written with a group of these outcomes: a batch's own only if it changed something now."""
    return [record for index, record in records if index is None or _has_changed(outcomes[index])]


def _has_changed(outcome: Outcome) -> bool:
    return isinstance(outcome, Committed) and bool(outcome.changes) and not outcome.repeated


def _columns(row: _Row) -> tuple[Any, ...]:
    record = row.record
    fields = (row.id, record.time_ms, row.latest_ms, row.total_bytes, record.kind, record.project, record.session)
    return (*fields, record.body, record_hash(*fields, record.body))


def _checked(row: tuple[Any, ...]) -> _Row:
    *fields, digest = row
    if record_hash(*fields) != digest:
        raise StoreDamaged(f"cannot trust the store: audit record {row[0]} does not match its hash")
    id, time_ms, latest_ms, total_bytes, kind, project, session, body = fields
    return _Row(id, latest_ms, total_bytes, Record(time_ms, kind, project, session, body))
