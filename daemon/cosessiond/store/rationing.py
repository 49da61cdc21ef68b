"""One group on a disk that may be full: what is refused before it fails, and what is paid for out of the reserve.

Rule: a refusal says "certainly no effect" (P2), so whoever repeats what was committed gets that outcome: of a batch
that is refused here only the request id is looked up, by the engine, in its place of the group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from cosessiond.store.engine import Batch, Conflicted, Delete, Engine, EntryCompare, Outcome, Refused
from cosessiond.store.record import Attached
from cosessiond.store.room import Report, Room

#: Operations that end or give back something although they write: they pass where there is little room.
RELEASES: Final = frozenset(
    {
        "claim.orphan",
        "claim.pass_on",
        "expire",
        "session.close",
        "session.closed",
        "session.crashed",
        "session.expire",
        "session.instance_over",
        "session.lost",
        "session.superseded",
    }
)
#: No entry has a version below 0.
_NEVER: Final = EntryCompare(("context", "", ""), "version", -1)
_MIB: Final = 1024 * 1024


def releases(batch: Batch) -> bool:
    """Whether a batch only ends or gives back something, so that others get on by it."""
    return batch.origin.operation in RELEASES or all(
        isinstance(write, Delete) for write in (*batch.then, *batch.otherwise)
    )


def apply(engine: Engine, room: Room, batches: Sequence[Batch], records: Sequence[Attached]) -> list[Outcome]:
    """`engine.apply` within the room there is.

    Audit records that go alone are given up before the reserve is. Raises StoreBroken.
    """
    has_room = room.look()
    grows = [not releases(batch) for batch in batches]
    if has_room or not any(grows):
        outcomes = engine.apply(batches, records)
        if not any(map(_is_full, outcomes)):
            return outcomes
        room.ran_out()
    asked = [_without_writes(batch) if grew else batch for batch, grew in zip(batches, grows, strict=True)]
    outcomes = engine.apply(asked, records)
    while any(map(_is_full, outcomes)) and room.spend():
        records = [record for record in records if record[0] is not None]
        outcomes = engine.apply(asked, records)
    return [_refused(outcome, room.report, grew=grew) for outcome, grew in zip(outcomes, grows, strict=True)]


def tend(room: Room, act: Callable[[], bool]) -> bool:
    """Carry out some upkeep that is False when there is no room; at most half of the reserve is for that."""
    while not act():
        room.ran_out()
        if not room.spend(upkeep=True):
            return False
    return True


def _is_full(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.code == "disk_full"


def _without_writes(batch: Batch) -> Batch:
    return structs.replace(batch, compares=(_NEVER,), then=(), otherwise=())


def _refused(outcome: Outcome, report: Report, *, grew: bool) -> Outcome:
    if grew and (_is_full(outcome) or isinstance(outcome, Conflicted)):
        free = f"{report.free_bytes / _MIB:.1f} MiB are free"
        message = f"cannot write: the disk is full ({free}, kept for what is released); free space, "
        return Refused(outcome.revision, "disk_full", message + "writing resumes by itself")
    if _is_full(outcome):
        message = "cannot write: the disk is full and the reserve is spent, so that nothing can be released either; "
        return Refused(outcome.revision, "disk_full", message + "free space, it goes on by itself")
    return outcome
