"""One slice of the scrub: so many rows of the store, each held against its hash, and where the next slice goes on.

The tables are gone through one after the other: the log by its chain from the anchor to its end, the live entries
against memory (so that one that is missing is noticed too), the versions, the request ids, the audit. What cannot be
read is told and passed by; the scrub changes nothing.

Rule: a slice is bounded by rows and bytes, and looks at nothing that may be trimmed before the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from cosessiond.store import reads
from cosessiond.store.auditing import AuditTable
from cosessiond.store.engine import EntryId, Scrubbed, StoreDamaged
from cosessiond.store.live import Live
from cosessiond.store.schema import UNREADABLE

#: The order of the tables.
TABLES: Final = ("log", "entries", "versions", "requests", "audit")
_BYTES_MAX: Final = 256 * 1024
_NOWHERE: Final = ("", "", "")


def scrub(
    db: sqlite3.Connection, settled: reads.Meta, at: Scrubbed, rows_max: int, *, live: Live, audit: AuditTable
) -> Scrubbed:
    """See `Engine.scrub`."""
    try:
        if at.table == "log":
            return _log(db, settled, at, rows_max)
        if at.table == "entries":
            return _entries(db, settled, live, at, rows_max)
        if at.table == "audit":
            return _audit(audit, at, rows_max)
        return _rows(db, at, rows_max)
    except (StoreDamaged, *UNREADABLE) as error:  # a page that SQLite cannot read: the rest of this table is behind it
        return _next(at, 0, [f"cannot go on through the table {at.table}: {error}"])


def _log(db: sqlite3.Connection, settled: reads.Meta, at: Scrubbed, rows_max: int) -> Scrubbed:
    after = max(at.number, settled.compact_revision - 1)
    if after >= settled.revision:
        return _next(at, 0)
    try:
        found = reads.changes(db, after, rows_max, _BYTES_MAX)
    except (StoreDamaged, *UNREADABLE) as error:
        if hasattr(error, "sqlite_errorcode"):  # it is a page, not a row
            raise
        if rows_max > 1:  # to tell which one it is
            return _log(db, settled, at, 1)
        what = f"cannot trust the store: revision {after + 1} of the log cannot be read"
        return _more(at, 1, [str(error) if isinstance(error, StoreDamaged) else what], number=after + 1)
    return _more(at, len(found), number=found[-1].revision) if found else _next(at, 0)


def _entries(db: sqlite3.Connection, settled: reads.Meta, live: Live, at: Scrubbed, rows_max: int) -> Scrubbed:
    wrong: list[str] = []
    size = rows = 0
    id: EntryId = at.id
    for entry in live.behind(at.id, rows_max):
        id = entry.id
        rows += 1
        size += len(entry.value)
        if entry.mod_revision <= settled.revision and not reads.is_kept(db, entry):
            wrong.append(f"cannot trust the store: the entry {id[2]!r} of {id[0]} is not as it was committed")
        if size > _BYTES_MAX:
            break
    return _more(at, rows, wrong, id=id) if rows else _next(at, 0)


def _rows(db: sqlite3.Connection, at: Scrubbed, rows_max: int) -> Scrubbed:
    wrong: list[str] = []
    size = rows = last = 0
    for number, row in _after(db, at, rows_max):
        last = number
        rows += 1
        try:
            size += len((reads.checked if at.table == "versions" else reads.checked_request)(row)[-1])
        except (StoreDamaged, TypeError) as error:
            wrong.append(str(error))
        if size > _BYTES_MAX:
            break
    return _more(at, rows, wrong, number=last) if rows else _next(at, 0)


def _after(db: sqlite3.Connection, at: Scrubbed, rows_max: int) -> Iterator[tuple[int, tuple[object, ...]]]:
    if at.table == "versions":
        yield from reads.versions_behind(db, at.number, rows_max)
    else:
        yield from reads.requests_behind(db, at.number, rows_max)


def _audit(audit: AuditTable, at: Scrubbed, rows_max: int) -> Scrubbed:
    after = max(at.number, audit.span.first - 1)
    if after >= audit.span.last:
        return _next(at, 0)
    try:
        found = audit.read(after=after, before=0, limit=rows_max, newest_first=False)
    except StoreDamaged as error:
        if rows_max > 1:
            return _audit(audit, at, 1)
        return _more(at, 1, [str(error)], number=after + 1)
    return _more(at, len(found), number=found[-1].id)


def _more(
    at: Scrubbed, rows: int, wrong: list[str] | None = None, *, number: int = 0, id: EntryId = _NOWHERE
) -> Scrubbed:
    return Scrubbed(at.table, number, id, rows, tuple(wrong or ()))


def _next(at: Scrubbed, rows: int, wrong: list[str] | None = None) -> Scrubbed:
    """On to the next table; "" behind the last."""
    tables = (*TABLES, "")
    return Scrubbed(tables[tables.index(at.table) + 1], 0, _NOWHERE, rows, tuple(wrong or ()))
