"""One slice of the scrub: so many rows of the store, each held against its hash, and where the next slice goes on.

The tables are gone through one after the other: the log by its chain from the anchor to its end, and what follows from
each batch against the rows that a search finds; the live entries against memory, so that one that is missing or too
many is noticed as well, and their sum against the state hash, whatever memory says; the versions, and whether one is
missing before each; the request ids, the audit. What cannot be read is told and passed by; the scrub changes nothing.

Rule: a slice is bounded by rows and bytes, and looks at nothing that may be trimmed before the next one.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final, NamedTuple

from cosessiond.store import behind, continuity, links, logged, reads
from cosessiond.store.auditing import AuditTable
from cosessiond.store.behind import Behind
from cosessiond.store.continuity import Link
from cosessiond.store.ended import Ended
from cosessiond.store.engine import Committed, Entry, EntryId, Scrubbed, StoreDamaged, Window
from cosessiond.store.live import Live
from cosessiond.store.schema import UNREADABLE
from cosessiond.store.summing import Sum

#: The order of the tables.
TABLES: Final = ("log", "entries", "versions", "requests", "audit")
_BYTES_MAX: Final = 256 * 1024
_NOWHERE: Final = ("", "", "")


class Known(NamedTuple):
    """What the tables are held against: the position they should be at, and what the engine has in memory. `lost` gets
    the ids of requests whose records are missing, with their revisions.
    """

    settled: reads.Meta
    live: Live
    behind: Behind
    ended: Ended
    audit: AuditTable
    window: Window
    lost: dict[str, int]
    sum: Sum


def scrub(db: sqlite3.Connection, known: Known, at: Scrubbed, rows_max: int) -> Scrubbed:
    """See `Engine.scrub`."""
    try:
        if at.table == "log":
            return _log(db, known, at, rows_max)
        if at.table == "entries":
            return _entries(db, known, at, rows_max)
        if at.table == "versions":
            return _versions(db, known, at, rows_max)
        if at.table == "requests":
            return _requests(db, at, rows_max)
        return _audit(known.audit, at, rows_max)
    except (StoreDamaged, *UNREADABLE) as error:  # a page that SQLite cannot read: the rest of this table is behind it
        return _next(at, 0, [f"cannot go on through the table {at.table}: {error}"])


def _log(db: sqlite3.Connection, known: Known, at: Scrubbed, rows_max: int) -> Scrubbed:
    settled = known.settled
    after = max(at.number, settled.compact_revision - 1)
    if after >= settled.revision:
        return _next(at, 0, _position(db, settled))
    try:
        found = logged.changes(db, after, rows_max, _BYTES_MAX, newest=settled.revision)
    except (StoreDamaged, *UNREADABLE) as error:
        if hasattr(error, "sqlite_errorcode"):  # it is a page, not a row
            raise
        if rows_max > 1:  # to tell which one it is
            return _log(db, known, at, 1)
        what = f"cannot trust the store: revision {after + 1} of the log cannot be read"
        return _more(at, 1, [str(error) if isinstance(error, StoreDamaged) else what], number=after + 1)
    if not found:
        return _next(at, 0)
    rows, wrong = 0, []
    for outcome in found:
        after = outcome.revision
        if after <= settled.revision:  # the rows of what is behind are not there yet
            wrong += _derived(db, known, outcome)
        rows += 1 + len(outcome.changes)
        if rows > rows_max:
            break
    return _more(at, rows, wrong, number=after)


def _position(db: sqlite3.Connection, settled: reads.Meta) -> list[str]:
    if reads.read_meta(db) == settled:
        return []
    return ["cannot trust the store: the record of its position is not as it was committed"]


def _derived(db: sqlite3.Connection, known: Known, outcome: Committed) -> list[str]:
    """What does not match among the rows that follow from a batch."""
    settled, wrong = known.settled, []
    for row in behind.version_rows(outcome):
        id, revision = (row[0], row[1], row[2]), row[3]
        found = reads.version_columns(db, id, revision)
        if found is None or (_said(found) != _said(row) and _is_whole(found)):  # others the pass over versions tells
            wrong.append(f"cannot trust the store: version {revision} of {id[2]!r} is not what the log says")
    if outcome.revision > settled.forgotten_revision and logged.is_request_lost(db, outcome):
        request_id = outcome.origin.request_id
        known.lost[request_id] = outcome.revision
        wrong.append(f"cannot trust the store: the outcome of request {request_id!r} is missing")
    return wrong


def _said(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a row of versions says, without its origin, which an older version may have written otherwise."""
    return (*row[:8], *row[9:11], row[12])


def _is_whole(row: tuple[Any, ...]) -> bool:
    try:
        reads.checked(row)
    except (StoreDamaged, TypeError):
        return False
    return True


def _entries(db: sqlite3.Connection, known: Known, at: Scrubbed, rows_max: int) -> Scrubbed:
    if at.id == _NOWHERE:
        known.sum.begin(_NOWHERE)
    entries = _some(known.live, at.id, rows_max)
    until = entries[-1].id if entries else None
    kept = reads.entry_hashes(db, at.id, until, 2 * rows_max)
    if len(kept) == 2 * rows_max:  # what is behind may have ended as many as there are: more of them in the next slice
        until = kept[-1][0]
        entries = [entry for entry in entries if entry.id <= until]
    wrong = [
        f"cannot trust the store: the entry {entry.id[2]!r} of {entry.id[0]} is not as it was committed"
        for entry in entries
        if entry.mod_revision <= known.settled.revision and not reads.is_kept(db, entry)
    ]
    ids = {entry.id for entry in entries}
    wrong += [
        f"cannot trust the store: there is an entry {id[2]!r} of {id[0]} that was not committed"
        for id, _ in kept
        if id not in ids and not known.behind.versions_of(id)
    ]
    last = until or (kept[-1][0] if kept else at.id)
    known.sum.passes(at.id, (hash for _, hash in kept), last)
    if until is not None:
        return _more(at, len(entries), wrong, id=until)
    if known.sum.differs(last, known.settled.state_hash):
        wrong.append("cannot trust the store: the live entries are not all there, or not all as they were committed")
    known.sum.end()
    return _next(at, 0, wrong)


def _some(live: Live, after: EntryId, rows_max: int) -> list[Entry]:
    """What one slice looks at of the live entries behind `after`."""
    found: list[Entry] = []
    size = 0
    for entry in live.behind(after, rows_max):
        found.append(entry)
        size += len(entry.value)
        if size > _BYTES_MAX:
            break
    return found


def _versions(db: sqlite3.Connection, known: Known, at: Scrubbed, rows_max: int) -> Scrubbed:
    wrong: list[str] = []
    size = rows = last = 0
    for number, row in reads.versions_behind(db, at.number, rows_max):
        last = number
        rows += 1
        try:
            size += len(reads.checked(row)[-1])
            _check_place(db, known, (row[0], row[1], row[2]), number, Link(row[3], row[4], row[5], row[6]))
        except (StoreDamaged, TypeError) as error:
            wrong.append(str(error))
        if size > _BYTES_MAX:
            break
    return _more(at, rows, wrong, number=last) if rows else _next(at, 0)


def _check_place(db: sqlite3.Connection, known: Known, id: EntryId, number: int, link: Link) -> None:
    """A row of versions is found by a search, and the one before it is there."""
    if reads.version_rowid(db, id, link.mod_revision) != number:
        raise StoreDamaged(f"cannot trust the store: version {link.mod_revision} of {id[2]!r} is found by no search")
    below = links.link_below(db, id, link.mod_revision)
    is_cut = (
        below is not None
        or link.mod_revision < known.ended.before(id)
        or links.has_versions(db, id, known.window.versions_in(id[0]))
    )
    since = continuity.since_of(known.settled.revision)
    continuity.check(id, [link, below] if below else [link], since=since, is_cut=is_cut)


def _requests(db: sqlite3.Connection, at: Scrubbed, rows_max: int) -> Scrubbed:
    wrong: list[str] = []
    size = rows = last = 0
    for number, row in reads.requests_behind(db, at.number, rows_max):
        last = number
        rows += 1
        try:
            size += len(reads.checked_request(row)[-1])
            if reads.request_columns(db, str(row[1])) != row:
                wrong.append(f"cannot trust the store: the outcome of request {row[1]!r} is found by no search")
        except (StoreDamaged, TypeError) as error:
            wrong.append(str(error))
        if size > _BYTES_MAX:
            break
    return _more(at, rows, wrong, number=last) if rows else _next(at, 0)


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
