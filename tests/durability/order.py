"""Order in time: who began after another was answered comes after it, and sees at least what that one saw (P3).

Rule: sorts once and walks once; the clock is CLOCK_MONOTONIC, the same for all processes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from cosession.messages.store import Delete, Txn
from durability.journal import Deed


def judge_order(committed: dict[int, Deed], deeds: Sequence[Deed]) -> Iterator[tuple[str, str]]:
    """Each violation as its kind and words. `committed`: whose request each revision is, also of killed writers."""
    writes = sorted(committed.items())
    yield from _writes_in_time(writes)
    yield from _writes_as_sent(writes)
    yield from _nothing_forgotten(deeds)
    yield from _nothing_foreseen(writes, deeds)


def _writes_in_time(writes: list[tuple[int, Deed]]) -> Iterator[tuple[str, str]]:
    ended = float("inf")
    for revision, deed in reversed(writes):
        if ended < deed.began_s:
            yield "order", f"{deed.name} at {revision} began after a later revision had been acknowledged"
        ended = min(ended, deed.ended_s or ended)


def _writes_as_sent(writes: list[tuple[int, Deed]]) -> Iterator[tuple[str, str]]:
    """One connection's writes stay in order."""
    newest: dict[int, tuple[int, int]] = {}
    for revision, deed in writes:
        if not deed.ended_s:
            continue  # it may have been sent several times, which its journal does not tell
        serial, before = newest.get(deed.writer, (0, 0))
        if serial > deed.serial and not _may_come_late(deed):
            yield "order", f"{deed.name} at {revision} was sent before what is at {before}"
        newest[deed.writer] = (deed.serial, revision)


def _nothing_forgotten(deeds: Sequence[Deed]) -> Iterator[tuple[str, str]]:
    """No answer is of an older revision than one that had been given before its request was sent."""
    ends = sorted((deed.ended_s, deed.revision) for deed in deeds)
    moments = [moment for moment, _ in ends]
    highest: list[int] = []
    for _, revision in ends:
        highest.append(max(revision, highest[-1] if highest else 0))
    for deed in deeds:
        index = bisect_left(moments, deed.began_s)
        if index and highest[index - 1] > deed.revision:
            yield "stale", f"{deed.name} was answered at {deed.revision} when {highest[index - 1]} had been told"


def _nothing_foreseen(writes: list[tuple[int, Deed]], deeds: Sequence[Deed]) -> Iterator[tuple[str, str]]:
    """No answer is of a revision that nobody had asked for yet."""
    revisions = [revision for revision, _ in writes]
    latest: list[float] = []
    for _, deed in writes:
        latest.append(max(deed.began_s, latest[-1] if latest else 0.0))
    for deed in deeds:
        index = bisect_left(revisions, deed.revision + 1)
        if index and latest[index - 1] > deed.ended_s:
            yield "future", f"{deed.name} was answered at {deed.revision} before that was asked for"


def _may_come_late(deed: Deed) -> bool:
    """Whether a write may have had no effect when first sent, and one when repeated behind those sent after it."""
    request = deed.request()
    conditional = isinstance(request, Delete | Txn) or isinstance(getattr(request, "expect_revision", None), int)
    return deed.attempts > 1 and conditional
