"""put, delete, merge, add, append, txn: from a request to a batch, and from an outcome to a reply."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Raw, UnsetType, msgpack

from cosession import model
from cosession.errors import InvalidRequest
from cosession.messages import Reply
from cosession.messages import store as messages
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.proposing import Decided, commit
from cosessiond.server.table import Access, Row
from cosessiond.store.apply import list_length
from cosessiond.store.engine import (
    Applied,
    Committed,
    Compare,
    Delete,
    EntryCompare,
    EntryId,
    Merge,
    Write,
)

_decode_number: Final = msgpack.Decoder(int | float).decode


def put(core: Core, call: Call, request: messages.Put) -> None:
    """One entry written."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        origin = admission.origin(core, call, request)
        if request.ephemeral and not request.ttl_s:
            admission.require_somebody(core, call, origin.session)
        value = admission.Allowance(core).admit(bytes(request.value))
        write = admission.put(id, value, ttl_s=request.ttl_s, ephemeral=request.ephemeral, session=origin.session)
        guards = [
            *admission.ephemeral_guards(core, [write]),
            *admission.fence_guards(core, request.fence, origin.session),
        ]
        compares = [*guards, *_expected(id, request.expect_revision)]
        return core.store.batch(origin, compares, [write]), len(guards)

    def answer(outcome: Committed) -> Reply:
        written = all_written(outcome)[0]
        return messages.PutReply(revision=core.store.revision, written=written, repeated=outcome.repeated)

    commit(core, call, request, decide, answer)


def delete(core: Core, call: Call, request: messages.Delete) -> None:
    """One entry deleted; an absent one stays absent."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        return _guarded(core, call, request, id, Delete(id))

    def answer(outcome: Committed) -> Reply:
        written = all_written(outcome)
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
        return _guarded(core, call, request, id, write)

    def answer(outcome: Committed) -> Reply:
        value = outcome.changes[0].value
        return messages.MergeReply(
            revision=core.store.revision,
            written=all_written(outcome)[0],
            value=Raw(value) if value else None,
            repeated=outcome.repeated,
        )

    commit(core, call, request, decide, answer)


def add(core: Core, call: Call, request: messages.Add) -> None:
    """A number added at apply: the order of commits is the order of additions."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        write = admission.add(id, request.number, admission.Allowance(core))
        return _guarded(core, call, request, id, write)

    def answer(outcome: Committed) -> Reply:
        value = outcome.changes[0].value
        return messages.AddReply(
            revision=core.store.revision,
            written=all_written(outcome)[0],
            value=_decode_number(value) if value else None,
            repeated=outcome.repeated,
        )

    commit(core, call, request, decide, answer)


def append(core: Core, call: Call, request: messages.Append) -> None:
    """Elements appended at apply; the answer has the new length, not the list."""

    def decide() -> Decided:
        id = admission.writable(core, request.space, request.project, request.key)
        write = admission.append(id, bytes(request.values), admission.Allowance(core))
        return _guarded(core, call, request, id, write)

    def answer(outcome: Committed) -> Reply:
        value = outcome.changes[0].value
        return messages.AppendReply(
            revision=core.store.revision,
            written=all_written(outcome)[0],
            length=list_length(value) if value else None,
            repeated=outcome.repeated,
        )

    commit(core, call, request, decide, answer)


def txn(core: Core, call: Call, request: messages.Txn) -> None:
    """Compares and writes as one batch."""

    def decide() -> Decided:
        origin = admission.origin(core, call, request)
        puts = [part for part in (*request.then, *request.otherwise) if isinstance(part, messages.TxnPut)]
        if any(part.ephemeral and not part.ttl_s for part in puts):
            admission.require_somebody(core, call, origin.session)
        allowance = admission.Allowance(core)
        then, guards = admission.txn_writes(core, request, request.then, origin.session, allowance)
        otherwise, more = admission.txn_writes(core, request, request.otherwise, origin.session, allowance)
        guards = [*(guards or more), *admission.fence_guards(core, request.fence, origin.session)]
        if guards and otherwise:
            what = "fence" if request.fence else "put ephemeral entries in"
            raise InvalidRequest(f"cannot {what} a transaction with `else`; use two transactions")
        compares = [*guards, *admission.txn_compares(core, request)]
        return core.store.batch(origin, compares, then, otherwise), len(guards)

    def answer(outcome: Committed) -> Reply:
        return messages.TxnReply(
            revision=core.store.revision,
            succeeded=outcome.succeeded,
            txn_revision=outcome.revision if outcome.changes else 0,
            written=all_written(outcome),
            repeated=outcome.repeated,
        )

    commit(core, call, request, decide, answer)


def _guarded(
    core: Core,
    call: Call,
    request: messages.Delete | messages.Merge | messages.Add | messages.Append,
    id: EntryId,
    write: Write,
) -> Decided:
    origin = admission.origin(core, call, request)
    guards = admission.fence_guards(core, request.fence, origin.session)
    return core.store.batch(origin, [*guards, *_expected(id, request.expect_revision)], [write]), len(guards)


def _expected(id: EntryId, revision: int | UnsetType) -> list[Compare]:
    if revision is UNSET:
        return []
    assert isinstance(revision, int)
    return [EntryCompare(id, "mod_revision", revision)]


def all_written(outcome: Committed) -> list[model.Written]:
    """What a batch did, as clients hear it."""
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


ROWS: Final = (
    Row(messages.Put, Access.WRITE, put),
    Row(messages.Delete, Access.WRITE, delete),
    Row(messages.Merge, Access.WRITE, merge),
    Row(messages.Add, Access.WRITE, add),
    Row(messages.Append, Access.WRITE, append),
    Row(messages.Txn, Access.WRITE, txn),
)
