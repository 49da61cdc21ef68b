"""The batch of a recovery, and what can be told of the log after a checkpoint: pure.

One batch decides who recovers: it writes into the record of the dead session who went on for it, guarded by both
records as they were read, so of two who try one finds the other's name. With it go the link to the checkpoint, the
letters, and on request the entries that ended with the session. The claims follow from that record (`claims.adopting`).

Rule: no memory, no clock, no store; times come in as seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from cosession.errors import Conflict, NotAllowed
from cosession.messages.limits import BATCH_BYTES_MAX, RECOVERY_CHANGES_MAX
from cosession.messages.recovery import ChangedEntry
from cosession.model import Session
from cosessiond.sessions.records import CRASHES_KEPT, Held, as_read, counted, is_live, put
from cosessiond.store.engine import Committed, Compare, Entry, EntryCompare, EntryId, Put, Write

#: What may be recovered: what ended without a word.
RECOVERABLE: Final = ("crashed", "lost")


def check(dead: Session, by: str, name_of: Callable[[str], str]) -> None:
    """Raises NotAllowed and Conflict unless session `by` ("": only asked) may take over."""
    if dead.id == by:
        return
    if is_live(dead):
        raise NotAllowed(
            f"cannot recover session {dead.id}: it is {dead.state} ({dead.reason or 'it has not ended'}); "
            f"ask it, or see: cosession explain session {dead.id}"
        )
    if dead.state not in RECOVERABLE:
        went = f"it went on as {dead.replaced_by}" if dead.replaced_by else "it ended in order and left nothing"
        raise NotAllowed(
            f"cannot recover session {dead.id}: it is {dead.state}, {went}; "
            f"what it saved: cosession checkpoint show {dead.id}"
        )
    if by and dead.recovered_by not in ("", by):
        raise Conflict(
            f"cannot recover session {dead.id}: {name_of(dead.recovered_by)} has recovered it; "
            f"ask that one, or recover {dead.recovered_by} when it has died",
            data={"recovered_by": dead.recovered_by},
        )


def handover(dead: Held, heir: Held, checkpoint: str, now_s: float) -> tuple[list[Compare], list[Write]]:
    """What makes `heir` the one that recovers `dead`: both records, as they were read. Nothing when it is already."""
    compares: list[Compare] = [as_read(dead.session.id, dead)]
    if dead.session.recovered_by == heir.session.id:
        return compares, []
    if dead.session.id == heir.session.id:
        return compares, [put(replace(dead.session, recovered_by=heir.session.id, changed_at=now_s))]
    crashes = counted(sorted({*dead.session.crashes, *heir.session.crashes}), now_s)[-CRASHES_KEPT:]
    taken = replace(dead.session, recovered_by=heir.session.id, changed_at=now_s)
    taking = replace(
        heir.session,
        recovers=dead.session.id,
        checkpoint=checkpoint or heir.session.checkpoint,
        crashes=crashes,
        changed_at=now_s,
    )
    return [*compares, as_read(heir.session.id, heir)], [put(taken), put(taking)]


def restored(
    entries: Iterable[Entry], owner: str, standing: Callable[[EntryId], Entry | None], writes_max: int
) -> tuple[list[Compare], list[Write]]:
    """What puts back entries that ended, as entries of `owner`, where nothing stands in their place."""
    compares: list[Compare] = []
    writes: list[Write] = []
    left = BATCH_BYTES_MAX // 2
    for entry in entries:
        left -= len(entry.value)
        if left < 0 or len(writes) >= writes_max:
            break
        if standing(entry.id) is None:
            compares.append(EntryCompare(entry.id, "version", 0))
            writes.append(Put(entry.id, entry.value, 0, owner))
    return compares, writes


class Since:
    """What was written in one project after a checkpoint, by its session and by others: the newest of each entry."""

    def __init__(self, session: str, project: str) -> None:
        self._session = session
        self._project = project
        self._found: dict[str, tuple[ChangedEntry, bool]] = {}

    def take(self, batches: Sequence[Committed], name_of: Callable[[str], str]) -> None:
        """Further batches of the log, in order."""
        for batch in batches:
            origin = batch.origin
            for change in batch.changes:
                if change.id[:2] != ("context", self._project):
                    continue
                changed = ChangedEntry(
                    key=change.id[2],
                    kind=change.kind,
                    revision=batch.revision,
                    session=origin.session,
                    name=name_of(origin.session) if origin.session else "",
                    operation=origin.operation,
                    time=batch.time_ms / 1000,
                )
                self._found.pop(change.id[2], None)
                self._found[change.id[2]] = (changed, origin.session == self._session)

    def told(self, *, own: bool) -> list[ChangedEntry]:
        """The newest of them, newest first."""
        return [each for each, mine in reversed(self._found.values()) if mine == own][:RECOVERY_CHANGES_MAX]

    @property
    def is_cut(self) -> bool:
        """Whether `told` leaves some out."""
        own = sum(mine for _, mine in self._found.values())
        return max(own, len(self._found) - own) > RECOVERY_CHANGES_MAX
