"""Taking values out of the tables: in the place of each stays its trace, in its version and in its log row alike.

`secure_delete` overwrites what a row no longer holds, but not the copies that SQLite left behind when it moved rows
from page to page, so that `erase` writes the whole file anew. It is slow, and the only way.

Rule: a version and its log row lose their value in the same transaction, so that what is left to do can be told from
the versions alone, after a crash as well.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from msgspec import structs

from cosessiond.store import reads, schema
from cosessiond.store.engine import EntryId, Purged
from cosessiond.store.hash import is_trace, trace_of, version_hash
from cosessiond.store.writes import log_body

#: Bytes of log rows and values that one slice may rewrite.
SLICE_BYTES_MAX: Final = 1024 * 1024

_SET_VERSION: Final = (
    "UPDATE versions SET hash = ?, value = ? WHERE space = ? AND project = ? AND key = ? AND mod_revision = ?"
)


def purge(db: sqlite3.Connection, meta: reads.Meta, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged:
    """One slice, in the caller's transaction; `meta` gets what the log has shrunk to. See `Engine.purge`."""
    reached, size, more = before - 1, 0, False
    doomed: list[tuple[tuple[object, ...], bytes]] = []
    for row in reads.versions_between(db, id, after, before):
        if row[4] != "put" or is_trace(row[12]):
            continue
        if doomed and (len(doomed) >= rows_max or size > SLICE_BYTES_MAX):
            more = True
            break
        reads.checked(row)
        size += len(row[12])
        doomed.append((row[:11], row[12]))
        reached = row[3]
    for head, value in doomed:
        trace = trace_of(value)
        db.execute(_SET_VERSION, (version_hash(head, trace), trace, *id, head[3]))
        _purge_log(db, meta, id, head[3])
    return Purged(reached if more else before - 1, len(doomed), more)


def _purge_log(db: sqlite3.Connection, meta: reads.Meta, id: EntryId, revision: object) -> None:
    """The log row of the version, where the log window still has it. Its hash stays: the chain is over hashes."""
    row = db.execute("SELECT revision, body FROM log WHERE revision = ?", (revision,)).fetchone()
    if row is None:
        return
    outcome = reads.decode_body(*row)
    changes = tuple(
        reads.with_trace(change, trace_of(change.value)) if change.id == id and change.kind == "put" else change
        for change in outcome.changes
    )
    body = log_body(structs.replace(outcome, changes=changes))
    db.execute("UPDATE log SET body = ? WHERE revision = ?", (body, row[0]))
    meta.log_bytes += len(body) - len(row[1])


def erase(db: sqlite3.Connection) -> bool:
    """Empty the WAL, write the whole file anew, and empty the WAL of that; False when the disk was full."""
    if not schema.checkpoint(db):
        return False
    db.execute("VACUUM")
    return schema.checkpoint(db)
