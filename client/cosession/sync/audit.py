# Made from cosession/aio/audit.py by tests/client/unasync.py; change that one.
"""Following the audit: records as they are written, from a connection of its own, across reconnects without a gap or a
repeat.

Ids are dense within an epoch, so the last one looked at is the whole position. The daemon answers when there is a
record, so waiting costs nobody anything.

Rule: what is asked next follows from the last answer alone.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Self

from msgspec import UNSET
from msgspec.structs import replace

from cosession.errors import Closed, CosessionError, EpochChanged, TimedOut, Unreachable
from cosession.exchange.calls import LinkLost
from cosession.messages.audit import Audit
from cosession.model import AuditRecord
from cosession.retries import back_off_s

from .io import Link, Startable, now, pause
from .linking import Common, open_link

#: How long the daemon is asked to wait for a record before it says that there is none.
WAIT_S: Final = 30.0
#: What an answer may take beyond that.
ANSWER_S: Final = 10.0
#: How long it is looked for when it went away; as of a watch.
RECONNECT_S: Final = 60.0
_PASSING: Final = frozenset({"overloaded", "shutting_down", "timed_out"})


class AuditTrail(Startable):
    """An iterator over records, oldest first, that waits for more; without `after`, over those to come.

    Iterating raises Unreachable when the daemon stays away for a minute, and stops after `close()`. When the store
    began anew its records are shown from the first, and `epoch` is another than before; `cut` says how many records
    between two were cut before they could be shown.
    """

    cut: int

    def __init__(self, common: Common, request: Audit) -> None:
        self._common = common
        self._request = request
        self._link: Link | None = None
        self._was_linked = False
        self._records: deque[AuditRecord] = deque()
        self._lost_at: float | None = None
        self._attempt = 0
        self._closed = False
        self.cut = 0

    @property
    def position(self) -> int:
        """The last id that was looked at: `follow_audit(after=position, epoch=epoch)` goes on there, once the iteration
        has been emptied.
        """
        after = self._request.after
        return after if isinstance(after, int) else 0

    @property
    def epoch(self) -> str:
        """The epoch of that id, "" before the first answer."""
        return self._request.epoch

    def next(self, timeout_s: float | None = None) -> AuditRecord:
        """The next record, waited for at most `timeout_s` seconds (None: without end). Raises TimedOut, Closed."""
        deadline = None if timeout_s is None else now() + timeout_s
        while not self._records:
            if self._closed:
                raise Closed("cannot follow the audit: this was closed")
            wait_s = WAIT_S if deadline is None else min(WAIT_S, deadline - now())
            if wait_s <= 0:
                raise TimedOut("cannot wait longer: no record came in time")
            self._fetch(wait_s)
        return self._records.popleft()

    def close(self) -> None:
        """End it; a consumer that waits stops. Harmless when done before."""
        self._closed = True
        self._drop()

    def __del__(self) -> None:
        link: Link | None = getattr(self, "_link", None)
        if link:
            link.drop()  # whoever breaks out of a `for` ends it, too

    def __iter__(self) -> Self:
        """Itself: one consumer at a time."""
        return self

    def __next__(self) -> AuditRecord:
        """The next record; stops after `close()`."""
        try:
            return self.next()
        except Closed:
            if not self._closed:
                raise
            raise StopIteration from None

    def _start(self) -> None:
        if self._request.after is UNSET and not self._closed:
            self._begin(now() + self._common.timeout_s)

    def _begin(self, deadline: float) -> None:
        """Records to come are those behind the newest there is now."""
        link = self._linked(deadline)
        newest = link.call(Audit(limit=1), deadline)
        self._request = replace(self._request, after=newest.last, epoch=newest.epoch)

    def _fetch(self, wait_s: float) -> None:
        """One page, waited for; or a pause when the daemon is away."""
        if self._common.is_foreign:
            raise Closed("cannot follow the audit from before fork(); open another in this process")
        deadline = now() + wait_s + ANSWER_S
        try:
            if self._request.after is UNSET:
                self._begin(deadline)
            link = self._linked(deadline)
            reply = link.call(replace(self._request, wait_s=wait_s), deadline)
        except EpochChanged:
            self._request = replace(self._request, after=0, epoch="")
        except (LinkLost, CosessionError) as error:
            self._away(error)
        else:
            self._lost_at = None
            self._attempt = 0
            self.cut += max(0, reply.first - 1 - self.position)
            self._records += reply.records
            self._request = replace(self._request, after=max(reply.next, reply.first - 1), epoch=reply.epoch)

    def _linked(self, deadline: float) -> Link:
        if self._link is None or not self._link.usable:
            self._drop()
            self._link = open_link(self._common, self._common.target, deadline, again=self._was_linked)
            self._was_linked = True
            if self._closed:  # meanwhile, by another thread or task
                self._drop()
                raise Closed("cannot follow the audit: this was closed")
        return self._link

    def _away(self, error: LinkLost | CosessionError) -> None:
        """The connection broke, or the daemon has no time now: look for it again, for a bounded time."""
        self._drop()
        if self._closed:
            return
        is_passing = isinstance(error, LinkLost) or error.code in _PASSING
        is_absence = isinstance(error, Unreachable) and self._was_linked
        if isinstance(error, CosessionError) and not (is_passing or is_absence):
            raise error
        self._lost_at = now() if self._lost_at is None else self._lost_at
        if now() - self._lost_at > RECONNECT_S:
            raise Unreachable(f"cannot follow the audit: {error}") from error
        self._attempt += 1
        pause(back_off_s(self._attempt, self._common.jitter()))

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link:
            link.close()
