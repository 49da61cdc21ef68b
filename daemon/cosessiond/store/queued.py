"""What has been submitted and is not published yet: how much it is, and which entries it may make ephemeral of whom.

Rule: a batch is here from its submission until its outcome is known on the loop; by then memory shows what it did. So
memory and this together show every entry that a later batch can meet.
"""

from __future__ import annotations

from collections import Counter

from cosessiond.store.engine import Batch, Delete, EntryId, Put


class Queued:
    """Batches on their way, counted."""

    def __init__(self) -> None:
        self.batches = 0
        self.bytes = 0
        self.writes = 0  # of these, at most so many make a new entry
        self._ephemeral: dict[str, Counter[EntryId]] = {}

    def add(self, batch: Batch, size: int) -> None:
        """A batch of `size` bytes was submitted."""
        self.batches += 1
        self.bytes += size
        self.writes += _makers(batch)
        for session, id in _ephemerals(batch):
            self._ephemeral.setdefault(session, Counter())[id] += 1

    def remove(self, batch: Batch, size: int) -> None:
        """Its outcome is known."""
        self.batches -= 1
        self.bytes -= size
        self.writes -= _makers(batch)
        for session, id in _ephemerals(batch):
            ids = self._ephemeral[session]
            ids[id] -= 1
            if not ids[id]:
                del ids[id]
            if not ids:
                del self._ephemeral[session]

    def ephemeral_of(self, session: str) -> list[EntryId]:
        """The entries that may become ephemeral of a session, or be so anew; sorted."""
        return sorted(self._ephemeral.get(session, ()))


def _makers(batch: Batch) -> int:
    return max(sum(not isinstance(write, Delete) for write in branch) for branch in (batch.then, batch.otherwise))


def _ephemerals(batch: Batch) -> list[tuple[str, EntryId]]:
    writes = (*batch.then, *batch.otherwise)
    return [(write.owner, write.id) for write in writes if isinstance(write, Put) and write.owner]
