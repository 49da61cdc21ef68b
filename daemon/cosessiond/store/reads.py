"""Reading the SQLite tables: every row is checked against its hash before anyone sees it.

Rule: read-only, except for `write_meta`. Functions take the connection and raise sqlite3.Error, DecodeError or
StoreDamaged; `sqlite.SqliteEngine` translates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

from msgspec import Struct, msgpack, structs

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
from cosessiond.store.hash import ROW_HASH_BYTES, chain_hash, is_trace, record_hash, row_hash, version_hash
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
_NEWEST_BATCHES: Final = "SELECT revision, length(body) FROM log WHERE revision <= ? ORDER BY revision DESC LIMIT ?"
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
_LINKS: Final = (
    "SELECT mod_revision, kind, version, create_revision FROM versions WHERE space = ? AND project = ? AND key = ?"
)
_LINK_ABOVE: Final = _LINKS + " AND mod_revision > ? ORDER BY mod_revision LIMIT 1"
_LINK_BELOW: Final = _LINKS + " AND mod_revision < ? ORDER BY mod_revision DESC LIMIT 1"
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


def changes(db: sqlite3.Connection, after: int, rows_max: int, bytes_max: int, *, newest: int) -> list[Committed]:
    """Batches above `after`, of which there are some up to `newest`, each checked against the chain; see
    `Engine.changes`.
    """
    previous = _chain_before(db, after)
    found: list[Committed] = []
    size = 0
    for revision, body, digest in db.execute(
        "SELECT revision, body, hash FROM log WHERE revision > ? ORDER BY revision LIMIT ?",
        (after, max(1, min(rows_max, 2**62))),
    ):
        outcome = decode_body(revision, body)
        if found and size + len(body) > bytes_max:
            return found
        size += len(body)
        _check_link(previous, outcome, digest, after + len(found) + 1)
        previous = digest
        found.append(outcome)
    reached = after + len(found)
    if len(found) < rows_max and reached < newest:
        raise StoreDamaged(f"cannot trust the store: revision {reached + 1} is missing from the log")
    return found


def log_after(
    db: sqlite3.Connection, after: int, head: bytes, rows_max: int
) -> Iterator[tuple[Committed, bytes, bytes]]:
    """The next batches above `after`, where the chain stood at `head`: outcome, chain hash, body; each checked."""
    for expected, (revision, body, digest) in enumerate(
        db.execute(
            "SELECT revision, body, hash FROM log WHERE revision > ? ORDER BY revision LIMIT ?", (after, rows_max)
        ),
        start=after + 1,
    ):
        outcome = decode_body(revision, body)
        _check_link(head, outcome, digest, expected)
        head = digest
        yield outcome, digest, body


def verify_chain(db: sqlite3.Connection, meta: Meta, *, batches_max: int, bytes_max: int) -> dict[str, int]:
    """Recompute the chain over the newest batches up to the recorded head, as many as fit; raises StoreDamaged.

    Returns the ids of requests in them of which a search finds no record, by their revision.
    """
    lost: dict[str, int] = {}
    after, size = meta.revision, 0
    for revision, body_bytes in db.execute(_NEWEST_BATCHES, (meta.revision, batches_max)):
        size += body_bytes
        if size > bytes_max and after < meta.revision:
            break
        after = min(after, revision - 1)
    after = max(after, meta.compact_revision - 1)
    previous = _chain_before(db, after)
    expected = after + 1
    for revision, body, digest in db.execute(
        "SELECT revision, body, hash FROM log WHERE revision > ? AND revision <= ? ORDER BY revision",
        (after, meta.revision),
    ):
        outcome = decode_body(revision, body)
        _check_link(previous, outcome, digest, expected)
        if revision > meta.forgotten_revision and is_request_lost(db, outcome):
            lost[outcome.origin.request_id] = revision
        previous = digest
        expected += 1
    if expected != meta.revision + 1 or previous != meta.chain_hash:
        raise StoreDamaged(
            f"cannot trust the store: the log ends at revision {expected - 1}, recorded is {meta.revision}"
        )
    return lost


def is_request_lost(db: sqlite3.Connection, outcome: Committed) -> bool:
    """Whether a batch has a request id, which is kept, and a search does not find the record of it."""
    request_id = outcome.origin.request_id
    kept = request_columns(db, request_id) if request_id else (outcome.revision,)
    # A later one is of an id that was forgotten in between.
    return kept is None or not isinstance(kept[0], int) or kept[0] < outcome.revision


def _chain_before(db: sqlite3.Connection, revision: int) -> bytes:
    digest = chain_at(db, revision)
    if digest is None:
        raise StoreDamaged(f"cannot trust the store: revision {revision} is missing from the log")
    return digest


def chain_at(db: sqlite3.Connection, revision: int) -> bytes | None:
    """The recorded chain hash of a revision in the log or just below it, None for others."""
    row = db.execute("SELECT hash FROM log WHERE revision = ?", (revision,)).fetchone()
    if row is None:
        row = db.execute("SELECT anchor_hash FROM meta WHERE compact_revision = ?", (revision + 1,)).fetchone()
    return row[0] if row else None


def _check_link(previous: bytes, outcome: Committed, digest: bytes, expected: int) -> None:
    if outcome.revision != expected:
        raise StoreDamaged(f"cannot trust the store: revision {expected} is missing from the log")
    if chain_hash(previous, outcome.revision, outcome.time_ms, outcome.origin, outcome.changes) != digest:
        raise StoreDamaged(f"cannot trust the store: revision {outcome.revision} does not match its hash")


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
    for key, rowid, value_bytes, *links in db.execute(keys, bounds):
        looked += 1
        standing, above = _link(links[:4]), _link(links[4:])
        judge(key, standing, above)
        if standing and standing.kind == "put":
            size += value_bytes
            if len(found) == limit or (found and size > PAST_BYTES):
                return Page(tuple(found), more=True, reached=reached)
            row = db.execute(_VERSION_IN, (rowid,)).fetchone()
            entry = entry_of_version(row) if row else None
            if entry is None or (*entry.id, entry.mod_revision) != (space, project, key, standing.mod_revision):
                raise StoreDamaged(f"cannot trust the store: a search for {key!r} leads to another row")
            found.append(entry)
        reached = key
    more = looked == PAST_KEYS
    return Page(tuple(found), more, reached if more else "")


def _link(columns: Sequence[Any] | None) -> Link | None:
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
    return _link(db.execute(_LINK_ABOVE, (*id, revision)).fetchone())


def link_below(db: sqlite3.Connection, id: EntryId, revision: int) -> Link | None:
    """The newest version below a revision, unchecked."""
    return _link(db.execute(_LINK_BELOW, (*id, revision)).fetchone())


def has_versions(db: sqlite3.Connection, id: EntryId, count: int) -> bool:
    """Whether an entry has at least so many."""
    return db.execute(_NTH_NEWEST, (*id, count - 1)).fetchone() is not None


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
