"""get, range, history, revision_at: answered from memory, or from the past in slices of the store's thread."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any, Final

from msgspec import Raw, structs

from cosession import model
from cosession.errors import Compacted, CosessionError, InvalidRequest
from cosession.messages import past
from cosession.messages import store as messages
from cosession.messages.limits import RANGE_ENTRIES_MAX, VERSIONS_KEPT
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.store.engine import Committed, Entry, EntryId, Page, VersionRow
from cosessiond.store.hash import is_trace
from cosessiond.store.public import public_entry

#: Entries of the past that one slice of the store's thread looks up.
READ_ROWS: Final = 256


def get(core: Core, call: Call, request: messages.Get) -> messages.GetReply | None:
    """One entry, from memory; at a revision, from the log."""
    id = admission.readable(core, request.space, request.project, request.key)
    if not request.at_revision:
        return messages.GetReply(revision=core.store.revision, entry=_public(core.store.get(id)))
    revision = admission.past_revision(core, request.at_revision, "at_revision")
    call.reserve(core.limits.value_bytes_max)  # about what the answer will hold

    def done(found: Entry | CosessionError | None) -> None:
        if isinstance(found, CosessionError):
            call.fail(found)
        else:
            call.reply(messages.GetReply(revision=core.store.revision, entry=_public(found)))

    core.store.run(lambda engine: engine.entry_at(id, revision), done)
    return None


def range_(core: Core, call: Call, request: messages.Range) -> messages.RangeReply | None:
    """A page in key order, from memory; at a revision, from the log."""
    if not 1 <= request.limit <= RANGE_ENTRIES_MAX:
        raise InvalidRequest(f"cannot use limit {request.limit}: 1 to {RANGE_ENTRIES_MAX}; ask for several pages")
    admission.check_place(core, request.space, request.project, request.prefix)
    store = core.store
    if not request.at_revision or request.at_revision == store.revision:
        found = store.scan(request.space, request.project, request.prefix, request.after)
        page = _page(found, request, call.page_bytes_max)
        return messages.RangeReply(revision=store.revision, read_revision=store.revision, entries=page[0], more=page[1])
    _PastRange(core, call, request, admission.past_revision(core, request.at_revision, "at_revision")).look(
        request.after
    )
    return None


class _PastRange:
    """A page of the past, gathered in slices so that no commit waits long behind it."""

    __slots__ = ("_call", "_core", "_gathered", "_request", "_revision")

    def __init__(self, core: Core, call: Call, request: messages.Range, revision: int) -> None:
        self._core = core
        self._call = call
        self._request = request
        self._revision = revision
        self._gathered: list[Entry] = []
        call.reserve(call.page_bytes_max)

    def look(self, after: str) -> None:
        """Read the next slice, behind key `after`."""
        request, revision = self._request, self._revision
        limit = min(READ_ROWS, request.limit + 1 - len(self._gathered))
        place = (request.space, request.project)
        self._core.store.run(
            lambda engine: engine.range_at(*place, prefix=request.prefix, after=after, limit=limit, revision=revision),
            self._done,
        )

    def _done(self, found: Page | CosessionError) -> None:
        call, request, gathered = self._call, self._request, self._gathered
        if isinstance(found, CosessionError):
            call.fail(found)
            return
        gathered.extend(found.entries)
        if found.more and len(gathered) <= request.limit and sum(len(e.value) for e in gathered) <= call.page_bytes_max:
            self.look(found.reached)
            return
        entries, more = _page(gathered, request, call.page_bytes_max)
        call.reply(
            messages.RangeReply(
                revision=self._core.store.revision,
                read_revision=self._revision,
                entries=entries,
                more=more or found.more,
            )
        )


def history(core: Core, call: Call, request: past.History) -> None:
    """The kept versions of an entry, newest first, as many as fit a page."""
    id = admission.readable(core, request.space, request.project, request.key)
    if not 1 <= request.limit <= VERSIONS_KEPT:
        raise InvalidRequest(f"cannot use limit {request.limit}: 1 to {VERSIONS_KEPT}, the number of versions kept")

    before = admission.revision(request.before_revision, "before_revision")
    _History(core, call, id, request.limit).look(before)


class _History:
    """A page of versions, gathered in slices like a page of the past."""

    __slots__ = ("_call", "_core", "_gathered", "_id", "_limit")

    def __init__(self, core: Core, call: Call, id: EntryId, limit: int) -> None:
        self._core = core
        self._call = call
        self._id = id
        self._limit = limit
        self._gathered: list[VersionRow] = []
        call.reserve(call.page_bytes_max)

    def look(self, before: int) -> None:
        """Read the next slice, of versions before a revision."""
        id, left = self._id, self._limit + 1 - len(self._gathered)
        self._core.store.run(lambda engine: engine.history(id, left, before), self._done)

    def _done(self, found: list[VersionRow] | CosessionError) -> None:
        if isinstance(found, CosessionError):
            self._call.fail(found)
            return
        gathered = self._gathered
        gathered.extend(found)
        size = sum(len(row.value) for row in gathered)
        if found and len(gathered) <= self._limit and size <= self._call.page_bytes_max:
            self.look(found[-1].mod_revision)
            return
        versions: list[model.Version] = []
        size = 0
        for row in gathered[: self._limit]:
            size += len(row.value)
            if versions and size > self._call.page_bytes_max:
                break
            versions.append(_version(row))
        more = len(versions) < len(gathered)
        self._call.reply(past.HistoryReply(revision=self._core.store.revision, versions=versions, more=more))


def revision_at(core: Core, call: Call, request: past.RevisionAt) -> None:
    """The newest revision that a wall-clock time does not lie before."""
    if not isfinite(request.time):
        raise InvalidRequest("cannot use that time: it is seconds since the epoch")
    _Halving(core, call, request.time * 1000).begin()


class _Halving:
    """Finds a time in the log, one batch a slice. `_low` was written by then, `_high` was not."""

    __slots__ = ("_call", "_core", "_found", "_high", "_low", "_time_ms")

    def __init__(self, core: Core, call: Call, time_ms: float) -> None:
        self._core = core
        self._call = call
        self._time_ms = time_ms
        self._low = 0
        self._high = core.store.revision + 1
        self._found: Committed | None = None

    def begin(self) -> None:
        """Look at the oldest batch there is."""
        if self._high == 1:
            raise Compacted("cannot find that time: nothing was written yet", data={"compact_revision": 1})
        self._look(self._core.store.compact_revision)

    def _look(self, revision: int) -> None:
        self._core.store.run(lambda engine: engine.changes(revision - 1, 1, 0)[0], self._done)

    def _done(self, batch: Committed | CosessionError) -> None:
        if isinstance(batch, CosessionError):
            self._call.fail(batch)
            return
        if batch.time_ms <= self._time_ms:
            self._low, self._found = batch.revision, batch
        else:
            self._high = batch.revision
        if self._found is None:
            why = "cannot find that time: the log window begins later; ask for a later one, or see `history`"
            self._call.fail(Compacted(why, data={"compact_revision": batch.revision, "time": batch.time_ms / 1000}))
        elif self._high - self._low > 1:
            try:
                self._look((self._low + self._high) // 2)
            except CosessionError as error:
                self._call.fail(error)
        else:
            time = self._found.time_ms / 1000
            self._call.reply(past.RevisionAtReply(revision=self._core.store.revision, at_revision=self._low, time=time))


def _public(entry: Entry | None) -> Any:
    return public_entry(entry) if entry is not None else None


def _page(entries: Iterable[Entry], request: messages.Range, bytes_max: int) -> tuple[list[model.Entry], bool]:
    """Entries up to the page's bounds, and whether some were left."""
    page: list[model.Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.id[2].encode()) + 160 + (0 if request.keys_only else len(entry.value))
        if len(page) == request.limit or (page and size > bytes_max):
            return page, True
        shown = public_entry(entry)
        page.append(structs.replace(shown, value=None) if request.keys_only else shown)
    return page, False


def _version(row: VersionRow) -> model.Version:
    return model.Version(
        kind=row.kind,
        value=None if row.kind != "put" or is_trace(row.value) else Raw(row.value),
        version=row.version,
        create_revision=row.create_revision,
        mod_revision=row.mod_revision,
        session=row.origin.session,
        instance=row.origin.instance,
        operation=row.origin.operation,
        request_id=row.origin.request_id,
        time=row.time_ms / 1000,
        purged=is_trace(row.value),
    )


ROWS: Final = (
    Row(messages.Get, Access.READ, get),
    Row(messages.Range, Access.READ, range_),
    Row(past.History, Access.READ, history),
    Row(past.RevisionAt, Access.READ, revision_at),
)
