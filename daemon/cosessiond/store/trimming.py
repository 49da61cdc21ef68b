"""Dropping what the two retentions no longer ask for, a bounded number of rows at a time.

Rule: a read at `compact_revision` or above gives the same answer before and after, and so does `history`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cosessiond.store import reads
from cosessiond.store.engine import EntryId, Window

#: Rows looked at for one check of the request ids.
_REQUEST_ROWS: Final = 256


def trim(db: sqlite3.Connection, window: Window, meta: reads.Meta, rows_max: int) -> int:
    """One transaction that drops at most about `rows_max` rows and moves `meta`; returns how many."""
    doomed = _log_rows(db, window, meta, rows_max)
    requests = _expired_requests(db, window, rows_max)
    if not doomed and not requests:
        return 0
    db.execute("BEGIN IMMEDIATE")
    dropped = len(doomed) + len(requests)
    if doomed:
        touched: set[EntryId] = set()
        for revision, body, digest in doomed:
            touched.update(change.id for change in reads.decode_body(revision, body).changes)
            meta.log_bytes -= len(body)
            meta.anchor_hash = digest
            meta.compact_revision = revision + 1
        db.execute("DELETE FROM log WHERE revision < ?", (meta.compact_revision,))
        for id in touched:
            dropped += _drop_versions(db, id, window.versions, meta.compact_revision)
        reads.write_meta(db, meta)
    db.executemany("DELETE FROM requests WHERE revision = ?", requests)
    db.execute("COMMIT")
    return dropped


def request_expired(db: sqlite3.Connection, window: Window, revision: int, time_ms: int, now_ms: int) -> bool:
    """Whether a kept request id no longer counts at a batch of time `now_ms`; decided by the batches alone."""
    if now_ms - time_ms > window.request_id_ms:
        return True
    if window.request_ids >= _count_cached_bound(db, revision):
        return False
    (newer,) = db.execute("SELECT count(*) FROM requests WHERE revision > ?", (revision,)).fetchone()
    return bool(newer >= window.request_ids)


def _count_cached_bound(db: sqlite3.Connection, revision: int) -> int:
    """An upper bound of the newer ids without counting them: revisions are dense."""
    (newest,) = db.execute("SELECT coalesce(max(revision), 0) FROM requests").fetchone()
    return max(0, int(newest) - revision)


def _log_rows(
    db: sqlite3.Connection, window: Window, meta: reads.Meta, rows_max: int
) -> list[tuple[int, bytes, bytes]]:
    """The oldest log rows outside the window; the newest row always stays."""
    kept = meta.revision - meta.compact_revision + 1
    size = meta.log_bytes
    if kept <= window.log_revisions and size <= window.log_bytes:
        return []
    doomed: list[tuple[int, bytes, bytes]] = []
    for revision, body, digest in db.execute(
        "SELECT revision, body, hash FROM log ORDER BY revision LIMIT ?", (rows_max,)
    ):
        if kept <= 1 or (kept <= window.log_revisions and size <= window.log_bytes):
            break
        doomed.append((revision, body, digest))
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


def _expired_requests(db: sqlite3.Connection, window: Window, rows_max: int) -> list[tuple[int]]:
    newest = db.execute("SELECT revision, time_ms FROM requests ORDER BY revision DESC LIMIT 1").fetchone()
    if newest is None:
        return []
    rows = db.execute(
        "SELECT revision, time_ms FROM requests ORDER BY revision LIMIT ?", (min(rows_max, _REQUEST_ROWS),)
    ).fetchall()
    return [(revision,) for revision, time_ms in rows if request_expired(db, window, revision, time_ms, newest[1])]
