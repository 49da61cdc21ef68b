"""A new epoch: an opened store goes on under another name, at a revision above every one that was ever told.

Whoever restored a backup, saved what was readable of a damaged store, or found the end of the log missing, has a store
that is behind what clients have seen. Its old revisions must not be given out a second time for other changes: so the
next one is a multiple of 2^20 above all that is known, and a client that remembers the old epoch is told to begin anew.

What does not cross: the log window (nobody can have seen it from here), request ids (P2 holds within one epoch), and
leases. Entries with a time of their own, ephemeral ones and the records of claims end with the first batches of the new
epoch, so that nothing is held whose holder was told that it is no longer. Entries, their history and the audit stay.

Rule: one transaction; a crash leaves the old epoch or the new one. Pure but for that: the name and the time are given.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from cosession.messages.limits import BATCH_WRITES_MAX
from cosessiond.store import behind, ended, reads
from cosessiond.store.apply import Evaluated, evaluate
from cosessiond.store.continuity import EPOCH_STEP
from cosessiond.store.engine import BATCH_FORMAT, Batch, Committed, Delete, Entry, EntryId, Origin
from cosessiond.store.hash import chain_hash
from cosessiond.store.live import Live
from cosessiond.store.writes import Group, log_body

OPERATION: Final = "epoch"
#: Every record here is a lease.
LEASES: Final = "$claims"


def first_revision(known: Iterable[int]) -> int:
    """Where a new epoch begins: the next multiple of EPOCH_STEP above every revision known."""
    return (max(known, default=0) // EPOCH_STEP + 1) * EPOCH_STEP


def begin(
    db: sqlite3.Connection, meta: reads.Meta, live: Live, *, epoch: str, known: Iterable[int], time_ms: int
) -> Group:
    """Begin `epoch` above `meta.revision` and all `known`; what was written, whose last step has the new position.

    The tables must be settled: `meta` is the recorded position and that of the log. Raises sqlite3.Error.
    """
    assert meta.revision == meta.applied_revision, "the tables are settled"
    group, meta = Group(live), meta.copy()
    first = first_revision((meta.revision, *known))
    meta.epoch, meta.compact_revision, meta.anchor_hash = epoch, first, meta.chain_hash
    meta.log_bytes = meta.request_count = 0
    meta.forgotten_revision = first - 1
    # The epoch is in the chain: two that begin from the same copy differ from their first revision on.
    origin = Origin(instance=epoch, operation=OPERATION)
    _add(group, meta, Committed(first, True, time_ms, origin, ()), [])
    leases = [entry.id for entry in live.in_order() if _is_lease(entry)]
    for at in range(0, len(leases), BATCH_WRITES_MAX):
        ends = tuple(Delete(id, "expire") for id in leases[at : at + BATCH_WRITES_MAX])
        found = evaluate(Batch(BATCH_FORMAT, time_ms, origin, (), ends), group, meta.revision)
        assert isinstance(found, Evaluated), "a deletion is never refused"
        _add(group, meta, found.outcome, found.entries)
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM log")
    group.write(db)
    behind.write(db, group.steps)
    ended.begin_sweep(db)  # the log window has passed every deletion
    db.execute("COMMIT")
    return group


def _is_lease(entry: Entry) -> bool:
    return bool(entry.ttl_ms or entry.owner or entry.id[0] == LEASES)


def _add(group: Group, meta: reads.Meta, outcome: Committed, entries: list[tuple[EntryId, Entry | None]]) -> None:
    meta.revision = meta.applied_revision = outcome.revision
    meta.applied_position += 1
    meta.chain_hash = chain_hash(meta.chain_hash, outcome.revision, outcome.time_ms, outcome.origin, outcome.changes)
    group.add(outcome, entries, meta, log_body(outcome))
