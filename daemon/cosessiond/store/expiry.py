"""TTL entries: each has a deadline in memory, and its end is an ordinary batch.

Rule: never early. The time of a put begins when it is published, and begins anew with every put and at every start
of the daemon. The expiry batch compares the mod_revision it was armed for: a put that was queued before it makes it a
conflict, which means that the entry lives on (comparing the create_revision would end a renewed entry).
"""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError
from cosessiond.store.engine import Committed, Delete, Entry, EntryCompare, EntryId, Outcome, Refused
from cosessiond.store.leases import Deadlines
from cosessiond.store.revisions import Store

#: How long an expiry waits that could not be committed (disk full, queue full).
RETRY_S: Final = 1.0


class Expiry:
    """Watches the store's publications and ends entries whose time has passed."""

    def __init__(self, store: Store, deadlines: Deadlines) -> None:
        self._store = store
        self._deadlines = deadlines

    def start(self, entries: list[Entry]) -> None:
        """Every live TTL entry gets its full time again (P8)."""
        for entry in entries:
            if entry.ttl_ms:
                self._arm(entry.id, entry.mod_revision, entry.ttl_ms / 1000)

    def published(self, outcome: Committed) -> None:
        """A listener of the store."""
        for change in outcome.changes:
            if change.ttl_ms:
                self._arm(change.id, outcome.revision, change.ttl_ms / 1000)
            else:
                self._deadlines.cancel(("ttl", change.id))

    def _arm(self, id: EntryId, revision: int, delay_s: float) -> None:
        self._deadlines.after(("ttl", id), delay_s, lambda: self._expire(id, revision))

    def _expire(self, id: EntryId, revision: int) -> None:
        def settle(outcome: Outcome) -> None:
            if isinstance(outcome, Refused):
                self._retry(id, revision)

        batch = self._store.batch(
            self._store.origin("expire"), [EntryCompare(id, "mod_revision", revision)], [Delete(id, "expire")]
        )
        try:
            self._store.submit(batch, settle)
        except CosessionError:
            self._retry(id, revision)

    def _retry(self, id: EntryId, revision: int) -> None:
        """Again later, unless a put renewed the entry meanwhile: that put has a deadline of its own."""
        entry = self._store.get(id)
        if entry is not None and entry.mod_revision == revision:
            self._arm(id, revision, RETRY_S)
