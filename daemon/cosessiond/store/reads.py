"""Reading the SQLite tables: every row is checked against its hash before anyone sees it.

Rule: read-only, except for `write_meta`. Functions take the connection and raise sqlite3.Error, DecodeError or
StoreDamaged; `sqlite.SqliteEngine` translates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

from msgspec import Struct, msgpack, structs

from cosessiond.store import links
from cosessiond.store.continuity import Link
from cosessiond.store.engine import (
    PAST_BYTES,
    PAST_KEYS,
    Applied,
    Committed,
    Entry,
    EntryId,
    Origin,
    Page,
    StoreDamaged,
    ValuePurged,
    VersionRow,
)
from cosessiond.store.hash import ROW_HASH_BYTES, is_trace, record_hash, row_hash, version_hash
from cosessiond.store.keys import end_of


class Meta(Struct):
    """The one row of `meta`; see schema 1."""

    epoch: str
    revision: int
    applied_revision: int
    applied_position: int
    compact_revision: int
    anchor_hash: bytes
    chain_hash: bytes
    state_hash: bytes
    log_bytes: int
    request_count: int
    forgotten_revision: int

    def copy(self) -> Meta:
        """A copy to change until the transaction has committed."""
        return structs.replace(self)


_decode_body = msgpack.Decoder(tuple[bool, int, Origin, tuple[Applied, ...]]).decode
_decode_origin = msgpack.Decoder(Origin).decode
_encode = msgpack.Encoder().encode

_META: Final = Meta.__struct_fields__
_PUT_META: Final = f"INSERT OR REPLACE INTO meta (id, {', '.join(_META)}, hash) VALUES (?{', ?' * (len(_META) + 1)})"  # noqa: S608  # of constants
_PLACES: Final = "SELECT DISTINCT space, project FROM entries ORDER BY space, project"
_ENTRIES: Final = (
    "SELECT key, version, create_revision, mod_revision, time_ms, session, ttl_ms, owner, hash, value"
    " FROM entries WHERE space = ? AND project = ? ORDER BY key"
)
_VERSIONS_OF: Final = (
    "SELECT space, project, key, mod_revision, kind, version, create_revision, time_ms, origin, ttl_ms, owner, hash,"
    " value FROM versions WHERE space = ? AND project = ? AND key = ?"
)
_ALL_VERSIONS: Final = _VERSIONS_OF.partition(" WHERE")[0]
_VERSIONS_IN_ORDER: Final = _ALL_VERSIONS + " ORDER BY space, project, key, mod_revision"
_VERSION_AT: Final = _VERSIONS_OF + " AND mod_revision <= ? ORDER BY mod_revision DESC LIMIT 1"
_VERSIONS_INSIDE: Final = _VERSIONS_OF + " AND mod_revision > ? AND mod_revision < ? ORDER BY mod_revision"
_VERSION_OF: Final = _VERSIONS_OF + " AND mod_revision = ?"
_REQUEST: Final = "SELECT revision, request_id, request_hash, time_ms, body, hash FROM requests WHERE request_id = ?"
_ALL_REQUESTS: Final = _REQUEST.partition(" WHERE")[0]
_VERSIONS_BEHIND: Final = (
    _ALL_VERSIONS.replace("SELECT ", "SELECT rowid, ", 1) + " WHERE rowid > ? ORDER BY rowid LIMIT ?"
)
_REQUESTS_BEHIND: Final = _ALL_REQUESTS + " WHERE revision > ? ORDER BY revision LIMIT ?"
_ENTRY_OF: Final = (
    "SELECT version, create_revision, mod_revision, time_ms, session, ttl_ms, owner, hash, value FROM entries"
    " WHERE space = ? AND project = ? AND key = ?"
)
_REQUESTS_AFTER: Final = "SELECT revision, time_ms FROM requests WHERE revision > ? ORDER BY revision LIMIT ?"
_NEWER_THAN: Final = (
    "SELECT mod_revision FROM versions WHERE space = ? AND project = ? AND key = ? AND mod_revision > ?"
    " ORDER BY mod_revision LIMIT ?"
)
_NTH_NEWEST: Final = (
    "SELECT mod_revision FROM versions WHERE space = ? AND project = ? AND key = ?"
    " ORDER BY mod_revision DESC LIMIT 1 OFFSET ?"
)
_VERSIONS_BETWEEN: Final = (
    _VERSIONS_OF + " AND mod_revision >= ? AND mod_revision < ? ORDER BY mod_revision DESC LIMIT ?"
)
_ROWID_OF: Final = "SELECT rowid FROM versions WHERE space = ? AND project = ? AND key = ? AND mod_revision = ?"
_HASH_OF: Final = "SELECT hash FROM entries WHERE space = ? AND project = ? AND key = ?"
_HASHES_BETWEEN: Final = (
    "SELECT space, project, key, hash FROM entries WHERE (space, project, key) > (?, ?, ?)"
    " AND (space, project, key) <= (?, ?, ?) ORDER BY space, project, key LIMIT ?"
)
_HASHES_BEHIND: Final = (
    "SELECT space, project, key, hash FROM entries WHERE (space, project, key) > (?, ?, ?)"
    " ORDER BY space, project, key LIMIT ?"
)
_VERSION_IN: Final = (
    "SELECT space, project, key, mod_revision, kind, version, create_revision, time_ms, origin, ttl_ms, owner, hash,"
    " value FROM versions WHERE rowid = ?"
)
# One search for each key and one for what stood there, whatever number of versions it has: the next key is looked for,
# never the end of this one.
_NEXT_KEY: Final = (
    "SELECT key FROM versions WHERE space = ?1 AND project = ?2 AND key {begin} AND (?4 = '' OR key < ?4)"
    " ORDER BY key LIMIT 1"
)
_STANDING: Final = f"""
    WITH RECURSIVE keys (key) AS (
        SELECT * FROM ({_NEXT_KEY.format(begin="{begin} ?3")})
        UNION ALL
        SELECT ({_NEXT_KEY.format(begin="> keys.key")}) FROM keys WHERE keys.key IS NOT NULL
        LIMIT ?6
    )
    SELECT keys.key, found.rowid, length(found.value),
        found.mod_revision, found.kind, found.version, found.create_revision,
        above.mod_revision, above.kind, above.version, above.create_revision
    FROM keys LEFT JOIN versions AS found ON found.rowid = (
        SELECT rowid FROM versions WHERE space = ?1 AND project = ?2 AND key = keys.key AND mod_revision <= ?5
        ORDER BY mod_revision DESC LIMIT 1
    ) LEFT JOIN versions AS above ON above.rowid = (
        SELECT rowid FROM versions WHERE space = ?1 AND project = ?2 AND key = keys.key AND mod_revision > ?5
        ORDER BY mod_revision LIMIT 1
    ) WHERE keys.key IS NOT NULL"""  # noqa: S608  # of constants
_STANDING_FROM: Final = _STANDING.format(begin=">=")
_STANDING_BEHIND: Final = _STANDING.format(begin=">")
_REVISION_END: Final = 2**63 - 1


def read_meta(db: sqlite3.Connection) -> Meta:
    """The recorded position."""
    row = db.execute(f"SELECT {', '.join(_META)}, hash FROM meta").fetchone()  # noqa: S608  # of constants
    if row is None:
        raise StoreDamaged("cannot trust the store: its position is missing")
    *fields, digest = row
    if record_hash(*fields) != digest:
        raise StoreDamaged("cannot trust the store: the record of its position does not match its hash")
    return Meta(*fields)


def used_bytes(db: sqlite3.Connection) -> int:
    """The pages in use, in bytes; what the WAL holds counts as if it were in the file."""
    pages, free, page_bytes = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)


def write_meta(db: sqlite3.Connection, meta: Meta) -> None:
    """Record the position in the current transaction, as the one row there is."""
    fields = structs.astuple(meta)
    db.execute(_PUT_META, (1, *fields, record_hash(*fields)))


def entries(db: sqlite3.Connection) -> Iterator[Entry]:
    """Every live entry in order of its id, each checked; equal spaces, projects and sessions share one string."""
    shared = {"": ""}.setdefault
    for space, project in db.execute(_PLACES).fetchall():
        for row in db.execute(_ENTRIES, (space, project)):
            key, version, created, modified, time_ms, session, ttl_ms, owner, digest, value = row
            id = (space, project, key)
            # `row_hash`, written out: a start does this a hundred thousand times.
            head = _encode((id, version, created, modified, time_ms, session, ttl_ms, owner))
            if blake2b(head + value, digest_size=ROW_HASH_BYTES).digest() != digest:
                raise StoreDamaged(f"cannot trust the store: the entry {key!r} of {space} does not match its hash")
            session = shared(session, session)
            yield Entry(id, value, version, created, modified, time_ms, session, ttl_ms, owner, digest)


def decode_body(revision: int, body: bytes) -> Committed:
    """A log or request body as the outcome it records."""
    if not isinstance(body, bytes):
        raise StoreDamaged(f"cannot trust the store: revision {revision} is no batch")
    succeeded, time_ms, origin, applied = _decode_body(body)
    return Committed(revision, succeeded, time_ms, origin, applied)


def request(db: sqlite3.Connection, request_id: str) -> Committed | None:
    """The outcome kept under a request id, without the values of its changes."""
    row = db.execute(_REQUEST, (request_id,)).fetchone()
    if row is None:
        return None
    revision, _, _, _, body = checked_request(row)
    return decode_body(revision, body)


def checked_request(row: tuple[Any, ...]) -> list[Any]:
    """The fields of a row of `requests` that matches its hash; else raises StoreDamaged."""
    *fields, digest = row
    if record_hash(*fields) != digest:
        raise StoreDamaged(f"cannot trust the store: the outcome of request {fields[1]!r} does not match its hash")
    return fields


def requests_after(db: sqlite3.Connection, revision: int, rows_max: int) -> list[tuple[int, int]]:
    """(revision, time_ms) of the oldest kept request ids above `revision`."""
    return db.execute(_REQUESTS_AFTER, (revision, rows_max)).fetchall()


def entry_at(db: sqlite3.Connection, id: EntryId, revision: int) -> Entry | None:
    """See `Engine.entry_at`."""
    row = db.execute(_VERSION_AT, (*id, revision)).fetchone()
    return entry_of_version(row) if row else None


def range_at(
    db: sqlite3.Connection,
    space: str,
    project: str,
    *,
    prefix: str,
    after: str,
    limit: int,
    revision: int,
    judge: Callable[[str, Link | None, Link | None], None],
) -> Page:
    """See `Engine.range_at`. `judge` is asked of each key whether this version and the one above can be neighbours."""
    found: list[Entry] = []
    size = looked = 0
    reached = after
    keys = _STANDING_BEHIND if after >= prefix else _STANDING_FROM
    bounds = (space, project, max(after, prefix), end_of(prefix), revision, PAST_KEYS)
    for key, rowid, value_bytes, *row in db.execute(keys, bounds):
        looked += 1
        standing, above = links.link_in(row[:4]), links.link_in(row[4:])
        judge(key, standing, above)
        if standing and standing.kind == "put":
            size += value_bytes
            if len(found) == limit or (found and size > PAST_BYTES):
                return Page(tuple(found), more=True, reached=reached)
            version = db.execute(_VERSION_IN, (rowid,)).fetchone()
            entry = entry_of_version(version) if version else None
            if entry is None or (*entry.id, entry.mod_revision) != (space, project, key, standing.mod_revision):
                raise StoreDamaged(f"cannot trust the store: a search for {key!r} leads to another row")
            found.append(entry)
        reached = key
    more = looked == PAST_KEYS
    return Page(tuple(found), more, reached if more else "")


def version_rowid(db: sqlite3.Connection, id: EntryId, revision: int) -> int:
    """Where a search finds a version; 0: nowhere."""
    row = db.execute(_ROWID_OF, (*id, revision)).fetchone()
    return row[0] if row else 0


def version_columns(db: sqlite3.Connection, id: EntryId, revision: int) -> tuple[Any, ...] | None:
    """The row of one version, unchecked."""
    row: tuple[Any, ...] | None = db.execute(_VERSION_OF, (*id, revision)).fetchone()
    return row


def request_columns(db: sqlite3.Connection, request_id: str) -> tuple[Any, ...] | None:
    """The row of a kept request, unchecked."""
    row: tuple[Any, ...] | None = db.execute(_REQUEST, (request_id,)).fetchone()
    return row


def entry_hashes(
    db: sqlite3.Connection, after: EntryId, until: EntryId | None, rows_max: int
) -> list[tuple[EntryId, object]]:
    """The ids that the table of entries has behind `after`, up to `until` (None: all), and the hashes, as they are."""
    if until is None:
        found = db.execute(_HASHES_BEHIND, (*after, rows_max))
    else:
        found = db.execute(_HASHES_BETWEEN, (*after, *until, rows_max))
    return [((space, project, key), hash) for space, project, key, hash in found]


def entry_hash(db: sqlite3.Connection, id: EntryId) -> object:
    """The hash that the table has with a live entry, as it is; None: no such row."""
    row: tuple[object] | None = db.execute(_HASH_OF, id).fetchone()
    return row[0] if row else None


def history(
    db: sqlite3.Connection, id: EntryId, *, limit: int, before: int, versions_max: int, ended: int
) -> list[VersionRow]:
    """See `Engine.history`; `ended`: nothing below this revision is shown."""
    oldest = db.execute(_NTH_NEWEST, (*id, versions_max - 1)).fetchone()
    bounds = (max(ended, oldest[0] if oldest else 0), before if before > 0 else _REVISION_END, limit)
    found: list[VersionRow] = []
    size = 0
    for row in db.execute(_VERSIONS_BETWEEN, (*id, *bounds)):
        version = _version(row)
        size += len(version.value)
        if found and size > PAST_BYTES:
            break
        found.append(version)
    return found


def with_value(
    db: sqlite3.Connection,
    change: Applied,
    revision: int,
    *,
    versions: int,
    ended: int,
    unwritten: int,
    compact_revision: int,
) -> Applied:
    """A change of a kept request with its value again, where that version can still be asked for: it is among the
    newest `versions`, of which `unwritten` are not in the table yet, or stands at `compact_revision` or above; and its
    key had not `ended` by that revision.

    Rows that trimming has not come to yet do not show: the answer depends on the batches alone.
    """
    if change.kind != "put" or revision < ended:
        return change
    newer = db.execute(_NEWER_THAN, (*change.id, revision, versions)).fetchall()
    if newer and len(newer) + unwritten >= versions and newer[0][0] <= compact_revision:
        return change
    row = db.execute(_VERSION_OF, (*change.id, revision)).fetchone()
    if row is None and revision >= compact_revision:
        raise StoreDamaged(f"cannot trust the store: version {revision} of {change.id[2]!r} is missing")
    value = _version(row).value if row else b""
    return change if is_trace(value) else _replace_value(change, value)


def without_value(change: Applied) -> Applied:
    """A change as kept with its request id."""
    return _replace_value(change, b"")


def whole(entry: Entry) -> Entry:
    """An entry that may be shown; raises ValuePurged for one of which the trace is left."""
    if is_trace(entry.value):
        raise ValuePurged(entry.id, entry.mod_revision)
    return entry


def with_trace(change: Applied, value: bytes) -> Applied:
    """A change whose value was purged."""
    return _replace_value(change, value)


def _replace_value(c: Applied, value: bytes) -> Applied:
    return Applied(
        c.id, c.kind, value, c.version, c.create_revision, c.ttl_ms, c.owner, c.replaced_revision, c.replaced_session
    )


def versions_between(db: sqlite3.Connection, id: EntryId, after: int, before: int) -> Iterator[tuple[Any, ...]]:
    """The rows of an entry's versions with `after` < mod_revision < `before`, oldest first, unchecked."""
    return db.execute(_VERSIONS_INSIDE, (*id, after, before))


def all_versions(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """The rows of all versions, as they lie, unchecked."""
    return db.execute(_ALL_VERSIONS)


def request_sizes(db: sqlite3.Connection) -> Iterator[int]:
    """The bytes of each kept request, each checked."""
    for row in db.execute(_ALL_REQUESTS):
        yield len(checked_request(row)[4])


def versions_in_order(db: sqlite3.Connection) -> Iterator[VersionRow]:
    """Every kept version by entry, oldest first, each checked."""
    for row in db.execute(_VERSIONS_IN_ORDER):
        yield _version(row)


def versions_behind(db: sqlite3.Connection, rowid: int, rows_max: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows of versions behind a rowid, each with its own, unchecked."""
    for number, *row in db.execute(_VERSIONS_BEHIND, (rowid, rows_max)):
        yield number, tuple(row)


def requests_behind(db: sqlite3.Connection, revision: int, rows_max: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows of kept requests behind a revision, each with its own, unchecked."""
    for row in db.execute(_REQUESTS_BEHIND, (revision, rows_max)):
        yield row[0], row


def is_kept(db: sqlite3.Connection, entry: Entry) -> bool:
    """Whether the table has a live entry as it is in memory."""
    row: tuple[Any, ...] | None = db.execute(_ENTRY_OF, entry.id).fetchone()
    return row == (
        entry.version,
        entry.create_revision,
        entry.mod_revision,
        entry.time_ms,
        entry.session,
        entry.ttl_ms,
        entry.owner,
        entry.hash,
        entry.value,
    )


def checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of `versions` that matches its hash; else raises StoreDamaged."""
    if not isinstance(row[12], bytes) or version_hash(row[:11], row[12]) != row[11]:
        raise StoreDamaged(f"cannot trust the store: version {row[3]} of {row[2]!r} does not match its hash")
    return row


def _version(row: tuple[Any, ...]) -> VersionRow:
    space, project, key, modified, kind, version, created, time_ms, origin, _, _, _, value = checked(row)
    return VersionRow((space, project, key), kind, value, version, created, modified, time_ms, _decode_origin(origin))


def entry_of_version(row: tuple[Any, ...]) -> Entry | None:
    """The entry that a version is, None for a deletion; checked."""
    space, project, key, modified, kind, version, created, time_ms, origin, ttl_ms, owner, _, value = checked(row)
    if kind != "put":
        return None
    id = (space, project, key)
    session = _decode_origin(origin).session
    digest = row_hash(
        id,
        value,
        version=version,
        create_revision=created,
        mod_revision=modified,
        time_ms=time_ms,
        session=session,
        ttl_ms=ttl_ms,
        owner=owner,
    )
    return Entry(id, value, version, created, modified, time_ms, session, ttl_ms, owner, digest)
