"""Schema 2: versions are found by a small index, and no longer lie in it with their values; and there is an audit.

A table without rowid keeps whole rows where SQLite searches, and compares a row that does not fit a page by reading
all of it: among values of 240 KiB one search cost 4 ms. Now it costs the same whatever the values, keys that were
deleted are passed over without touching theirs, and new rows go behind one another.

The audit is a local append-only table beside the log: nothing in it is derived from batches or hashed with them.

Rule: never changes once it is released.
"""

from __future__ import annotations

import sqlite3

_STEPS = (
    "ALTER TABLE versions RENAME TO versions_1",
    """CREATE TABLE versions (
        space TEXT NOT NULL, project TEXT NOT NULL, key TEXT NOT NULL, mod_revision INTEGER NOT NULL,
        kind TEXT NOT NULL, version INTEGER NOT NULL, create_revision INTEGER NOT NULL, time_ms INTEGER NOT NULL,
        origin BLOB NOT NULL, ttl_ms INTEGER NOT NULL, owner TEXT NOT NULL, hash BLOB NOT NULL, value BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX versions_by_key ON versions (space, project, key, mod_revision)",
    "INSERT INTO versions SELECT * FROM versions_1",  # the columns stand in the same order; so do the rows
    "DROP TABLE versions_1",
    # Ids are dense. `latest_ms` is the latest time of all records up to this one and `total_bytes` what they all count
    # for, those that were cut included: so the bounds of time and size are found without reading what lies between.
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL, latest_ms INTEGER NOT NULL, total_bytes INTEGER NOT NULL,
        kind TEXT NOT NULL, project TEXT NOT NULL, session TEXT NOT NULL,
        body BLOB NOT NULL, hash BLOB NOT NULL
    )""",
)


def migrate(db: sqlite3.Connection) -> None:
    """Move the versions into their new table, and begin the audit."""
    for statement in _STEPS:
        db.execute(statement)
