"""debug.*: what the daemon can say about itself, from memory.

Rule: looking changes nothing and holds up nobody: each list is bounded, each answer costs a few milliseconds at most,
and what one asks to be switched on switches itself off.
"""

from __future__ import annotations

from collections import Counter, deque
from heapq import nsmallest
from math import isfinite
from typing import Final

from msgspec import UNSET

from cosession.config import LEVELS
from cosession.errors import InvalidRequest
from cosession.messages import debug as messages
from cosession.messages.limits import (
    AUDIT_QUEUE_MAX,
    AUDIT_WAITING_MAX,
    COMMIT_QUEUE_MAX,
    DEBUG_FOR_S_MAX,
    DEBUG_ROWS_MAX,
    READ_QUEUE_MAX,
    TRACES_MAX,
    TURNS_MAX,
)
from cosessiond.metrics import BOUNDS_S, Latency
from cosessiond.process.stacks import stacks
from cosessiond.server.conversation import Call, Conversation
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.server.tracing import MINE_MAX
from cosessiond.store.watch import Watcher

#: Latencies that are of no method.
_OF_GROUPS: Final[tuple[str, ...]] = ("commit", "fsync")


def clients(core: Core, call: Call, _request: messages.Clients) -> messages.ClientsReply:
    """Who is connected."""
    now_s = core.clock.monotonic()
    found = [_client(each, now_s) for each in core.conversations if isinstance(each, Conversation)]
    return messages.ClientsReply(revision=core.store.revision, clients=found, client=call.conversation.number)


def _client(each: Conversation, now_s: float) -> messages.ClientState:
    name, version, project = each.introduced
    return messages.ClientState(
        client=each.number,
        pid=each.pid,
        name=name,
        version=version,
        project=project,
        sessions=sorted(each.sessions)[:DEBUG_ROWS_MAX],
        encoding=each.codec.name if each.codec is not None else "",
        age_s=round(now_s - each.opened_s, 3),
        calls=each.calls,
        in_flight=each.in_flight,
        in_flight_bytes=each.in_flight_bytes,
        unsent_bytes=each.unsent,
        watches=len(each.watches),
        state=each.state,
    )


def watches(core: Core, _call: Call, request: messages.Watches) -> messages.WatchesReply:
    """What is watched, and how far each has come."""
    pairs = [
        (each, watcher)
        for each in core.conversations
        if isinstance(each, Conversation) and request.client in (0, each.number)
        for watcher in each.watches.values()
    ]
    first = nsmallest(DEBUG_ROWS_MAX, pairs, key=lambda pair: pair[1].next_revision)
    return messages.WatchesReply(
        revision=core.store.revision,
        watches=[_watch(each, watcher, core.store.revision) for each, watcher in first],
        more=len(pairs) > len(first),
    )


def _watch(each: Conversation, watcher: Watcher, revision: int) -> messages.WatchState:
    space, project = watcher.space_project
    return messages.WatchState(
        client=each.number,
        watch=watcher.id,
        space=space,
        project=project,
        prefix=watcher.prefix,
        exact=watcher.exact,
        state=watcher.state,
        next_revision=watcher.next_revision,
        # Who is live has seen what was committed, also where none of it was for it.
        behind=0 if watcher.state == "live" else max(0, revision + 1 - watcher.next_revision),
    )


def tasks(core: Core, _call: Call, _request: messages.Tasks) -> messages.TasksReply:
    """What threads and tasks are doing."""
    found = stacks(DEBUG_ROWS_MAX + 1)
    shown = [messages.TaskState(kind=each.kind, name=each.name, stack=each.places) for each in found[:DEBUG_ROWS_MAX]]
    return messages.TasksReply(revision=core.store.revision, tasks=shown, more=len(found) > len(shown))


def queues(core: Core, _call: Call, _request: messages.Queues) -> messages.QueuesReply:
    """How full everything is that somebody may wait in."""
    store, limits = core.store, core.limits
    each = messages.QueueState
    ours = [every for every in core.conversations if isinstance(every, Conversation)]
    found = [
        each(name="connections", used=len(core.conversations), max=limits.connections_max),
        each(name="runqueue", used=len(core.runqueue), max=limits.connections_max),
        each(
            name="in_flight",
            used=sum(every.in_flight for every in ours),
            max=0,
            bytes=sum(every.in_flight_bytes for every in ours),
        ),
        each(name="commit_queue", used=store.queued, max=COMMIT_QUEUE_MAX, bytes=store.queued_bytes),
        each(name="read_queue", used=store.reading, max=READ_QUEUE_MAX),
        each(name="audit_queue", used=store.noted, max=AUDIT_QUEUE_MAX),
        each(name="unsent", used=sum(every.unsent > 0 for every in ours), max=0, bytes=sum(e.unsent for e in ours)),
        each(name="watches", used=len(core.watches), max=0),
        each(name="snapshots", used=len(store.snapshots), max=0),
        each(name="turns", used=len(core.turns), max=TURNS_MAX),
        each(name="claims_waiting", used=len(core.referee.granting.asks("")), max=0),
        each(name="waiting", used=len(core.waiting), max=AUDIT_WAITING_MAX),
        each(name="deadlines", used=len(core.deadlines), max=0),
        each(name="tails", used=len(core.tails), max=0, bytes=core.tails.kept_bytes),
    ]
    return messages.QueuesReply(revision=store.revision, queues=found)


def locks(core: Core, _call: Call, _request: messages.Locks) -> messages.LocksReply:
    """What is held, and who waits."""
    me, now_s = core.identity, core.clock.monotonic()
    each = messages.LockState
    held_s = round(now_s - me.started_s, 3)
    found = [
        each(kind="daemon", name=f"{me.state_directory}/daemon.lock", holder=f"pid {me.pid}", waiting=0, held_s=held_s)
    ]
    if core.purges:
        found.append(each(kind="purge", name="purge", holder=core.running or "a purge", waiting=0))
    if (making := core.backups.making) is not None:
        found.append(each(kind="backup", name=making.reason, holder=f"{making.phase} a backup", waiting=0))
    for turn in core.turns.held():
        holder = f"client {turn.by.number}" if isinstance(turn.by, Conversation) else "a client"
        found.append(each(kind="turn", name=_name_of(turn.key), holder=holder, waiting=core.turns.behind(turn.key)))
    asked = Counter(ask.claim.project for ask in core.referee.granting.asks(""))
    for project, waiting in asked.items():
        found.append(each(kind="claims", name=project, holder="see `claim.list`", waiting=waiting))
    for conversation in core.conversations:
        if isinstance(conversation, Conversation) and conversation.is_held:
            name = f"client {conversation.number}"
            found.append(each(kind="connection", name=name, holder="a write of its own", waiting=0))
    more = len(found) > DEBUG_ROWS_MAX
    return messages.LocksReply(revision=core.store.revision, locks=found[:DEBUG_ROWS_MAX], more=more)


def _name_of(key: object) -> str:
    """The key of an entry, with its space and project."""
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def loglevel(core: Core, _call: Call, request: messages.LogLevel) -> messages.LogLevelReply:
    """Another level for a while."""
    loglevel = core.loglevel
    if request.level == "configured":
        loglevel.reset()
    elif request.level:
        if request.level not in LEVELS:
            raise InvalidRequest(
                f"cannot log from {request.level[:40]!r} on: there are {', '.join(LEVELS)}, and `configured`"
            )
        loglevel.set(request.level, _for_s(request.for_s))
    return messages.LogLevelReply(
        revision=core.store.revision,
        level=loglevel.level,
        configured=loglevel.configured,
        left_s=round(loglevel.left_s, 3),
    )


def trace(core: Core, call: Call, request: messages.TraceRequests) -> messages.TraceReply:
    """Switch tracing, and show what was traced."""
    tracer, conversation = core.tracer, call.conversation
    if not 0 <= request.limit <= TRACES_MAX:
        raise InvalidRequest(f"cannot use limit {request.limit}: 0 to {TRACES_MAX}")
    if not (isfinite(request.slow_ms) and request.slow_ms >= 0):
        raise InvalidRequest("cannot use slow_ms: 0 or more milliseconds")
    if request.mine:
        if request.on is not UNSET:
            conversation.traces = deque(maxlen=MINE_MAX) if request.on else None
        traces = list(conversation.traces or ())[::-1][: request.limit]
        is_on, left_s, seen = conversation.traces is not None, 0.0, len(traces)
    else:
        if request.on is True:
            tracer.switch_on(slow_ms=request.slow_ms, for_s=_for_s(request.for_s))
        elif request.on is False:
            tracer.switch_off()
        is_on, left_s, seen = tracer.is_switched_on, tracer.left_s, tracer.seen
        traces = tracer.newest(request.limit)
    return messages.TraceReply(
        revision=core.store.revision,
        on=is_on,
        left_s=round(left_s, 3),
        slow_ms=0.0 if request.mine else tracer.slow_ms,
        seen=seen,
        traces=traces,
    )


def _for_s(for_s: float) -> float:
    if not (isfinite(for_s) and 0 < for_s <= DEBUG_FOR_S_MAX):
        raise InvalidRequest(f"cannot do that for {for_s:g} s: up to {DEBUG_FOR_S_MAX} s, then ask again")
    return for_s


def metrics(core: Core, _call: Call, _request: messages.Metrics) -> messages.MetricsReply:
    """Everything that is counted or measured."""
    found = core.metrics.latencies
    latencies: dict[str, messages.Latency] = {name: _latency(found[name]) for name in _OF_GROUPS if name in found}
    latencies |= {f"request.{name}": _latency(each) for name, each in sorted(found.items()) if name not in _OF_GROUPS}
    return messages.MetricsReply(
        revision=core.store.revision,
        version=core.identity.version,
        timestamp=core.clock.wall_ms() / 1000,
        uptime_s=round(core.clock.monotonic() - core.identity.started_s, 3),
        gauges=_gauges(core),
        counters=core.metrics.snapshot(),
        bounds_s=list(BOUNDS_S),
        latencies=latencies,
    )


def _latency(found: Latency) -> messages.Latency:
    return messages.Latency(
        count=sum(found.buckets), sum_s=round(found.sum_s, 9), max_s=round(found.max_s, 9), buckets=found.buckets
    )


def _gauges(core: Core) -> list[messages.Gauge]:
    store, limits, room = core.store, core.limits, core.look_at_room()
    stalls = store.stalls
    return [
        _gauge("connections", len(core.conversations), limits.connections_max),
        _gauge("watches", len(core.watches)),
        _gauge("sessions", core.registry.live_count),
        _gauge("entries", len(store.index), limits.live_entries_max),
        _gauge("live_bytes", store.index.live_bytes, limits.live_bytes_max),
        _gauge("database_bytes", store.database_bytes, limits.database_bytes_max),
        _gauge("surplus_batches", store.surplus_batches),
        _gauge("commit_queue", store.queued, COMMIT_QUEUE_MAX),
        _gauge("read_queue", store.reading, READ_QUEUE_MAX),
        _gauge("turns", len(core.turns), TURNS_MAX),
        _gauge("commit_stall_max_ms", round(stalls.longest_s * 1000, 3)),
        _gauge("commit_stall_p99_ms", round(stalls.percentile_s(0.99) * 1000, 3)),
        _gauge("disk_free_bytes", room.free_bytes),
        _gauge("reserve_bytes", room.reserve_bytes),
        _gauge("revision", store.revision),
    ]


def _gauge(name: str, value: float, limit: float = 0) -> messages.Gauge:
    if not limit:
        return messages.Gauge(name=name, value=value)
    return messages.Gauge(name=name, value=value, limit=limit, full=round(value / limit, 4))


ROWS: Final = (
    Row(messages.Clients, Access.ADMIN, clients),
    Row(messages.Watches, Access.ADMIN, watches),
    Row(messages.Tasks, Access.ADMIN, tasks),
    Row(messages.Queues, Access.ADMIN, queues),
    Row(messages.Locks, Access.ADMIN, locks),
    Row(messages.LogLevel, Access.ADMIN, loglevel),
    Row(messages.TraceRequests, Access.ADMIN, trace),
    Row(messages.Metrics, Access.ADMIN, metrics),
)
