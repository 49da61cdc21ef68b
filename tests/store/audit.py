"""Telling two engines apart by their audit: the same groups into both, then every question about records asked of both.

Rule: an engine is right when `audit_differences` to the oracle is empty; the faults below are what it has to see.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from cosessiond.store.engine import Batch, Engine, Outcome, Window
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.record import Attached, Record
from store.engines import EPOCH

#: One group as both engines get it.
Group = tuple[Sequence[Batch], Sequence[Attached]]


def note(number: int = 0, *, time_ms: int = 1_000, kind: str = "admin", session: str = "", size: int = 10) -> Record:
    """A record that can be told from others by its number."""
    return Record(time_ms, kind, "p", session, number.to_bytes(4) + bytes(size - 4))


def ids(
    engine: Engine, *, after: int = 0, before: int = 0, limit: int = 1_000, newest_first: bool = False
) -> list[int]:
    """The ids of a page."""
    return [each.id for each in engine.audited(after=after, before=before, limit=limit, newest_first=newest_first)]


def numbers(engine: Engine) -> list[int]:
    """The numbers of all records that are kept, oldest first."""
    page = engine.audited(after=0, before=0, limit=1 << 40, newest_first=False)
    return [int.from_bytes(each.record.body[:4]) for each in page]


def cut_all(engine: Engine) -> int:
    """Cut until nothing is left to do; how many records went."""
    total = 0
    while dropped := engine.cut(1_000):
        total += dropped
    return total


def audit_differences(engine: Engine, oracle: Engine, groups: Sequence[Group], *, trim_every: int = 3) -> list[str]:
    """What tells `engine` from `oracle`; empty when nothing does. Both begin empty."""
    found = []
    for index, (batches, records) in enumerate(groups):
        for each in (engine, oracle):
            each.apply(batches, records)
            while index % trim_every == trim_every - 1 and each.cut(2):
                pass
        found += [
            f"after group {index}: {what}: {mine}, expected {theirs}"
            for (what, mine), (_, theirs) in zip(_answers(engine), _answers(oracle), strict=True)
            if mine != theirs
        ]
    return found


def _answers(engine: Engine) -> list[tuple[str, object]]:
    span = engine.audit_span()
    found: list[tuple[str, object]] = [("position", engine.position()), ("span", span)]
    edges = (0, span.first - 1, span.first, (span.first + span.last) // 2, span.last, span.last + 1)
    for newest_first in (True, False):
        for after in edges:
            for before in edges:
                for limit in (0, 1, 3, 1_000):
                    named = {"after": after, "before": before, "limit": limit}
                    found.append((f"{named} {newest_first}", engine.audited(**named, newest_first=newest_first)))
    return found


class RecordWithoutBatch(MemoryEngine):
    """Writes the record of a batch whatever became of the batch."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """Every record on its own."""
        return super().apply(batches, [(None, record) for _, record in records])


class BatchWithoutRecord(MemoryEngine):
    """Loses the record of every later batch of a group."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """Without some."""
        return super().apply(batches, [(index, record) for index, record in records if not index])


class RecordOfARepeat(MemoryEngine):
    """Takes a repeat for a commit."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """As if each were sent for the first time."""
        outcomes = super().apply(batches, records)
        again = [
            record for index, record in records if index is not None and getattr(outcomes[index], "repeated", False)
        ]
        super().apply([], [(None, record) for record in again])
        return outcomes


class CutsOneTooMany(MemoryEngine):
    """Cuts one record more than the window says."""

    def cut(self, rows_max: int) -> int:
        """One more."""
        dropped = super().cut(rows_max)
        if dropped and len(self._audit) > 1:
            del self._audit[0]
        return dropped


class CutsByTimeOnly(MemoryEngine):
    """Forgets about the bytes."""

    def __init__(self, epoch: str, window: Window) -> None:
        super().__init__(epoch, replace(window, audit_bytes=1 << 40))


class PageOffByOne(MemoryEngine):
    """Takes `before` for the newest id to show."""

    def audited(self, *, after: int, before: int, limit: int, newest_first: bool) -> list:  # type: ignore[type-arg]
        """One too many."""
        return super().audited(after=after, before=before + 1 if before else 0, limit=limit, newest_first=newest_first)


FAULTS = (RecordWithoutBatch, BatchWithoutRecord, RecordOfARepeat, CutsOneTooMany, CutsByTimeOnly, PageOffByOne)
WINDOW = Window(audit_bytes=600, audit_ms=500, audit_min=2)


def oracle() -> MemoryEngine:
    """The specification, with a window that cuts soon."""
    return MemoryEngine(EPOCH, WINDOW)
