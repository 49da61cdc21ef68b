"""What has been submitted and is not published yet: how much, of whom, and which entries it may make ephemeral.

Rule: a batch is here from its submission until its outcome is known on the loop; by then memory shows what it did. So
memory and this together show every entry that a later batch can meet.
"""

from __future__ import annotations

from collections import Counter

from cosessiond.store.engine import Batch, Delete, EntryId, Put
from cosessiond.store.usage import COUNTED_SPACES, Tally, Used


class Queued:
    """Batches on their way, counted."""

    def __init__(self) -> None:
        self.batches = 0
        self.bytes = 0
        self.writes = 0  # of these, at most so many make a new entry
        self.projects = Tally()
        self.sessions = Tally()
        self._ephemeral: dict[str, Counter[EntryId]] = {}

    def add(self, batch: Batch, size: int) -> None:
        """A batch of `size` bytes was submitted."""
        self._count(batch, size, +1)
        for session, id in _ephemerals(batch):
            self._ephemeral.setdefault(session, Counter())[id] += 1

    def remove(self, batch: Batch, size: int) -> None:
        """Its outcome is known."""
        self._count(batch, size, -1)
        for session, id in _ephemerals(batch):
            ids = self._ephemeral[session]
            ids[id] -= 1
            if not ids[id]:
                del ids[id]
            if not ids:
                del self._ephemeral[session]

    def _count(self, batch: Batch, size: int, sign: int) -> None:
        self.batches += sign
        self.bytes += sign * size
        self.writes += sign * _makers(batch)
        projects, most = demand_of(batch, size)
        for project in projects:
            self.projects.add(project, sign * most.bytes, sign * most.entries)
        if projects and batch.origin.session:
            self.sessions.add(batch.origin.session, sign * most.bytes, sign * most.entries)

    def ephemeral_of(self, session: str) -> list[EntryId]:
        """The entries that may become ephemeral of a session, or be so anew; sorted."""
        return sorted(self._ephemeral.get(session, ()))


def demand_of(batch: Batch, size: int) -> tuple[set[str], Used]:
    """The projects that a batch of `size` bytes makes entries in, and at most how much it leaves in each of them."""
    makers = [
        write.id
        for write in (*batch.then, *batch.otherwise)
        if write.id[0] in COUNTED_SPACES and not isinstance(write, Delete)
    ]
    keys_bytes = sum(len(id[2].encode()) for id in makers)
    return {id[1] for id in makers}, Used(size + keys_bytes, len(makers))


def _makers(batch: Batch) -> int:
    return max(sum(not isinstance(write, Delete) for write in branch) for branch in (batch.then, batch.otherwise))


def _ephemerals(batch: Batch) -> list[tuple[str, EntryId]]:
    writes = (*batch.then, *batch.otherwise)
    return [(write.owner, write.id) for write in writes if isinstance(write, Put) and write.owner]
