"""Dropping what the two retentions no longer ask for, a bounded number of rows at a time.

Rule: a read at `compact_revision` or above gives the same answer before and after, and so does `history`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cosessiond.store import reads
from cosessiond.store.engine import EntryId, Window

#: A batch of many changes costs about as much as this many rows; more are left for the next slice.
CHANGES_PER_ROW: Final = 4


def trim(db: sqlite3.Connection, window: Window, meta: reads.Meta, rows_max: int) -> int:
    """One transaction that drops at most about `rows_max` rows and moves `meta`; returns how many."""
    doomed = _log_rows(db, window, meta, rows_max)
    if not doomed:
        return 0
    db.execute("BEGIN IMMEDIATE")
    dropped = len(doomed)
    touched: set[EntryId] = set()
    for revision, body, digest, ids in doomed:
        touched.update(ids)
        meta.log_bytes -= len(body)
        meta.anchor_hash = digest
        meta.compact_revision = revision + 1
    db.execute("DELETE FROM log WHERE revision < ?", (meta.compact_revision,))
    for id in touched:
        dropped += _drop_versions(db, id, window.versions, meta.compact_revision)
    reads.write_meta(db, meta)
    db.execute("COMMIT")
    return dropped


def _log_rows(
    db: sqlite3.Connection, window: Window, meta: reads.Meta, rows_max: int
) -> list[tuple[int, bytes, bytes, list[EntryId]]]:
    """The oldest log rows outside the window, until they changed `rows_max` entries; the newest row always stays."""
    kept = meta.revision - meta.compact_revision + 1
    size = meta.log_bytes
    if kept <= window.log_revisions and size <= window.log_bytes:
        return []
    doomed: list[tuple[int, bytes, bytes, list[EntryId]]] = []
    changed = 0
    for revision, body, digest in db.execute(
        "SELECT revision, body, hash FROM log ORDER BY revision LIMIT ?", (rows_max,)
    ):
        inside = kept <= window.log_revisions and size <= window.log_bytes
        if inside or kept <= 1 or changed >= CHANGES_PER_ROW * rows_max:
            break
        ids = [change.id for change in reads.decode_body(revision, body).changes]
        doomed.append((revision, body, digest, ids))
        changed += len(ids)
        kept -= 1
        size -= len(body)
    return doomed


def _drop_versions(db: sqlite3.Connection, id: EntryId, versions: int, compact_revision: int) -> int:
    """Versions neither among the newest `versions` nor the one that stood at `compact_revision`."""
    nth = db.execute(
        "SELECT mod_revision FROM versions WHERE space = ? AND project = ? AND key = ?"
        " ORDER BY mod_revision DESC LIMIT 1 OFFSET ?",
        (*id, versions - 1),
    ).fetchone()
    if nth is None:
        return 0
    standing = db.execute(
        "SELECT max(mod_revision) FROM versions WHERE space = ? AND project = ? AND key = ? AND mod_revision <= ?",
        (*id, compact_revision),
    ).fetchone()[0]
    bound = min(nth[0], standing or 0)
    return db.execute(
        "DELETE FROM versions WHERE space = ? AND project = ? AND key = ? AND mod_revision < ?", (*id, bound)
    ).rowcount
