"""audit: pages of records, gathered in slices of the store's thread; and waiting for one that is not there yet.

Rule: one call looks at a bounded number of rows, and says where to go on: a filter that lets one of a million through
costs its caller many calls, and nobody else anything.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from msgspec import UNSET

from cosession.errors import CosessionError, EpochChanged, InvalidRequest
from cosession.messages import audit as messages
from cosession.messages.limits import AUDIT_LOOKED_MAX, AUDIT_RECORDS_MAX, AUDIT_WAIT_S_MAX
from cosession.model import AuditRecord
from cosessiond.audit.paging import Query, Slice, look
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.server.waiting import Waiter

#: Seconds since the epoch that nobody means.
_TIME_S_MAX: Final = 1e11


def audit(core: Core, call: Call, request: messages.Audit) -> None:
    """Records, newest first; with `after` oldest first, and waited for. Everybody of this user may read them."""
    if request.epoch and request.epoch != core.store.epoch:
        raise EpochChanged(
            f"cannot go on: record {request.after} is of epoch {request.epoch[:40]!r}, the store is in "
            f"{core.store.epoch} now, where ids begin anew; ask from `after` 0",
            data={"epoch": core.store.epoch},
        )
    _Page(core, call, request, _query(request)).look()


def _query(request: messages.Audit) -> Query:
    """What a record must fit. Raises InvalidRequest."""
    if request.kind and request.kind not in messages.KINDS:
        raise InvalidRequest(f"cannot look for kind {request.kind[:40]!r}: there are {', '.join(messages.KINDS)}")
    if request.project:
        admission.check_project(request.project)
    if not 1 <= request.limit <= AUDIT_RECORDS_MAX:
        raise InvalidRequest(f"cannot use limit {request.limit}: 1 to {AUDIT_RECORDS_MAX}; ask for several pages")
    follows = request.after is not UNSET
    if follows and request.before:
        raise InvalidRequest("cannot use both after and before; choose one")
    for name in ("after", "before"):
        if (id := getattr(request, name)) is not UNSET:
            admission.revision(id, name)
    if not (isfinite(request.wait_s) and 0 <= request.wait_s <= AUDIT_WAIT_S_MAX):
        raise InvalidRequest(f"cannot wait {request.wait_s} s: 0 to {AUDIT_WAIT_S_MAX}; ask again after that")
    if request.wait_s and not follows:
        raise InvalidRequest("cannot wait without `after`: new records come behind an id; name the last one seen")
    for name in ("since", "until"):
        if not 0 <= (time_s := getattr(request, name)) <= _TIME_S_MAX:
            raise InvalidRequest(f"cannot use {name} {time_s}: seconds since the Unix epoch, 0 for no bound")
    return Query(
        session=request.session,
        kind=request.kind,
        project=request.project,
        since_ms=round(request.since * 1000),
        until_ms=round(request.until * 1000),
        newest_first=not follows,
    )


class _Page:
    """One call: slices until the page is full, everything was looked at, or enough of it was."""

    __slots__ = ("_bytes", "_call", "_core", "_found", "_looked", "_position", "_query", "_request", "_until_s")

    def __init__(self, core: Core, call: Call, request: messages.Audit, query: Query) -> None:
        self._core = core
        self._call = call
        self._request = request
        self._query = query
        self._position = request.after if isinstance(request.after, int) else request.before
        self._until_s = core.clock.monotonic() + request.wait_s
        self._found: list[AuditRecord] = []
        self._bytes = 0
        self._looked = 0
        call.reserve(call.page_bytes_max)

    def look(self) -> None:
        """Read the next slice."""
        records_max = self._request.limit - len(self._found)
        bytes_max = self._call.page_bytes_max - self._bytes
        self._core.store.run(
            lambda engine: look(engine, self._query, self._position, records_max=records_max, bytes_max=bytes_max),
            self._done,
        )

    def _done(self, part: Slice | CosessionError) -> None:
        if isinstance(part, CosessionError):
            self._call.fail(part)
            return
        self._found += part.records
        self._bytes += part.bytes
        self._looked += part.looked
        self._position = part.reached
        is_full = len(self._found) == self._request.limit or self._bytes > self._call.page_bytes_max
        if part.done and not self._found and self._core.clock.monotonic() < self._until_s:
            self._wait(part)
        elif part.done or is_full or self._looked >= AUDIT_LOOKED_MAX:
            self._answer(part, more=not part.done)
        else:
            self._again()

    def _again(self) -> None:
        try:
            self.look()
        except CosessionError as error:  # too many reads wait
            self._call.fail(error)

    def _wait(self, part: Slice) -> None:
        """Until there is a record, the time is over, or nobody is there to hear of it."""
        core, call = self._core, self._call
        if call.conversation.is_over:
            return
        if core.draining:
            call.fail(CosessionError("cannot wait: the daemon is shutting down; connect again", code="shutting_down"))
            return
        call.unreserve()
        # Nothing is missed: the store thread tells of what it wrote after this slice later than of the slice.
        try:
            waiter = Waiter(call.conversation, self._query.fits, self._resume, lambda: self._give_up(part), call.fail)
            core.waiting.add(waiter, self._until_s)
        except CosessionError as error:
            call.fail(error)

    def _resume(self) -> None:
        self._call.reserve(self._call.page_bytes_max)
        self._looked = 0
        self._again()

    def _give_up(self, part: Slice) -> None:
        """The time is over. What came and was not for this call is passed over first, so that the next need not."""
        if self._core.store.audit.last > part.span.last:
            self._resume()
            return
        self._answer(part, more=False)
        self._core.flush()

    def _answer(self, part: Slice, *, more: bool) -> None:
        span = part.span
        self._call.reply(
            messages.AuditReply(
                revision=self._core.store.revision,
                records=self._found,
                more=more,
                next=self._position,
                first=span.first,
                last=span.last,
                cut=span.first - 1,
                oldest=span.first_ms / 1000,
                epoch=self._core.store.epoch,
            )
        )


ROWS: Final = (Row(messages.Audit, Access.READ, audit),)
