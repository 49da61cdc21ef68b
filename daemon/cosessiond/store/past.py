"""The past as it is: what the tables have, and over it what is still behind them.

Rule: whoever asks cannot tell how far the tables have come. Bounded like `reads`, which it asks for pages.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cosessiond.store import reads
from cosessiond.store.behind import Behind
from cosessiond.store.engine import Entry, EntryId, Page, VersionRow

#: Entries looked up at a time for a page of the past: what is behind may say that many of them are gone.
PAGE_ROWS_MIN: Final = 64


def entry_at(db: sqlite3.Connection, behind: Behind, id: EntryId, revision: int) -> Entry | None:
    """See `Engine.entry_at`."""
    space, project, key = id
    newest = behind.standing(space, project, key, revision)
    entry = newest[key] if key in newest else reads.entry_at(db, id, revision)
    return None if entry is None else reads.whole(entry)


def range_at(
    db: sqlite3.Connection,
    behind: Behind,
    place: tuple[str, str],
    *,
    prefix: str,
    after: str,
    limit: int,
    revision: int,
) -> Page:
    """See `Engine.range_at`; `place`: space and project."""
    newest = behind.standing(*place, prefix, revision)
    start = after
    found: list[Entry] = []
    rows = max(PAGE_ROWS_MIN, limit)
    while True:
        page = reads.range_at(db, *place, prefix=prefix, after=after, limit=rows, revision=revision)
        keys: dict[str, Entry | None] = {entry.id[2]: entry for entry in page.entries}
        until = page.reached
        keys |= {key: entry for key, entry in newest.items() if after < key and (not page.more or key <= until)}
        found += [entry for _, entry in sorted(keys.items()) if entry is not None]
        if len(found) > limit:
            shown = tuple(map(reads.whole, found[:limit]))
            return Page(shown, more=True, reached=shown[-1].id[2] if shown else start)
        if not page.more or len(page.entries) < rows:
            return Page(tuple(map(reads.whole, found)), page.more, until)
        after = until


def history(
    db: sqlite3.Connection, behind: Behind, id: EntryId, *, limit: int, before: int, shown: int, ended: int
) -> list[VersionRow]:
    """See `Engine.history`; `shown`: the newest versions that are ever shown; `ended`: none below this revision."""
    rows = behind.history(id)[:shown]
    found = [row for row in rows if before <= 0 or row.mod_revision < before]
    if len(rows) < shown:
        found += reads.history(db, id, limit=limit, before=before, versions_max=shown - len(rows), ended=ended)
    return found[:limit]
