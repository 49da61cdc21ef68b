"""Oracle over purges: what was purged is shown to nobody and lies nowhere any more.

That nothing else is gone is asked by the oracles over reads, watches and what is durable, each of what it looks at.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from cosession.messages.past import History as HistoryRequest
from cosession.messages.past import HistoryReply
from cosession.messages.store import Get, GetReply, Range, RangeReply
from cosessiond.store.engine import EntryId
from simulation.history import Call, History
from simulation.model import Model
from simulation.purges import TRACE


def purged(history: History, model: Model) -> Iterator[str]:
    """Who asks after a purge was answered is not shown what it took; nor is it in the store."""
    for call in history.calls:
        if call.status == "replied" and call.taken is not None:
            for id, revision in _shown(call):
                if model.purges.must(id, revision, call.taken.s):
                    yield f"call {call.number} of {call.client} was shown {id[2]} of revision {revision}, it was purged"
    for watching in history.watches:
        for segment in watching.segments:
            opened = segment.call.taken
            changes = [change for event in segment.events for change in event.changes]
            for change in changes if opened else ():
                id = (watching.space, watching.project, change.key)
                gone = change.purged or change.kind != "put"
                if not gone and opened and model.purges.must(id, change.mod_revision, opened.s):
                    yield f"a watch of {watching.client} was shown {change.key} of {change.mod_revision}, purged before"
    yield from _kept(history, model)


def _shown(call: Call) -> Iterator[tuple[EntryId, int]]:
    """The versions of which an answer has the value."""
    request, reply = call.request, call.reply
    entries: list[Any] = []
    if isinstance(request, Get) and isinstance(reply, GetReply):
        entries = [reply.entry] if reply.entry else []
    elif isinstance(request, Range) and isinstance(reply, RangeReply) and not request.keys_only:
        entries = reply.entries
    elif isinstance(request, HistoryRequest) and isinstance(reply, HistoryReply):
        for version in reply.versions:
            if version.kind == "put" and not version.purged:
                yield (request.space, request.project, request.key), version.mod_revision
    for entry in entries:
        yield (request.space, request.project, entry.key), entry.mod_revision  # type: ignore[attr-defined]


def _kept(history: History, model: Model) -> Iterator[str]:
    """The values that lie in the log or among the versions, whenever somebody looked, and should not."""
    logs = [(life.started_s, life.log) for life in history.lives]
    if history.quiet is not None:
        logs.append((inf, history.quiet.log))
        for id, versions in history.quiet.versions.items():
            for version in versions:
                if version.kind == "put" and _lies(model, id, version.mod_revision, version.value, inf):
                    yield f"{id[2]} of revision {version.mod_revision} was purged and is still among its versions"
    for at_s, log in logs:
        for outcome in log:
            for change in outcome.changes:
                if change.kind == "put" and _lies(model, change.id, outcome.revision, change.value, at_s):
                    yield f"{change.id[2]} of revision {outcome.revision} was purged and is still in the log"


def _lies(model: Model, id: EntryId, revision: int, value: bytes, at_s: float) -> bool:
    return value[:1] != TRACE and model.purges.must(id, revision, at_s)
