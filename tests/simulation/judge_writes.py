"""Oracles over writes: durable, dense, told as they are, compared as asked, whole or not at all, once.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from math import inf
from typing import Any, cast

from msgspec import UNSET, msgpack
from msgspec.structs import replace

from cosession.messages.past import Purge, PurgeReply, RevertReply
from cosession.messages.store import (
    AddReply,
    AppendReply,
    DeleteReply,
    MergeReply,
    PutReply,
    TxnReply,
)
from cosession.model import Written
from cosessiond.store.engine import Committed
from simulation.history import Call, History, Row
from simulation.model import WRONG_TYPE, Expected, Model, Standing, WriteRequest, expected
from simulation.purges import TRACE

#: Refusals that depend on the moment or on who asks, not on the request: a repeat may meet one although the first
#: attempt was committed.
PASSING = frozenset({"overloaded", "shutting_down", "disk_full", "store_full", "quota_exceeded", "read_only"})


#: What is written at the request of a client.
OPERATIONS = frozenset({"put", "delete", "merge", "add", "append", "txn", "revert", "purge"})
SINGLE_REPLIES = PutReply | DeleteReply | MergeReply | AddReply | AppendReply | PurgeReply
WRITE_REPLIES = SINGLE_REPLIES | TxnReply | RevertReply


def durable(history: History, model: Model) -> Iterator[str]:
    """Every start, and the end, has every revision that anybody was shown before."""
    for life in history.lives:
        rows = [row for row in history.rows if row.applied_s <= life.started_s and row.life < life.number]
        shown = max((call.revision for call in history.calls if 0 < call.answered_s <= life.started_s), default=0)
        if life.revision < shown:
            yield f"daemon {life.number} began at revision {life.revision}, clients had been shown {shown}"
        elif life.revision != len(rows):
            yield f"daemon {life.number} began at revision {life.revision}, {len(rows)} were committed"
        else:
            yield from _same_log(f"daemon {life.number}", life.log, rows, model, life.started_s)
            stored = {entry.id: entry for entry in life.entries}
            yield from _same_entries(f"daemon {life.number}", stored, model, life.revision)
    if history.quiet is not None:
        yield from _same_log("the engine at rest", history.quiet.log, history.rows, model, inf)
        stored = {entry.id: entry for entry in history.quiet.engine}
        yield from _same_entries("the engine at rest", stored, model, history.quiet.revision)


def _same_log(what: str, log: list[Any], rows: list[Row], model: Model, at_s: float) -> Iterator[str]:
    for outcome in log:
        row = rows[outcome.revision - 1] if 0 < outcome.revision <= len(rows) else None
        if row is None or outcome != _without_purged(row.outcome, outcome, model, at_s):
            yield f"{what} has another batch at revision {outcome.revision} than was committed"


def _without_purged(committed: Committed, found: Committed, model: Model, at_s: float) -> Committed:
    """What was committed, less the values that are not found any more and may be gone: of those there is the trace."""
    pairs = zip(committed.changes, found.changes, strict=len(committed.changes) == len(found.changes))
    changes = tuple(
        replace(was, value=TRACE + blake2b(was.value, digest_size=16).digest())
        if now.value[:1] == TRACE and model.purges.may(was.id, committed.revision, at_s)
        else was
        for was, now in pairs
    )
    return replace(committed, changes=changes)


def _same_entries(what: str, stored: dict[Any, Any], model: Model, revision: int) -> Iterator[str]:
    for id in sorted(model.versions.keys() | stored.keys()):
        standing, entry = model.at(id, revision), stored.get(id)
        seen = None
        if entry is not None:
            head = (entry.version, entry.create_revision, entry.mod_revision, entry.time_ms)
            seen = Standing("put", entry.value, *head, entry.session, entry.ttl_ms, entry.owner)
        if seen != standing:
            yield f"{what} has {seen} under {id[2]}, the log says {standing}"


def dense(history: History, model: Model) -> Iterator[str]:
    """Revisions count 1, 2, 3; every batch that takes one changes something."""
    del model
    for index, row in enumerate(history.rows):
        if row.revision != index + 1 or not row.outcome.changes:
            yield f"row {index + 1} has revision {row.revision} and {len(row.outcome.changes)} changes"


def acknowledged(history: History, model: Model) -> Iterator[str]:
    """Every answer to a write is what the log has at its revision, and that is what the request asks for."""
    for call in history.calls:
        if call.status != "replied" or not isinstance(call.request, WriteRequest):
            continue
        reply: Any = call.reply
        revision, written = _claimed(reply)
        if not revision:
            yield from _did_nothing(call, model)
            continue
        if revision > len(history.rows):
            yield f"{_name(call)} was answered with revision {revision}, which does not exist"
            continue
        row = history.rows[revision - 1]
        if not revision <= reply.revision <= call.ceiling:
            yield f"{_name(call)} has revision {revision} in a reply at {reply.revision}, the store at {call.ceiling}"
        if not reply.repeated and revision <= call.floor:
            yield f"{_name(call)} was answered with revision {revision}, when {call.floor} had been shown before"
        yield from _equal(call, written, row)
        yield from _as_asked(call.request, _name(call), row, model)
        if isinstance(reply, RevertReply) and not reply.repeated:
            wanted = expected(call.request, model, row.revision - 1)
            if reply.unchanged != wanted.unchanged:
                yield f"{_name(call)} was told that {reply.unchanged} were as they had been, {wanted.unchanged} were"
        if isinstance(reply, TxnReply) and reply.succeeded != row.outcome.succeeded:
            yield f"{_name(call)} was told succeeded={reply.succeeded}"
        told = getattr(reply, "length" if isinstance(reply, AppendReply) else "value", None)
        if told is not None:
            value = msgpack.decode(row.outcome.changes[0].value)
            if told != (len(value) if isinstance(reply, AppendReply) else value):
                yield f"{_name(call)} was told {told}, the value is {value}"


def _claimed(reply: Any) -> tuple[int, list[Written]]:
    if isinstance(reply, TxnReply):
        return reply.txn_revision, reply.written
    if isinstance(reply, RevertReply):
        return max((each.mod_revision for each in reply.written), default=0), reply.written
    assert isinstance(reply, SINGLE_REPLIES)
    return (reply.written.mod_revision, [reply.written]) if reply.written else (0, [])


def _equal(call: Call, written: list[Written], row: Row) -> Iterator[str]:
    outcome = row.outcome
    logged = [
        Written(
            kind=change.kind,
            key=change.id[2],
            version=change.version,
            create_revision=change.create_revision,
            mod_revision=row.revision,
            session=outcome.origin.session,
            time=outcome.time_ms / 1000,
            replaced_revision=change.replaced_revision,
            replaced_session=change.replaced_session,
        )
        for change in outcome.changes
    ]
    if written != logged:
        yield f"{_name(call)} was answered {written}, the log has {logged}"
    if call.request.request_id != outcome.origin.request_id:  # type: ignore[attr-defined]
        yield f"{_name(call)} was answered with revision {row.revision} of request {outcome.origin.request_id!r}"


def _as_asked(request: Any, name: str, row: Row, model: Model) -> Iterator[str]:
    """The row is what the request does to the state before it."""
    wanted = expected(cast("WriteRequest", request), model, row.revision - 1)
    if wanted.writes is None:
        yield f"{name} took revision {row.revision}, but compare {wanted.conflict} does not hold there"
        return
    done: dict[str, Any] = {}
    leases: dict[str, tuple[int, bool]] = {}
    for change in row.outcome.changes:
        put = change.kind == "put"
        done[change.id[2]] = msgpack.decode(change.value) if put else UNSET
        if put:
            leases[change.id[2]] = (change.ttl_ms, bool(change.owner))
    if done != wanted.writes or row.outcome.succeeded != wanted.succeeded:
        yield f"{name} at revision {row.revision} wrote {done}, asked for was {wanted.writes}"
    elif leases != wanted.leases:
        yield f"{name} at revision {row.revision} has leases {leases}, asked for was {wanted.leases}"


def _did_nothing(call: Call, model: Model) -> Iterator[str]:
    """A write that was answered without a revision had nothing to do at some moment between call and answer; a revert
    that was tried out would have done then what its answer says.
    """
    request = cast("WriteRequest", call.request)
    planned = {each.key: each.kind for each in getattr(call.reply, "written", None) or []}
    for revision in range(call.floor, call.ceiling + 1):
        writes = expected(request, model, revision).writes
        if writes is not None and planned == {k: "delete" if v is UNSET else "put" for k, v in writes.items()}:
            return
    if planned:
        yield f"{_name(call)} would have done {planned}, but never between {call.floor} and {call.ceiling}"
        return
    yield f"{_name(call)} was answered as if there were nothing to do between {call.floor} and {call.ceiling}"


def refused(history: History, model: Model) -> Iterator[str]:
    """A conflict was one at some moment between call and answer; what was refused is not in the log."""
    ids = {row.outcome.origin.request_id: row for row in history.rows if row.outcome.origin.request_id}
    attempts = Counter(call.first for call in history.calls)
    for call in history.calls:
        if call.status != "failed" or not isinstance(call.request, WriteRequest):
            continue
        code = call.error.code if call.error else ""
        row = ids.get(call.request.request_id) if call.request.request_id else None
        if code == "conflict":
            yield from _conflict(call, model)
        if code == "wrong_type":
            yield from _wrong_type(call, model)
        if row is None or code == "request_id_reused" or (code in PASSING and call.first != call.number):
            continue
        if attempts[call.first] > 1 and _came_before(call, row, model):
            continue  # another attempt was committed later
        if isinstance(call.request, Purge) and code == "disk_full":
            continue  # the deletion had its place, the rest had none
        yield f"{_name(call)} was refused ({code}), but stands at revision {row.revision}"


def _came_before(call: Call, row: Row, model: Model) -> bool:
    """Whether a refusal can have been decided before `row` was there. A conflict and what a write cannot be done to
    are found behind the queue, what is refused at admission at the revision of its answer.
    """
    found = {"conflict": _is_conflict, "wrong_type": _is_wrong_type}.get(call.error.code if call.error else "")
    if found is None:
        return row.revision > call.revision
    request = cast("WriteRequest", call.request)
    last = min(call.ceiling, row.revision - 1)
    return any(found(expected(request, model, each)) for each in range(call.floor, last + 1))


def _is_conflict(wanted: Expected) -> bool:
    return wanted.writes is None


def _is_wrong_type(wanted: Expected) -> bool:
    return any(value is WRONG_TYPE for value in (wanted.writes or {}).values())


def _wrong_type(call: Call, model: Model) -> Iterator[str]:
    request = cast("WriteRequest", call.request)
    if not any(_is_wrong_type(expected(request, model, each)) for each in range(call.floor, call.ceiling + 1)):
        yield f"{_name(call)} was told that a value is of the wrong kind, and none ever was"


def _conflict(call: Call, model: Model) -> Iterator[str]:
    assert call.error is not None
    request = cast("WriteRequest", call.request)
    shown = call.error.data.get("current")
    index = call.error.data.get("compare")
    for revision in range(call.floor, call.ceiling + 1):
        found = expected(request, model, revision)
        if found.writes is None and found.conflict == index:
            current = found.current.public(found.current_key) if found.current else None
            if (None if current is None else msgpack.decode(msgpack.encode(current))) == shown:
                return
    yield f"{_name(call)} got a conflict at compare {index} with {shown} that never was one"


def once(history: History, model: Model) -> Iterator[str]:
    """One request id, one row; one row, one answer without `repeated`; the same answer each time."""
    del model
    rows: dict[str, int] = {}
    for row in history.rows:
        id = row.outcome.origin.request_id
        if id and id in rows:
            yield f"request {id} was committed at revision {rows[id]} and again at {row.revision}"
        rows.setdefault(id, row.revision)
    owners: dict[int, Call] = {}
    for call in history.calls:
        if call.status != "replied" or not isinstance(call.reply, WRITE_REPLIES):
            continue
        revision, _ = _claimed(call.reply)
        if revision and not call.reply.repeated:
            other = owners.setdefault(revision, call)
            if other is not call:
                yield f"{_name(call)} and {_name(other)} were both answered with revision {revision}"


def unknown(history: History, model: Model) -> Iterator[str]:
    """Whatever is in the log was asked for, by somebody, as it is there: all of it or nothing."""
    by_id: dict[str, list[Call]] = {}
    anonymous: list[Call] = []
    for call in history.calls:
        if isinstance(call.request, WriteRequest):
            if call.request.request_id:
                by_id.setdefault(call.request.request_id, []).append(call)
            else:
                anonymous.append(call)
    for row in history.rows:
        origin = row.outcome.origin
        if origin.operation not in OPERATIONS:
            if origin.operation != "expire" and not origin.operation.startswith(("session.", "claim.", "mail.")):
                yield f"revision {row.revision} was written by {origin.operation!r}, which is no operation"
            continue
        asked = by_id.get(origin.request_id, []) if origin.request_id else anonymous
        if not any(not list(_as_asked(call.request, "", row, model)) for call in asked if _may_be(call, row)):
            yield f"revision {row.revision} ({origin.operation} {origin.request_id}) is nobody's request"


def _may_be(call: Call, row: Row) -> bool:
    if type(call.request).__name__.lower() != row.outcome.origin.operation or call.sent_s > row.applied_s:
        return False
    return all(change.id[1] == call.request.project for change in row.outcome.changes)  # type: ignore[attr-defined]


def in_order(history: History, model: Model) -> Iterator[str]:
    """The writes of one connection commit in the order sent."""
    del model
    last: dict[int, tuple[int, Call]] = {}
    for call in history.calls:
        if call.status != "replied" or not isinstance(call.reply, WRITE_REPLIES):
            continue
        revision, _ = _claimed(call.reply)
        if not revision or call.reply.repeated:
            continue
        before, other = last.get(call.connection, (0, call))
        if revision < before:
            yield f"{_name(call)} has revision {revision}, {_name(other)} was sent before it and has {before}"
        last[call.connection] = max((before, other), (revision, call), key=lambda each: each[0])


def _name(call: Call) -> str:
    return f"call {call.number} of {call.client} ({type(call.request).__name__})"
