"""Schema 3: keys that were deleted leave nothing behind once the log window has passed their deletion.

`ended` has those of them whose versions are too many to go at once: nothing below `before_revision` is shown any more.
`sweep` has one row while a pass over all keys is under way, which stands behind this one: stores of earlier schemas
kept such keys for ever, and a new epoch passes the whole log window at once. What it says is only how far the pass has
come, so it has no hash.

Rule: never changes once it is released.
"""

from __future__ import annotations

import sqlite3

_STEPS = (
    """CREATE TABLE ended (
        space TEXT NOT NULL, project TEXT NOT NULL, key TEXT NOT NULL, before_revision INTEGER NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (space, project, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE sweep (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        space TEXT NOT NULL, project TEXT NOT NULL, key TEXT NOT NULL
    )""",
    "INSERT INTO sweep SELECT 1, '', '', '' WHERE EXISTS (SELECT 1 FROM versions)",
)


def migrate(db: sqlite3.Connection) -> None:
    """Create both, and have a store that is not new swept."""
    for statement in _STEPS:
        db.execute(statement)
