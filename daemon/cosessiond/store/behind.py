"""What the log has and the other tables have not yet: the rows that follow from committed batches, written behind them.

A commit writes its log row and nothing else; `entries`, `versions`, `requests` and the recorded position follow in
slices, a few hundred batches in one transaction. Until then this answers for what the tables do not know. After a crash
the start derives the same from the log (`sqlite.SqliteEngine`), so that nothing here has to be durable.

Rule: first in, first out, whole batches: the recorded position is always that of some batch, and the tables agree
with it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from msgspec import msgpack

from cosessiond.store import reads
from cosessiond.store.engine import Applied, Committed, Entry, EntryId, VersionRow
from cosessiond.store.hash import record_hash, version_hash

_encode = msgpack.Encoder().encode

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
_FORGET_REQUESTS: Final = "DELETE FROM requests WHERE revision <= ?"


class Step(NamedTuple):
    """One committed batch: its outcome, the entries as it left them (None: gone), and where the store stood then.

    `rows`: about how many it becomes, where a large value counts as several.
    """

    outcome: Committed
    entries: list[tuple[EntryId, Entry | None]]
    meta: reads.Meta
    rows: int


def rows_of(changes: int, body_bytes: int) -> int:
    """Of each change an entry and a version, one for the request; and one for each page of values, twice."""
    return 2 * changes + 1 + body_bytes // 2048


class Behind:
    """The steps that are in the log only, oldest first."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._requests: dict[str, Committed] = {}
        self._versions: Counter[EntryId] = Counter()
        self.rows = 0

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, step: Step) -> None:
        """A batch is in the log."""
        self._steps.append(step)
        self.rows += step.rows
        self._versions.update(change.id for change in step.outcome.changes)
        if step.outcome.origin.request_id:
            self._requests[step.outcome.origin.request_id] = step.outcome

    def kept(self, request_id: str) -> Committed | None:
        """The outcome of a request that is not in its table yet."""
        return self._requests.get(request_id)

    def versions_of(self, id: EntryId) -> int:
        """How many versions of `id` are not in their table yet."""
        return self._versions.get(id, 0)

    def standing(self, space: str, project: str, prefix: str, revision: int) -> dict[str, Entry | None]:
        """The entries under `prefix` that a step up to `revision` has changed, by key, as the last one left them."""
        found: dict[str, Entry | None] = {}
        for outcome, entries, _, _ in self._steps:
            if outcome.revision > revision:
                break
            for id, entry in entries:
                if id[0] == space and id[1] == project and id[2].startswith(prefix):
                    found[id[2]] = entry
        return found

    def history(self, id: EntryId) -> list[VersionRow]:
        """The versions of `id` that are not in their table yet, newest first."""
        if id not in self._versions:
            return []
        return [
            VersionRow(
                id,
                change.kind,
                change.value,
                change.version,
                change.create_revision,
                outcome.revision,
                outcome.time_ms,
                outcome.origin,
            )
            for outcome, _, _, _ in reversed(self._steps)
            for change in outcome.changes
            if change.id == id
        ]

    def first(self, rows_max: int) -> list[Step]:
        """The oldest steps, at least one, that become about `rows_max` rows."""
        found: list[Step] = []
        rows = 0
        for step in self._steps:
            rows += step.rows
            if found and rows > rows_max:
                break
            found.append(step)
        return found

    def written(self, steps: list[Step]) -> None:
        """The tables have these, which are the oldest."""
        for step in steps:
            assert self._steps.popleft() is step, "first in, first out"
            self.rows -= step.rows
            for change in step.outcome.changes:
                self._versions[change.id] -= 1
                if not self._versions[change.id]:
                    del self._versions[change.id]
            request_id = step.outcome.origin.request_id
            if self._requests.get(request_id) is step.outcome:  # and not a later one: an id that was forgotten is free
                del self._requests[request_id]

    def trimmed(self, meta: reads.Meta, dropped_bytes: int) -> None:
        """The log begins where `meta` says and is shorter by so much: so it will be recorded with each step."""
        for step in self._steps:
            step.meta.compact_revision, step.meta.anchor_hash = meta.compact_revision, meta.anchor_hash
            step.meta.log_bytes -= dropped_bytes


def write(db: sqlite3.Connection, steps: list[Step]) -> None:
    """All rows that follow from `steps`, in the caller's transaction, and the position behind the last of them."""
    meta = steps[-1].meta
    versions: list[tuple[Any, ...]] = []
    requests: list[tuple[Any, ...]] = []
    entries: dict[EntryId, Entry | None] = {}
    for outcome, left, _, _ in steps:
        origin = outcome.origin
        encoded = _encode(origin)
        versions += [_version_row(change, outcome, encoded) for change in outcome.changes]
        entries.update(left)
        if origin.request_id and outcome.revision > meta.forgotten_revision:
            requests.append(_request_row(outcome))
    db.executemany(_PUT_VERSION, versions)
    db.executemany(_PUT_ENTRY, [_entry_row(entry) for entry in entries.values() if entry is not None])
    deletes = [id for id, entry in entries.items() if entry is None]
    if deletes:
        db.executemany(_DELETE_ENTRY, deletes)
    if requests:
        db.executemany(_PUT_REQUEST, requests)
    db.execute(_FORGET_REQUESTS, (meta.forgotten_revision,))
    reads.write_meta(db, meta)


def version_rows(outcome: Committed) -> list[tuple[Any, ...]]:
    """The rows of `versions` that follow from a batch, one for each change."""
    encoded = _encode(outcome.origin)
    return [_version_row(change, outcome, encoded) for change in outcome.changes]


def write_rows(db: sqlite3.Connection, entries: Iterable[Entry], versions: Iterable[tuple[Any, ...]]) -> None:
    """Put live entries and versions as they are, in the caller's transaction."""
    db.executemany(_PUT_VERSION, versions)
    db.executemany(_PUT_ENTRY, map(_entry_row, entries))


def _request_row(outcome: Committed) -> tuple[Any, ...]:
    origin = outcome.origin
    bare = [reads.without_value(change) for change in outcome.changes]
    body = _encode((outcome.succeeded, outcome.time_ms, origin, bare))
    row = (outcome.revision, origin.request_id, origin.request_hash, outcome.time_ms, body)
    return (*row, record_hash(*row))


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
