"""Does a backup still hold what was purged: values of one entry from below a revision.

Rule: read-only; when it cannot be told, it may.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import DecodeError

from cosession.errors import ConfigError
from cosessiond.store import logged, reads, schema
from cosessiond.store.engine import EntryId, StoreBroken
from cosessiond.store.hash import is_trace

_NO_BOUND: Final = 2**62


def may_hold(path: Path, id: EntryId, before: int) -> bool:
    """Whether the store at `path`, which nobody writes, has a value of `id` from below revision `before`."""
    try:
        with closing(schema.open_copy(path)) as db:
            return _holds(db, id, before)
    except FileNotFoundError:
        return False
    except (sqlite3.Error, DecodeError, StoreBroken, ConfigError, OSError):
        return True


def _holds(db: sqlite3.Connection, id: EntryId, before: int) -> bool:
    for row in reads.versions_between(db, id, 0, before):
        if row[4] == "put" and not is_trace(row[12]):
            return True
    meta = reads.read_meta(db)
    for outcome, _, _ in logged.log_after(db, meta.revision, meta.chain_hash, _NO_BOUND):  # what has no version yet
        if outcome.revision < before and any(
            change.id == id and change.kind == "put" and not is_trace(change.value) for change in outcome.changes
        ):
            return True
    return False
