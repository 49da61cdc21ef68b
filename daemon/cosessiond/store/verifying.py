"""Reading one copy of a store from end to end: a backup, or any other plain database that nobody has open.

The structure is checked by SQLite, every row by its hash, the log by its chain from the anchor to its end, the live
entries by their sum; what the log has above the tables is followed as a start would. Nothing is written, and a schema
older than ours is read as it is.

Rule: read-only. It tells what is there; whether that is what it should be is decided by who asks.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import DecodeError, Struct

from cosession.errors import ConfigError
from cosessiond.process.files import open_plain
from cosessiond.store import logged, reads, schema
from cosessiond.store.auditing import AuditTable
from cosessiond.store.engine import EntryId, StoreBroken, Window
from cosessiond.store.hash import state_add, state_remove
from cosessiond.store.writes import entry_of

_CHUNK_BYTES: Final = 1024 * 1024
_ROWS: Final = 1_000
_NO_BOUND: Final = 2**62
#: The schema that has the audit.
_AUDITED: Final = 2

#: Told now and then of work done and of all there is, both in bytes.
Tell = Callable[[int, int], None]


class Facts(Struct, frozen=True, kw_only=True):
    """What one copy of a store holds, see `backup.Manifest`."""

    epoch: str
    revision: int
    compact_revision: int
    entries: int
    size_bytes: int
    sha256: str
    schema: int
    chain_hash: str
    state_hash: str


class _Work:
    """How far it is: the file is read three times, for its sum, its structure and its rows."""

    def __init__(self, size: int, tell: Tell) -> None:
        self._size = size
        self._tell = tell
        self._done = 0
        self._part = 0

    def did(self, count: int) -> None:
        """So many bytes more of this part; what rows hold together is only about the size of the file."""
        before, self._part = self._part, min(self._part + count, self._size)
        if self._part // _CHUNK_BYTES != before // _CHUNK_BYTES:
            self._tell(self._done + self._part, 3 * self._size)

    def part(self) -> None:
        """One of the three is done."""
        self._done, self._part = self._done + self._size, 0
        self._tell(self._done, 3 * self._size)


def verify(path: Path, tell: Tell = lambda _done, _all: None) -> Facts:
    """Read all of the database at `path`, which must have no WAL and be written by nobody.

    Raises StoreBroken when anything does not match, ConfigError for what is no database of ours, not even of an older
    version, FileNotFoundError.
    """
    descriptor = open_plain(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        work = _Work(size, tell)
        digest = _sum(descriptor, work)
        try:
            with closing(schema.open_copy(path)) as db:
                if not os.path.samestat(os.lstat(path), os.fstat(descriptor)):
                    raise ConfigError(f"cannot read {path}: another file has taken its place; look again")
                return _read(db, size, digest, work)
        except (sqlite3.Error, DecodeError, ValueError, TypeError) as error:
            # TypeError: a column that does not hold what it should; row hashes are taken of what is there.
            raise StoreBroken(f"cannot trust {path}: {error}") from error
    finally:
        os.close(descriptor)


def _sum(descriptor: int, work: _Work) -> str:
    digest = hashlib.sha256()
    at = 0
    while data := os.pread(descriptor, _CHUNK_BYTES, at):
        digest.update(data)
        at += len(data)
        work.did(len(data))
    work.part()
    return digest.hexdigest()


def _read(db: sqlite3.Connection, size: int, digest: str, work: _Work) -> Facts:
    found = [row[0] for row in db.execute("PRAGMA integrity_check(4)")]
    if found != ["ok"]:
        raise StoreBroken(f"cannot trust the store: its structure is damaged: {'; '.join(map(str, found))}")
    work.part()
    meta = reads.read_meta(db)
    if meta.applied_revision != meta.revision:
        raise StoreBroken("cannot trust the store: its record of the position disagrees with itself")
    live = _entries(db, meta, work)
    revision, chain, state = _follow(db, meta, live, work)
    for count in _versions(db):
        work.did(count)
    for count in reads.request_sizes(db):
        work.did(count)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version >= _AUDITED:
        _audit(db, work)
    work.part()
    return Facts(
        epoch=meta.epoch,
        revision=revision,
        compact_revision=meta.compact_revision,
        entries=len(live),
        size_bytes=size,
        sha256=digest,
        schema=version,
        chain_hash=chain.hex(),
        state_hash=state.hex(),
    )


def _entries(db: sqlite3.Connection, meta: reads.Meta, work: _Work) -> dict[EntryId, bytes]:
    """The hashes of the live entries as the tables have them."""
    live: dict[EntryId, bytes] = {}
    for entry in reads.entries(db):
        live[entry.id] = entry.hash
        work.did(len(entry.value))
    if (sum(int.from_bytes(each) for each in live.values()) % (1 << 128)).to_bytes(16) != meta.state_hash:
        raise StoreBroken("cannot trust the store: the live entries do not add up to the recorded state hash")
    return live


def _follow(
    db: sqlite3.Connection, meta: reads.Meta, live: dict[EntryId, bytes], work: _Work
) -> tuple[int, bytes, bytes]:
    """Walk the whole chain; what it has above the tables changes `live`. Where it ends: revision, chain, state."""
    revision, chain, state = meta.compact_revision - 1, meta.anchor_hash, meta.state_hash
    for outcome, head, body in logged.log_after(db, revision, chain, _NO_BOUND):
        revision, chain = outcome.revision, head
        work.did(len(body))
        if revision == meta.revision and chain != meta.chain_hash:
            break
        if revision <= meta.revision:
            continue
        for change in outcome.changes:
            before, entry = live.pop(change.id, None), entry_of(change, outcome)
            if before is not None:
                state = state_remove(state, before)
            if entry is not None:
                live[change.id] = entry.hash
                state = state_add(state, entry.hash)
    if revision < meta.revision or (revision == meta.revision and chain != meta.chain_hash):
        raise StoreBroken(f"cannot trust the store: the log ends at {revision}, recorded is {meta.revision}")
    return revision, chain, state


def _versions(db: sqlite3.Connection) -> Iterator[int]:
    for row in reads.all_versions(db):
        yield len(reads.checked(row)[12])


def _audit(db: sqlite3.Connection, work: _Work) -> None:
    table = AuditTable(db, Window())
    after = table.span.first - 1
    while found := table.read(after=after, before=0, limit=_ROWS, newest_first=False):
        after = found[-1].id
        work.did(sum(each.record.size for each in found))
