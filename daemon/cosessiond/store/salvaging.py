"""A new store of every row that can still be proved, out of what was carved from a damaged one.

What proves a row: its own hash, for entries, versions and records of the audit; the chain, for a batch of the log whose
neighbour before it is there as well. A live entry is the newest thing known of its key, in whatever table it stood;
where that is a deletion there is none.

Rule: what is doubtful is left out and told by key and revision; nothing is mended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from msgspec import DecodeError, Struct, field

from cosessiond.store import behind, reads
from cosessiond.store.auditing import checked_columns, put_columns
from cosessiond.store.carving import Row
from cosessiond.store.engine import Committed, Entry, EntryId, StoreDamaged
from cosessiond.store.hash import ZERO_CHAIN, chain_hash, is_trace, record_hash, row_hash
from cosessiond.store.writes import entry_of

_LOG, _ENTRIES, _VERSIONS, _AUDIT = 3, 12, 13, 9
#: Keys and gaps that a report names; beyond that they are counted.
NAMED_MAX: Final = 1_000


class Salvage(Struct):
    """What was found. `newest` is by id: the revision, and the entry it left (None: a deletion)."""

    newest: dict[EntryId, tuple[int, Entry | None]] = field(default_factory=dict)
    versions: dict[tuple[EntryId, int], tuple[Any, ...]] = field(default_factory=dict)
    audit: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    batches: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    anchors: set[bytes] = field(default_factory=set)
    proved: set[int] = field(default_factory=set)
    lost: dict[str, int] = field(default_factory=dict)  # "space/project/key" and the revision it claimed

    def take(self, rows: Iterable[Row]) -> None:
        """Sort rows by what they prove to be; call `follow` afterwards."""
        for rowid, columns in rows:
            kind = len(columns)
            try:
                if kind == _LOG and isinstance(columns[1], bytes) and isinstance(columns[2], bytes):
                    self.batches[rowid] = columns[1], columns[2]
                elif kind == _ENTRIES:
                    self._entry(columns)
                elif kind == _VERSIONS and columns[0] is None:
                    self._meta(columns)
                elif kind == _VERSIONS:
                    self._version(columns)
                elif kind == _AUDIT:
                    checked = checked_columns((rowid, *columns[1:]))
                    self.audit[rowid] = checked
            except (StoreDamaged, TypeError, ValueError, DecodeError, OverflowError):
                if kind in (_ENTRIES, _VERSIONS) and all(isinstance(each, str) for each in columns[:3]):
                    revision = columns[5] if kind == _ENTRIES else columns[3]
                    self.lost["/".join(map(str, columns[:3]))] = revision if isinstance(revision, int) else 0

    def _meta(self, columns: tuple[Any, ...]) -> None:
        _, *fields, digest = columns
        if record_hash(*fields) == digest:
            self.anchors.add(reads.Meta(*fields).anchor_hash)

    def _entry(self, columns: tuple[Any, ...]) -> None:
        space, project, key, version, created, modified, time_ms, session, ttl_ms, owner, digest, value = columns
        id = (space, project, key)
        found = row_hash(
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
        if found != digest:
            raise StoreDamaged("the entry does not match its hash")
        self._newer(id, modified, Entry(id, value, version, created, modified, time_ms, session, ttl_ms, owner, digest))

    def _version(self, columns: tuple[Any, ...]) -> None:
        row = reads.checked(columns)
        id: EntryId = row[0], row[1], row[2]
        self.versions[id, row[3]] = row
        entry = None if is_trace(row[12]) else reads.entry_of_version(row)
        if entry is not None or row[4] != "put":
            self._newer(id, row[3], entry)

    def _newer(self, id: EntryId, revision: int, entry: Entry | None) -> None:
        if revision >= self.newest.get(id, (0, None))[0]:
            self.newest[id] = revision, entry

    def follow(self) -> None:
        """Take what the log proves: batches behind one that is there, or behind an anchor."""
        for revision in sorted(self.batches):
            body, digest = self.batches[revision]
            before = self.batches.get(revision - 1)
            try:
                outcome = reads.decode_body(revision, body)
            except (DecodeError, ValueError):
                continue
            proofs = [before[1]] if before else [*self.anchors, ZERO_CHAIN]
            if any(_links(outcome, proof, digest) for proof in proofs):
                self.proved.add(revision)
                self._batch(outcome)

    def _batch(self, outcome: Committed) -> None:
        for change, row in zip(outcome.changes, behind.version_rows(outcome), strict=True):
            self.versions.setdefault((change.id, outcome.revision), row)
            if not is_trace(change.value):
                self._newer(change.id, outcome.revision, entry_of(change, outcome))

    @property
    def entries(self) -> list[Entry]:
        """What is live."""
        return [entry for _, entry in self.newest.values() if entry is not None]

    @property
    def revision(self) -> int:
        """The newest that anything tells of."""
        return max([0, *(revision for revision, _ in self.newest.values()), *self.batches])

    def gaps(self) -> list[tuple[int, int]]:
        """The revisions from the oldest batch of the log to the newest known of which no batch was proved."""
        found: list[tuple[int, int]] = []
        for revision in range(min(self.batches, default=1), self.revision + 1):
            if revision in self.proved:
                continue
            if found and found[-1][1] == revision - 1:
                found[-1] = found[-1][0], revision
            else:
                found.append((revision, revision))
        return found[:NAMED_MAX]

    def still_lost(self) -> dict[str, int]:
        """The keys with a damaged row that nothing as new or newer makes up for."""
        known = {"/".join(id): revision for id, (revision, _) in self.newest.items()}
        lost = {key: revision for key, revision in self.lost.items() if known.get(key, -1) < revision}
        return dict(sorted(lost.items())[:NAMED_MAX])


def lay_down(db: sqlite3.Connection, found: Salvage, *, epoch: str) -> None:
    """Fill a new and empty store; its position is behind all of it, and its log begins there. Raises sqlite3.Error."""
    entries = found.entries
    state = sum(int.from_bytes(entry.hash) for entry in entries) % (1 << 128)
    revision = max(1, found.revision)
    db.execute("BEGIN IMMEDIATE")
    meta = reads.Meta(
        epoch=epoch,
        revision=revision,
        applied_revision=revision,
        applied_position=revision,
        compact_revision=revision + 1,
        anchor_hash=ZERO_CHAIN,
        chain_hash=ZERO_CHAIN,
        state_hash=state.to_bytes(16),
        log_bytes=0,
        request_count=0,
        forgotten_revision=revision,
    )
    behind.write_rows(db, entries, found.versions.values())
    put_columns(db, _newest_run(found.audit))
    reads.write_meta(db, meta)
    db.execute("COMMIT")


def _newest_run(audit: dict[int, tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Ids are dense: the records from the newest back to the first that is missing."""
    run: list[tuple[Any, ...]] = []
    id = max(audit, default=0)
    while id in audit:
        run.append(audit[id])
        id -= 1
    return run[::-1]


def _links(outcome: Committed, previous: bytes, digest: bytes) -> bool:
    return chain_hash(previous, outcome.revision, outcome.time_ms, outcome.origin, outcome.changes) == digest
