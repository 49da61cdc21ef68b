"""Schema 1: the log is the commit record; entries, versions and requests are derived from it.

Rule: never changes once it is released.
"""

from __future__ import annotations

import sqlite3

_TABLES = (
    # One row. `applied_revision`: entries, versions and requests hold every batch up to it; start replays the rest.
    # `applied_position` counts every batch ever offered, also those that took no revision (a replicated log's index).
    # `request_count` ids are kept in `requests`: those of all revisions above `forgotten_revision`.
    """CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch TEXT NOT NULL,
        revision INTEGER NOT NULL,
        applied_revision INTEGER NOT NULL,
        applied_position INTEGER NOT NULL,
        compact_revision INTEGER NOT NULL,
        anchor_hash BLOB NOT NULL,
        chain_hash BLOB NOT NULL,
        state_hash BLOB NOT NULL,
        log_bytes INTEGER NOT NULL,
        request_count INTEGER NOT NULL,
        forgotten_revision INTEGER NOT NULL,
        hash BLOB NOT NULL
    )""",
    # `hash` is the chain up to and with this batch; `body` MessagePack of (succeeded, time_ms, origin, changes).
    """CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        body BLOB NOT NULL,
        hash BLOB NOT NULL
    )""",
    """CREATE TABLE entries (
        space TEXT NOT NULL, project TEXT NOT NULL, key TEXT NOT NULL,
        version INTEGER NOT NULL, create_revision INTEGER NOT NULL, mod_revision INTEGER NOT NULL,
        time_ms INTEGER NOT NULL, session TEXT NOT NULL, ttl_ms INTEGER NOT NULL, owner TEXT NOT NULL,
        hash BLOB NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (space, project, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE versions (
        space TEXT NOT NULL, project TEXT NOT NULL, key TEXT NOT NULL, mod_revision INTEGER NOT NULL,
        kind TEXT NOT NULL, version INTEGER NOT NULL, create_revision INTEGER NOT NULL, time_ms INTEGER NOT NULL,
        origin BLOB NOT NULL, ttl_ms INTEGER NOT NULL, owner TEXT NOT NULL, hash BLOB NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (space, project, key, mod_revision)
    ) WITHOUT ROWID""",
    # Which request ids were committed, for as long as P2 says; `body` is the log body without values.
    """CREATE TABLE requests (
        revision INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        request_hash BLOB NOT NULL,
        time_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        hash BLOB NOT NULL
    )""",
)


def migrate(db: sqlite3.Connection) -> None:
    """Create the tables of schema 1; the engine fills `meta`."""
    for statement in _TABLES:
        db.execute(statement)
