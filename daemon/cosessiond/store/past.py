"""The past as it is: what the tables have, and over it what is still behind them.

Rule: whoever asks cannot tell how far the tables have come, and is shown nothing beside which a version is missing
(`continuity`). Bounded like `reads`, which it asks for pages.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from cosessiond.store import continuity, links, reads
from cosessiond.store.behind import Behind
from cosessiond.store.continuity import Link, Standing
from cosessiond.store.engine import Entry, EntryId, Page, VersionRow
from cosessiond.store.live import Live

#: Entries looked up at a time for a page of the past: what is behind may say that many of them are gone.
PAGE_ROWS_MIN: Final = 64


def entry_at(db: sqlite3.Connection, behind: Behind, id: EntryId, revision: int, standing: Standing) -> Entry | None:
    """See `Engine.entry_at`."""
    space, project, key = id
    newest = behind.standing(space, project, key, revision)
    if key in newest:
        entry = newest[key]
    else:
        found = links.link_below(db, id, revision + 1)
        above = links.link_above(db, id, revision) or _oldest(behind, id)
        _judge(id, found, above, standing)
        entry = reads.entry_at(db, id, revision)
    return None if entry is None else reads.whole(entry)


def _oldest(behind: Behind, id: EntryId) -> Link | None:
    rows = behind.history(id)
    return links.link_of(rows[-1]) if rows else None


def _judge(id: EntryId, found: Link | None, above: Link | None, standing: Standing) -> None:
    """Whether `found` can be what stood at a revision inside the log window, with `above` as the next one."""
    if above is None:
        continuity.check_newest(id, found, standing)
    else:
        continuity.check(id, [above, found] if found else [above], since=standing.since, is_cut=found is not None)


def range_at(
    db: sqlite3.Connection,
    behind: Behind,
    place: tuple[str, str],
    *,
    prefix: str,
    after: str,
    limit: int,
    revision: int,
    live: Live,
    since: int,
) -> Page:
    """See `Engine.range_at`; `place`: space and project."""
    newest = behind.standing(*place, prefix, revision)

    def judge(key: str, standing: Link | None, above: Link | None) -> None:
        id = (*place, key)
        if above is not None or not behind.versions_of(id):
            _judge(id, standing, above, Standing(live.get(id), since))

    start = after
    found: list[Entry] = []
    rows = max(PAGE_ROWS_MIN, limit)
    while True:
        page = reads.range_at(db, *place, prefix=prefix, after=after, limit=rows, revision=revision, judge=judge)
        keys: dict[str, Entry | None] = {entry.id[2]: entry for entry in page.entries}
        until = page.reached
        keys |= {key: entry for key, entry in newest.items() if after < key and (not page.more or key <= until)}
        for entry in live.under(place, prefix, after=after, until=until if page.more else ""):
            if since <= entry.create_revision <= revision and entry.id[2] not in keys:
                continuity.check_newest(entry.id, None, Standing(entry, since))
        found += [entry for _, entry in sorted(keys.items()) if entry is not None]
        if len(found) > limit:
            shown = tuple(map(reads.whole, found[:limit]))
            return Page(shown, more=True, reached=shown[-1].id[2] if shown else start)
        if not page.more or len(page.entries) < rows:
            return Page(tuple(map(reads.whole, found)), page.more, until)
        after = until


def history(
    db: sqlite3.Connection,
    behind: Behind,
    id: EntryId,
    *,
    limit: int,
    before: int,
    shown: int,
    ended: int,
    standing: Standing,
) -> list[VersionRow]:
    """See `Engine.history`; `shown`: the newest versions that are ever shown; `ended`: none below this revision."""
    rows = behind.history(id)
    found = [row for row in rows[:shown] if before <= 0 or row.mod_revision < before]
    if len(rows) < shown:
        kept = shown - len(rows)
        older = reads.history(db, id, limit=limit, before=before, versions_max=kept, ended=ended)
        above = links.link_above(db, id, before - 1) if before > 0 else None
        if above is None and rows:
            above = links.link_of(rows[-1])
        _check_line(db, id, list(map(links.link_of, older)), above, kept=kept, ended=ended, standing=standing)
        found += older
    return found[:limit]


def _check_line(
    db: sqlite3.Connection,
    id: EntryId,
    found: list[Link],
    above: Link | None,
    *,
    kept: int,
    ended: int,
    standing: Standing,
) -> None:
    """Whether nothing is missing among the versions of a page, above them and below them."""
    line = [above, *found] if above else found
    if line:
        below = links.link_below(db, id, line[-1].mod_revision)
    else:
        below = links.link_below(db, id, continuity.REVISION_END)
    line = [*line, below] if below else line
    if above is None:
        continuity.check_newest(id, line[0] if line else None, standing)
    is_cut = below is not None or bool(line and line[-1].mod_revision < ended) or links.has_versions(db, id, kept)
    continuity.check(id, line, since=standing.since, is_cut=is_cut)
