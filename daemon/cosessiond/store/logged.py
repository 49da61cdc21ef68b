"""The log as a chain: batches are read in order, and each is held against the hash of the one before it.

Rule: read-only; a batch is shown when the chain up to it holds, from a hash that is recorded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from cosessiond.store.engine import Committed, StoreDamaged
from cosessiond.store.hash import chain_hash
from cosessiond.store.reads import Meta, decode_body, request_columns

_NEWEST_BATCHES: Final = "SELECT revision, length(body) FROM log WHERE revision <= ? ORDER BY revision DESC LIMIT ?"


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
