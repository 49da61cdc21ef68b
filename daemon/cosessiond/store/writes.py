"""Writing the SQLite tables: what one group of batches will write, and the rows it becomes.

Rule: everything is gathered first and written at once, inside the transaction of the caller; nothing here commits.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from msgspec import msgpack

from cosessiond.store import reads
from cosessiond.store.engine import Applied, Committed, Entry, EntryId, RangeCompare
from cosessiond.store.hash import record_hash, row_hash, state_add, state_remove, version_hash
from cosessiond.store.live import Live

_encode = msgpack.Encoder().encode

_PUT_LOG: Final = "INSERT INTO log (revision, body, hash) VALUES (?, ?, ?)"
_PUT_ENTRY: Final = (
    "INSERT OR REPLACE INTO entries (space, project, key, version, create_revision, mod_revision, time_ms, session,"
    " ttl_ms, owner, hash, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELETE_ENTRY: Final = "DELETE FROM entries WHERE space = ? AND project = ? AND key = ?"
_PUT_VERSION: Final = (
    "INSERT OR REPLACE INTO versions (space, project, key, mod_revision, kind, version, create_revision, time_ms,"
    " origin, ttl_ms, owner, hash, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_REQUEST: Final = (
    "INSERT OR REPLACE INTO requests (revision, request_id, request_hash, time_ms, body, hash)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


class Group:
    """The overlay that later batches of a group see, and the rows of all of them. The `apply.View` of the engine.

    Both dicts of entries are in the order of mod_revision.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self.entries: dict[EntryId, Entry | None] = {}
        self.committed: dict[str, Committed] = {}
        self.log: list[tuple[Any, ...]] = []
        self._versions: list[tuple[Any, ...]] = []
        self._requests: list[tuple[Any, ...]] = []

    def get(self, id: EntryId) -> Entry | None:
        """See `apply.View`."""
        return self.entries[id] if id in self.entries else self._live.get(id)

    def first_newer(self, compare: RangeCompare) -> Entry | None:
        """See `apply.View`."""
        found = self._live.first_newer(compare, hidden=self.entries)
        for entry in reversed(self.entries.values()):
            if entry is None:
                continue
            if entry.mod_revision <= compare.max_mod_revision:
                break
            if compare.selects(entry.id) and (found is None or entry.id[2] < found.id[2]):
                found = entry
        return found

    def versions_of(self, id: EntryId) -> int:
        """How many versions of `id` this group has made so far."""
        return sum(row[:3] == id for row in self._versions)

    def add(self, outcome: Committed, entries: list[tuple[EntryId, Entry | None]], meta: reads.Meta) -> None:
        """One batch that changed something; `meta` has its chain hash already and gets its size and state hash."""
        body = _encode((outcome.succeeded, outcome.time_ms, outcome.origin, outcome.changes))
        self.log.append((outcome.revision, body, meta.chain_hash))
        meta.log_bytes += len(body)
        self.derive(outcome)
        for id, entry in entries:
            before = self.get(id)
            if before is not None:
                meta.state_hash = state_remove(meta.state_hash, before.hash)
            if entry is not None:
                meta.state_hash = state_add(meta.state_hash, entry.hash)
            self.entries.pop(id, None)  # what is written last stands last
            self.entries[id] = entry
        if outcome.origin.request_id:
            self.committed[outcome.origin.request_id] = outcome

    def derive(self, outcome: Committed) -> None:
        """The rows of `versions` and `requests` that follow from a log row."""
        origin = outcome.origin
        encoded = _encode(origin)
        self._versions += [_version_row(change, outcome, encoded) for change in outcome.changes]
        if origin.request_id:
            bare = [reads.without_value(change) for change in outcome.changes]
            body = _encode((outcome.succeeded, outcome.time_ms, origin, bare))
            row = (outcome.revision, origin.request_id, origin.request_hash, outcome.time_ms, body)
            self._requests.append((*row, record_hash(*row)))

    def write_log(self, db: sqlite3.Connection) -> None:
        """The commit records."""
        db.executemany(_PUT_LOG, self.log)

    def write_derived(self, db: sqlite3.Connection) -> None:
        """Everything that follows from them."""
        db.executemany(_PUT_VERSION, self._versions)
        db.executemany(_PUT_ENTRY, [_entry_row(entry) for entry in self.entries.values() if entry is not None])
        deletes = [id for id, entry in self.entries.items() if entry is None]
        if deletes:
            db.executemany(_DELETE_ENTRY, deletes)
        if self._requests:
            db.executemany(_PUT_REQUEST, self._requests)


def entry_of(change: Applied, outcome: Committed) -> Entry | None:
    """The live entry that a logged change leaves."""
    if change.kind != "put":
        return None
    head = {
        "version": change.version,
        "create_revision": change.create_revision,
        "mod_revision": outcome.revision,
        "time_ms": outcome.time_ms,
    }
    session = outcome.origin.session
    row = row_hash(change.id, change.value, **head, session=session, ttl_ms=change.ttl_ms, owner=change.owner)
    return Entry(
        change.id,
        change.value,
        change.version,
        change.create_revision,
        outcome.revision,
        outcome.time_ms,
        session,
        change.ttl_ms,
        change.owner,
        row,
    )


def _entry_row(e: Entry) -> tuple[Any, ...]:
    return (
        *e.id,
        e.version,
        e.create_revision,
        e.mod_revision,
        e.time_ms,
        e.session,
        e.ttl_ms,
        e.owner,
        e.hash,
        e.value,
    )


def _version_row(change: Applied, outcome: Committed, origin: bytes) -> tuple[Any, ...]:
    head = (
        *change.id,
        outcome.revision,
        change.kind,
        change.version,
        change.create_revision,
        outcome.time_ms,
        origin,
        change.ttl_ms,
        change.owner,
    )
    return (*head, version_hash(head, change.value), change.value)
