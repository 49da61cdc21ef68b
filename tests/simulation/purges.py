"""What was asked to be purged, and from when to when it may or must be gone. For the oracles only.

A version may be gone from the moment a purge that covers it was taken, and must be from the moment one was answered.

Rule: from the calls alone; whether a value is really gone is for the oracles to see.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from cosession.messages.past import Purge, PurgeReply
from cosessiond.store.engine import EntryId
from simulation.history import Call

#: What the trace of a value begins with, and no MessagePack does.
TRACE: Final = b"\xc1"


class Purging(NamedTuple):
    """One purge: versions below `most` may be gone from `begun_s` on, those below `least` must be from `done_s` on."""

    begun_s: float
    most: float
    done_s: float = inf
    least: int = 0


class Purges:
    """Of all entries."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._by_id: dict[EntryId, list[Purging]] = {}
        for call in calls:
            request = call.request
            if isinstance(request, Purge) and call.taken is not None:
                id = (request.space, request.project, request.key)
                self._by_id.setdefault(id, []).append(_purging(call, request))

    def may(self, id: EntryId, revision: int, at_s: float) -> bool:
        """Whether the value of that version may have been gone at a time."""
        return any(each.begun_s <= at_s and revision < each.most for each in self._by_id.get(id, ()))

    def must(self, id: EntryId, revision: int, since_s: float) -> bool:
        """Whether it must not be shown to who asks at that time or later."""
        return any(each.done_s < since_s and revision < each.least for each in self._by_id.get(id, ()))

    @property
    def ids(self) -> list[EntryId]:
        """Of which something was asked to be purged."""
        return sorted(self._by_id)


def _purging(call: Call, request: Purge) -> Purging:
    assert call.taken is not None
    begun_s, reply = call.taken.s, call.outcome
    if not isinstance(reply, PurgeReply) or call.told is None:
        return Purging(begun_s, request.before_revision or inf)
    before = request.before_revision or (reply.written.mod_revision if reply.written else 0)
    # Where nothing stood to be deleted, what had been shown before it was sent is surely below it.
    return Purging(begun_s, before or inf, call.told.s, before or call.floor + 1)
