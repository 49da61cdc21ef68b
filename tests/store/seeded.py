"""Faults on purpose: the specification with one mistake each, of the kind that a real engine could have.

Rule: each breaks one sentence of the contract, and `comparing.differences` has to see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from cosessiond.store import hash
from cosessiond.store.engine import (
    Add,
    Append,
    Applied,
    Committed,
    Compare,
    Conflicted,
    Engine,
    Entry,
    EntryId,
    Page,
    Purged,
    Put,
    VersionRow,
    Window,
    Write,
)
from cosessiond.store.memory import MemoryEngine


class BlindCompare(MemoryEngine):
    """Takes every compare for one that holds."""

    def _conflict(self, compares: Sequence[Compare]) -> Conflicted | None:
        del compares
        return None


class StaleRead(MemoryEngine):
    """Reads at a revision lag one behind."""

    def entry_at(self, id: EntryId, revision: int) -> Entry | None:
        """The entry one revision too early."""
        self._check_window(revision)
        return self._entry(id, revision - 1)


class StaleRange(MemoryEngine):
    """Ranges lag one revision behind."""

    def range_at(self, space: str, project: str, *, prefix: str, after: str, limit: int, revision: int) -> Page:
        """The range one revision too early."""
        older = max(self._compact_revision, revision - 1) if revision >= self._compact_revision else revision
        return super().range_at(space, project, prefix=prefix, after=after, limit=limit, revision=older)


class StaleEntries(MemoryEngine):
    """The live entries are those before the newest batch."""

    def entries(self) -> Iterable[Entry]:
        """The entries one revision too early."""
        found = (self._entry(id, self._revision - 1) for id in sorted(self._versions))
        return [entry for entry in found if entry is not None]


class AddsToNothing(MemoryEngine):
    """Puts the number that is added in the place of the one that was there."""

    def _write(self, write: Write) -> Applied | None:
        if isinstance(write, Add):
            return super()._write(Put(write.id, write.number))
        return super()._write(write)


class AppendsInPlace(MemoryEngine):
    """Puts what is appended in the place of what was there."""

    def _write(self, write: Write) -> Applied | None:
        if isinstance(write, Append):
            return super()._write(Put(write.id, write.values))
        return super()._write(write)


class PurgesOneTooFew(MemoryEngine):
    """Leaves the newest of what it should take out."""

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:
        """The purge up to one revision too early."""
        done = super().purge(id, before=before - 1, after=after, rows_max=rows_max)
        return done and replace(done, reached=done.reached if done.more else before - 1)


class ForgottenRequest(MemoryEngine):
    """Keeps one request id fewer than the window says."""

    def _forget_requests(self, now_ms: int) -> None:
        super()._forget_requests(now_ms)
        if len(self._requests) >= self._window.request_ids:
            del self._requests[next(iter(self._requests))]


class TrimsOneBatchTooMany(MemoryEngine):
    """The log window loses one batch more than it should."""

    def _surplus_batches(self) -> list[Committed]:
        surplus = super()._surplus_batches()
        return self._log[: len(surplus) + 1] if surplus and len(self._log) > len(surplus) + 1 else surplus


class TrimsOneVersionTooMany(MemoryEngine):
    """Drops the version that stood at compact_revision, as if only the newer ones were needed."""

    def trim(self, rows_max: int, *, settle_rows: int = 0) -> int:
        """Trim, then drop one version of an entry that is still needed for reading at compact_revision."""
        dropped = super().trim(rows_max, settle_rows=settle_rows)
        for versions in self._versions.values():
            if len(versions) > self._window.versions and versions[0].batch.revision <= self._compact_revision:
                del versions[0]
                return dropped + 1
        return dropped


class KeepsWhatEnded(MemoryEngine):
    """The versions of a key that was deleted stay for ever."""

    def _drop_ended(self) -> None:
        pass


class EndsTooEarly(MemoryEngine):
    """Drops a key whose deletion is the oldest batch of the window and not below it."""

    def _drop_ended(self) -> None:
        self._compact_revision += 1
        super()._drop_ended()
        self._compact_revision -= 1


class EndsWhatWasPutAgain(MemoryEngine):
    """Drops what is below a deletion that left the window, whatever came after it."""

    def _drop_ended(self) -> None:
        super()._drop_ended()
        for versions in self._versions.values():
            ends = [at for at, each in enumerate(versions) if each.change.kind != "put"]
            below = [at for at in ends if versions[at].batch.revision < self._compact_revision]
            del versions[: below[-1] + 1 if below else 0]


class KeepsOwnVersions(MemoryEngine):
    """Keeps and shows as many versions in a space of ours as in the users' own."""

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """The history, as if the space were another."""
        other = MemoryEngine("", self._window)
        other._versions = {("context", *id[1:]): self._versions.get(id, [])}
        return other.history(("context", *id[1:]), limit, before)


class HistoryOffByOne(MemoryEngine):
    """Takes `before` for the newest revision to show."""

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """The history up to and with `before`."""
        return super().history(id, limit, before + 1 if before > 0 else before)


class HistoryTooLong(MemoryEngine):
    """Shows one version more than the window says, while it is still kept."""

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """The history with one version too many."""
        wider = MemoryEngine("", Window(versions=self._window.versions + 1))
        wider._versions = self._versions
        return wider.history(id, limit, before)


class ChainSkip(MemoryEngine):
    """Every third batch is missing from the chain."""

    def _keep(self, committed: Committed) -> None:
        chain = self._chain
        super()._keep(committed)
        if committed.revision % 3 == 0:
            self._chain = chain


class ChainWithoutOrigin(MemoryEngine):
    """The chain does not cover who wrote."""

    def _keep(self, committed: Committed) -> None:
        chain = self._chain
        super()._keep(committed)
        bare = type(committed.origin)()
        self._chain = hash.chain_hash(chain, committed.revision, committed.time_ms, bare, committed.changes)


FAULTS: dict[str, type[MemoryEngine]] = {
    fault.__name__: fault
    for fault in (
        BlindCompare,
        StaleRead,
        StaleRange,
        StaleEntries,
        AddsToNothing,
        AppendsInPlace,
        ForgottenRequest,
        TrimsOneBatchTooMany,
        TrimsOneVersionTooMany,
        KeepsWhatEnded,
        EndsTooEarly,
        EndsWhatWasPutAgain,
        KeepsOwnVersions,
        HistoryOffByOne,
        HistoryTooLong,
        ChainSkip,
        ChainWithoutOrigin,
    )
}


#: Those that batches alone do not show.
UNSEEN_BY_BATCHES: dict[str, type[MemoryEngine]] = {fault.__name__: fault for fault in (PurgesOneTooFew,)}


def with_fault(name: str, epoch: str, window: Window) -> Engine:
    """A store with the fault of this name."""
    return (FAULTS | UNSEEN_BY_BATCHES)[name](epoch, window)
