"""get, range, put, delete, merge, txn, history: from a request to a batch, and from an outcome to a reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType, structs

from cosession import model
from cosession.errors import CosessionError, InvalidRequest
from cosession.messages import Reply
from cosession.messages import store as messages
from cosession.messages.limits import RANGE_ENTRIES_MAX, VERSIONS_KEPT
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.proposing import Decided, commit
from cosessiond.server.table import Access, Row
from cosessiond.store.engine import (
    Applied,
    Committed,
    Compare,
    Delete,
    Entry,
    EntryCompare,
    EntryId,
    Merge,
    Page,
    VersionRow,
)
from cosessiond.store.public import public_entry

#: Entries of the past that one slice of the store's thread looks up.
READ_ROWS: Final = 256


def get(core: Core, call: Call, request: messages.Get) -> messages.GetReply | None:
    """One entry, from memory; at a revision, from the log."""
    id = admission.readable(core, request.space, request.project, request.key)
    if not request.at_revision:
        return messages.GetReply(revision=core.store.revision, entry=_public(core.store.get(id)))
    revision = _past(core, request.at_revision)
    call.reserve(core.limits.value_bytes_max)  # about what the answer will hold

    def done(found: Entry | CosessionError | None) -> None:
        if isinstance(found, CosessionError):
            call.fail(found)
        else:
            call.reply(messages.GetReply(revision=core.store.revision, entry=_public(found)))

    core.store.read(lambda engine: engine.entry_at(id, revision), done)
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
    _PastRange(core, call, request, _past(core, request.at_revision)).look(request.after)
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
        self._core.store.read(
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
            self.look(gathered[-1].id[2])
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


def put(core: Core, call: Call, request: messages.Put) -> None:
    """One entry written."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        origin = admission.origin(core, call, request)
        value = admission.Allowance(core).admit(bytes(request.value))
        write = admission.put(id, value, ttl_s=request.ttl_s, ephemeral=request.ephemeral, session=origin.session)
        guards = admission.ephemeral_guards(core, [write])
        compares = [*guards, *_expected(id, request.expect_revision)]
        return core.store.batch(origin, compares, [write]), len(guards)

    def answer(outcome: Committed) -> Reply:
        written = _written(outcome)[0]
        return messages.PutReply(revision=core.store.revision, written=written, repeated=outcome.repeated)

    commit(core, call, request, decide, answer)


def delete(core: Core, call: Call, request: messages.Delete) -> None:
    """One entry deleted; an absent one stays absent."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        compares = _expected(id, request.expect_revision)
        return core.store.batch(admission.origin(core, call, request), compares, [Delete(id)]), 0

    def answer(outcome: Committed) -> Reply:
        written = _written(outcome)
        return messages.DeleteReply(
            revision=core.store.revision, written=written[0] if written else None, repeated=outcome.repeated
        )

    commit(core, call, request, decide, answer)


def merge(core: Core, call: Call, request: messages.Merge) -> None:
    """A merge patch, evaluated at apply: the order of commits is the order of patches."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        write = Merge(id, admission.Allowance(core).admit(bytes(request.patch), "patch"))
        before = core.store.get(id)
        call.reserve(len(write.patch) + (len(before.value) if before else 0))  # about what the answer will hold
        compares = _expected(id, request.expect_revision)
        return core.store.batch(admission.origin(core, call, request), compares, [write]), 0

    def answer(outcome: Committed) -> Reply:
        value = outcome.changes[0].value
        return messages.MergeReply(
            revision=core.store.revision,
            written=_written(outcome)[0],
            value=Raw(value) if value else None,
            repeated=outcome.repeated,
        )

    commit(core, call, request, decide, answer)


def txn(core: Core, call: Call, request: messages.Txn) -> None:
    """Compares and writes as one batch."""

    def decide() -> Decided:
        origin = admission.origin(core, call, request)
        allowance = admission.Allowance(core)
        then, guards = admission.txn_writes(core, request, request.then, origin.session, allowance)
        otherwise, more = admission.txn_writes(core, request, request.otherwise, origin.session, allowance)
        guards = guards or more
        if guards and otherwise:
            raise InvalidRequest("cannot put ephemeral entries in a transaction with `else`; use two transactions")
        compares = [*guards, *admission.txn_compares(core, request)]
        return core.store.batch(origin, compares, then, otherwise), len(guards)

    def answer(outcome: Committed) -> Reply:
        return messages.TxnReply(
            revision=core.store.revision,
            succeeded=outcome.succeeded,
            txn_revision=outcome.revision if outcome.changes else 0,
            written=_written(outcome),
            repeated=outcome.repeated,
        )

    commit(core, call, request, decide, answer)


def history(core: Core, call: Call, request: messages.History) -> None:
    """The kept versions of an entry, newest first, as many as fit a page."""
    id = admission.readable(core, request.space, request.project, request.key)
    if not 1 <= request.limit <= VERSIONS_KEPT:
        raise InvalidRequest(f"cannot use limit {request.limit}: 1 to {VERSIONS_KEPT}, the number of versions kept")

    def done(found: list[VersionRow] | CosessionError) -> None:
        if isinstance(found, CosessionError):
            call.fail(found)
            return
        versions: list[model.Version] = []
        size = 0
        for row in found[: request.limit]:
            size += len(row.value)
            if versions and size > call.page_bytes_max:
                break
            versions.append(_version(row))
        more = len(versions) < len(found)
        call.reply(messages.HistoryReply(revision=core.store.revision, versions=versions, more=more))

    before = admission.revision(request.before_revision, "before_revision")
    call.reserve(call.page_bytes_max)
    core.store.read(lambda engine: engine.history(id, request.limit + 1, before), done)


def _past(core: Core, revision: int) -> int:
    """A revision to read at. Raises future_revision; what is below the window is found out by the engine."""
    admission.revision(revision, "at_revision")
    if revision > core.store.revision:
        raise CosessionError(
            f"cannot read at revision {revision}: the store is at {core.store.revision}; ask for that or less",
            code="future_revision",
            data={"revision": core.store.revision},
        )
    return revision


def _expected(id: EntryId, revision: int | UnsetType) -> list[Compare]:
    if revision is UNSET:
        return []
    assert isinstance(revision, int)
    return [EntryCompare(id, "mod_revision", revision)]


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


def _written(outcome: Committed) -> list[model.Written]:
    return [_one_written(change, outcome) for change in outcome.changes]


def _one_written(change: Applied, outcome: Committed) -> model.Written:
    return model.Written(
        kind=change.kind,
        key=change.id[2],
        version=change.version,
        create_revision=change.create_revision,
        mod_revision=outcome.revision,
        session=outcome.origin.session,
        time=outcome.time_ms / 1000,
        replaced_revision=change.replaced_revision,
        replaced_session=change.replaced_session,
    )


def _version(row: VersionRow) -> model.Version:
    return model.Version(
        kind=row.kind,
        value=Raw(row.value) if row.kind == "put" else None,
        version=row.version,
        create_revision=row.create_revision,
        mod_revision=row.mod_revision,
        session=row.origin.session,
        operation=row.origin.operation,
        request_id=row.origin.request_id,
        time=row.time_ms / 1000,
    )


ROWS: Final = (
    Row(messages.Get, Access.READ, get),
    Row(messages.Range, Access.READ, range_),
    Row(messages.Put, Access.WRITE, put),
    Row(messages.Delete, Access.WRITE, delete),
    Row(messages.Merge, Access.WRITE, merge),
    Row(messages.Txn, Access.WRITE, txn),
    Row(messages.History, Access.READ, history),
)
