"""The neighbours of a version: what `store.continuity` is told of the rows that a search finds above and below it.

Rule: read-only; the rows are not checked against their hashes, since nobody is shown them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from cosessiond.store.continuity import Link
from cosessiond.store.engine import EntryId, StoreDamaged, VersionRow

_LINKS: Final = (
    "SELECT mod_revision, kind, version, create_revision FROM versions WHERE space = ? AND project = ? AND key = ?"
)
_LINK_ABOVE: Final = _LINKS + " AND mod_revision > ? ORDER BY mod_revision LIMIT 1"
_LINK_BELOW: Final = _LINKS + " AND mod_revision < ? ORDER BY mod_revision DESC LIMIT 1"
_NTH_NEWEST: Final = (
    "SELECT mod_revision FROM versions WHERE space = ? AND project = ? AND key = ?"
    " ORDER BY mod_revision DESC LIMIT 1 OFFSET ?"
)


def link_in(columns: Sequence[Any] | None) -> Link | None:
    """Of a row that is not checked yet; None when there is none."""
    if columns is None or columns[0] is None:
        return None
    if tuple(map(type, columns)) != (int, str, int, int):
        raise StoreDamaged(f"cannot trust the store: a version at revision {columns[0]} is no version")
    return Link(*columns)


def link_of(row: VersionRow) -> Link:
    """What a version says of its place."""
    return Link(row.mod_revision, row.kind, row.version, row.create_revision)


def link_above(db: sqlite3.Connection, id: EntryId, revision: int) -> Link | None:
    """The oldest version above a revision, unchecked."""
    return link_in(db.execute(_LINK_ABOVE, (*id, revision)).fetchone())


def link_below(db: sqlite3.Connection, id: EntryId, revision: int) -> Link | None:
    """The newest version below a revision, unchecked."""
    return link_in(db.execute(_LINK_BELOW, (*id, revision)).fetchone())


def has_versions(db: sqlite3.Connection, id: EntryId, count: int) -> bool:
    """Whether an entry has at least so many."""
    return db.execute(_NTH_NEWEST, (*id, count - 1)).fetchone() is not None
