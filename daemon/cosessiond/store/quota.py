"""How much the store takes: what may wait to be committed, and what may be kept.

Rule: judged on the loop, before the queue, from what is published and what is on its way; never at apply. Deletions
pass while the queue has room, and so does the end of a session, so that a full store can always be emptied.
"""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError, Overloaded
from cosession.messages.limits import COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MAX, Limits
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Add, Append, Batch, Delete, Merge, Put
from cosessiond.store.index import Index
from cosessiond.store.queued import Queued

#: What a sum has at most: a type byte and 64 bits.
ADDED_BYTES: Final = 9


def batch_bytes(batch: Batch, index: Index) -> int:
    """What a batch counts for while it waits, in bytes: about the values that it will leave behind."""
    size = 0
    for write in (*batch.then, *batch.otherwise):
        if isinstance(write, Put):
            size += len(write.value)
        elif isinstance(write, Add):
            size += ADDED_BYTES
        elif isinstance(write, Merge | Append):
            before = index.get(write.id)
            given = write.patch if isinstance(write, Merge) else write.values
            size += len(given) + (len(before.value) if before else 0)
    return size


class Quota:
    """The limits of one store."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self._metrics = metrics

    def admit(self, batch: Batch, size: int, index: Index, queued: Queued, database_bytes: int) -> None:
        """Whether a batch of `size` bytes may be queued. Raises Overloaded, or CosessionError store_full."""
        if queued.batches >= COMMIT_QUEUE_MAX:
            self._metrics.hit("commit_queue")
            raise Overloaded(f"cannot write: {COMMIT_QUEUE_MAX} batches wait to be committed; try again in a moment")
        if queued.bytes + size > COMMIT_QUEUE_BYTES_MAX:
            self._metrics.hit("commit_queue_bytes")
            raise Overloaded(
                f"cannot write: {COMMIT_QUEUE_BYTES_MAX} bytes wait to be committed; try again in a moment"
            )
        writes = (*batch.then, *batch.otherwise)
        if batch.origin.operation.startswith("session.") or all(isinstance(write, Delete) for write in writes):
            return
        limits = self.limits
        if database_bytes >= limits.database_bytes_max:
            self._metrics.hit("database_bytes")
            raise CosessionError(
                f"cannot write: the database holds {limits.database_bytes_max} bytes with its log and history; "
                "compact the log, purge keys whose history is large (also deleted ones), lower "
                "limits.log_window_revisions, or raise limits.database_bytes_max to its default",
                code="store_full",
            )
        if index.live_bytes + queued.bytes >= limits.live_bytes_max:
            self._refuse_full("live_bytes", f"{limits.live_bytes_max} bytes of live data")
        fresh = sum(not isinstance(write, Delete) and index.get(write.id) is None for write in writes)
        if fresh and len(index) + queued.writes + fresh > limits.live_entries_max:
            self._refuse_full("live_entries", f"{limits.live_entries_max} entries")

    def _refuse_full(self, name: str, limit: str) -> None:
        self._metrics.hit(name)
        raise CosessionError(
            f"cannot write: the store holds {limit}; delete what is no longer needed", code="store_full"
        )
