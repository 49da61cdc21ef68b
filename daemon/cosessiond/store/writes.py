"""One group of batches on its way into the log: what its later batches see of the earlier ones, and its log rows.

Rule: everything is gathered first and written at once, inside the transaction of the caller; nothing here commits.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from msgspec import msgpack

from cosessiond.store import reads
from cosessiond.store.behind import Step, rows_of
from cosessiond.store.engine import Applied, Committed, Entry, EntryId, RangeCompare
from cosessiond.store.hash import row_hash, state_add, state_remove
from cosessiond.store.live import Live

_encode = msgpack.Encoder().encode

_PUT_LOG: Final = "INSERT INTO log (revision, body, hash) VALUES (?, ?, ?)"


class Group:
    """The overlay over the live entries, and the steps that made it. The `apply.View` of the engine.

    `entries` is in the order of mod_revision.
    """

    def __init__(self, live: Live) -> None:
        self._live = live
        self.entries: dict[EntryId, Entry | None] = {}
        self.requests: dict[str, Committed] = {}
        self.steps: list[Step] = []
        self._log: list[tuple[Any, ...]] = []

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
        return sum(change.id == id for step in self.steps for change in step.outcome.changes)

    def add(
        self, outcome: Committed, entries: list[tuple[EntryId, Entry | None]], meta: reads.Meta, body: bytes
    ) -> None:
        """One batch that changed something; `meta` has all of it but the size of its log row and the state hash."""
        self._log.append((outcome.revision, body, meta.chain_hash))
        meta.log_bytes += len(body)
        for id, entry in entries:
            before = self.get(id)
            if before is not None:
                meta.state_hash = state_remove(meta.state_hash, before.hash)
            if entry is not None:
                meta.state_hash = state_add(meta.state_hash, entry.hash)
            self.entries.pop(id, None)  # what is written last stands last
            self.entries[id] = entry
        if outcome.origin.request_id:
            self.requests[outcome.origin.request_id] = outcome
        self.steps.append(Step(outcome, entries, meta.copy(), rows_of(len(outcome.changes), len(body))))

    def write(self, db: sqlite3.Connection) -> None:
        """The commit records."""
        db.executemany(_PUT_LOG, self._log)


def log_body(outcome: Committed) -> bytes:
    """What a log row records of a batch besides its revision and hash."""
    return _encode((outcome.succeeded, outcome.time_ms, outcome.origin, outcome.changes))


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
