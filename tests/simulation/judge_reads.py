"""Oracles over reads and over calls as such: neither stale nor ahead, exact in the past, answered once, in order.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from cosession.messages.past import History as HistoryRequest
from cosession.messages.past import HistoryReply, Purge, Revert
from cosession.messages.store import Get, GetReply, Range, RangeReply
from cosession.messages.turns import Turn, TurnReply
from cosession.messages.watches import Watch
from simulation.history import Call, History
from simulation.kept import shown as kept_versions
from simulation.kept import windows
from simulation.model import Model


def linear(history: History, model: Model) -> Iterator[str]:
    """Every answer is of a revision between what had been shown before its call and what is durable; what a read
    shows is the state at that revision.
    """
    for call in history.calls:
        if call.status not in ("replied", "failed"):
            continue
        if not call.floor <= call.revision <= call.ceiling:
            yield f"{_name(call)} was answered at {call.revision}, shown was {call.floor}, durable {call.ceiling}"
        if isinstance(call.reply, GetReply):
            yield from _get(call, model)
        elif isinstance(call.reply, TurnReply):
            yield from _turn(call, model)
        elif isinstance(call.reply, RangeReply):
            yield from _range(call, model)
        elif isinstance(call.reply, HistoryReply):
            yield from _history(call, history, model)
        elif call.error is not None:
            yield from _refusal(call, history, model)


def _get(call: Call, model: Model) -> Iterator[str]:
    request, reply = call.request, call.reply
    assert isinstance(request, Get)
    assert isinstance(reply, GetReply)
    revision = request.at_revision or reply.revision
    standing = model.at((request.space, request.project, request.key), revision)
    wanted = standing.public(request.key) if standing else None
    if reply.entry != wanted:
        yield f"{_name(call)} of {request.key} was answered {reply.entry}, at revision {revision} it is {wanted}"


def _turn(call: Call, model: Model) -> Iterator[str]:
    """Who has the turn is shown what stands, who has not nothing."""
    request, reply = call.request, call.reply
    assert isinstance(request, Turn)
    assert isinstance(reply, TurnReply)
    standing = model.at((request.space, request.project, request.key), reply.revision) if reply.granted else None
    wanted = standing.public(request.key) if standing else None
    if reply.entry != wanted:
        yield f"{_name(call)} of {request.key} was shown {reply.entry}, at revision {reply.revision} it is {wanted}"


def _range(call: Call, model: Model) -> Iterator[str]:
    request, reply = call.request, call.reply
    assert isinstance(request, Range)
    assert isinstance(reply, RangeReply)
    if reply.read_revision != (request.at_revision or reply.revision):
        yield f"{_name(call)} asked for revision {request.at_revision} and was shown {reply.read_revision}"
    found = [
        standing.public(id[2])
        for id, standing in model.scan(request.space, request.project, request.prefix, reply.read_revision)
        if id[2] > request.after
    ]
    shown = [(e.key, e.mod_revision) if request.keys_only else e for e in reply.entries]
    wanted: list[Any] = [(e.key, e.mod_revision) if request.keys_only else e for e in found[: request.limit]]
    if shown != wanted or reply.more != (len(found) > request.limit):
        yield f"{_name(call)} was answered {shown} more={reply.more}, at {reply.read_revision} it is {wanted}"


def _history(call: Call, history: History, model: Model) -> Iterator[str]:
    """The newest versions as of some moment between call and answer."""
    request, reply = call.request, call.reply
    assert isinstance(request, HistoryRequest)
    assert isinstance(reply, HistoryReply)
    id = (request.space, request.project, request.key)
    gone = {each.mod_revision for each in reply.versions if each.purged}
    unasked = [each for each in sorted(gone) if not model.purges.may(id, each, call.answered_s)]
    if unasked:
        yield f"{_name(call)} of {request.key} was shown revisions {unasked} as purged, which nobody asked for"
    shown = [(each.kind, each.value, each.version, each.create_revision, each.mod_revision) for each in reply.versions]
    moments = [(at, compact) for compact in windows(call, history) for at in range(call.floor, call.ceiling + 1)]
    for revision, compact in moments:
        kept = kept_versions(history, model, id, revision, compact)
        before = request.before_revision
        found = [each for each in reversed(kept) if before <= 0 or each.mod_revision < before]
        wanted = [
            (
                each.kind,
                each.public("").value if each.kind == "put" and each.mod_revision not in gone else None,
                each.version,
                each.create_revision,
                each.mod_revision,
            )
            for each in found[: request.limit]
        ]
        if shown == wanted and reply.more == (len(found) > request.limit):
            return
    yield f"{_name(call)} of {request.key} was answered {shown}, never so between {call.floor} and {call.ceiling}"


def _refusal(call: Call, history: History, model: Model) -> Iterator[str]:
    """What lies below the window or was purged was refused as such, and nothing else was; the same for the future."""
    assert call.error is not None
    request: Any = call.request
    names = ("at_revision", "start_revision", "to_revision", "before_revision")
    asked = next(filter(None, (getattr(request, name, 0) for name in names)), 0)
    reach = 1 if isinstance(request, Watch | Purge) else 0
    if call.error.code == "compacted" and not _is_past(call, asked, history, model):
        yield f"{_name(call)} at {asked} was refused as compacted, the window begins at {call.compact}"
    if call.error.code == "future_revision" and asked <= call.floor + reach:
        yield f"{_name(call)} at {asked} was refused as of the future, {call.floor} had been shown"
    if call.error.code == "invalid_params" and _is_odd(request):
        return
    if call.error.code in ("internal", "damaged", "io_error", "parse_error", "invalid_request", "invalid_params"):
        yield f"{_name(call)} {request} was refused: {call.error.code}: {call.error.message}"


def _is_past(call: Call, asked: int, history: History, model: Model) -> bool:
    """Whether what was asked for may not be told any more: it was purged, or is older than what is kept."""
    assert call.error is not None
    request: Any = call.request
    if "purged_key" in call.error.data:
        id = (request.space, request.project, call.error.data["purged_key"])
        stood = model.at(id, asked)
        revision = call.error.data["purged_revision"]
        gone = model.purges.may(id, revision, call.answered_s)
        return gone and stood is not None and stood.mod_revision == revision
    if isinstance(request, Revert) and request.key:
        id = (request.space, request.project, request.key)
        kept = [kept_versions(history, model, id, call.ceiling, compact) for compact in windows(call, history)]
        return 0 < asked < call.compact and any(not each or each[0].mod_revision > asked for each in kept)
    return 0 < asked < call.compact


def _is_odd(request: Any) -> bool:
    """Whether a number in it is none that an honest client sends."""
    values = [getattr(request, name) for name in request.__struct_fields__]
    return any(isinstance(value, int | float) and abs(value) > 1e18 for value in values)


def forward(history: History, model: Model) -> Iterator[str]:
    """The answers on one connection never go back in revision."""
    del model
    last: dict[int, tuple[int, float, Call]] = {}
    for call in sorted(history.calls, key=lambda each: each.answered_s):
        if call.status not in ("replied", "failed"):
            continue
        before, when_s, other = last.get(call.connection, (0, 0.0, call))
        if call.revision < before and call.answered_s > when_s:
            yield f"{_name(call)} was answered at {call.revision}, {_name(other)} before it at {before}"
        last[call.connection] = (call.revision, call.answered_s, call)


def answered(history: History, model: Model) -> Iterator[str]:
    """At rest every call has its one answer or its cut, and nothing was written down as wrong meanwhile."""
    del model
    yield from history.wrong
    if history.quiet is not None:
        for call in history.quiet.pending:
            if call.sent_s < history.quiet_from_s + 8.0:
                yield f"{_name(call)} never got an answer"


def sound(history: History, model: Model) -> Iterator[str]:
    """Whenever somebody looked, everything in memory that waits was waited for; see `invariants`."""
    del model
    yield from history.unsound


def at_rest(history: History, model: Model) -> Iterator[str]:
    """Memory equals the engine at rest; nothing is left when everybody is gone."""
    del model
    quiet = history.quiet
    if quiet is None:
        return
    if quiet.memory_revision != quiet.revision:
        yield f"memory is at revision {quiet.memory_revision} at rest, the engine at {quiet.revision}"
    if quiet.memory != quiet.engine:
        differing = [e.id[2] for e in quiet.memory if e not in quiet.engine]
        yield f"memory differs from the engine at rest: {differing or 'something is missing'}"
    for leak in quiet.leaks:
        yield f"left behind: {leak}"
    for entry in quiet.late_entries:
        yield f"{entry.id[2]} still stands long after its time (ttl_ms {entry.ttl_ms}, owner {entry.owner!r})"


def _name(call: Call) -> str:
    return f"call {call.number} of {call.client} ({type(call.request).__name__})"


__all__ = ["UNSET", "answered", "at_rest", "forward", "linear", "sound"]
