"""What must hold in the memory of a daemon between any two of its callbacks: whoever waits is going to be called.

A lost wake-up shows in no answer for a long time; here it shows at once. Rule: looks at the parts, changes nothing,
and knows as little of their insides as it can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulation.daemon import Daemon


def unsound(daemon: Daemon) -> Iterator[str]:
    """What nobody will ever come back to."""
    core, store = daemon.core, daemon.store
    if store.queued == 0:
        for entry in store.index:
            if entry.ttl_ms and core.deadlines.when(("ttl", entry.id)) is None:
                yield f"{entry.id[2]} of revision {entry.mod_revision} has a lease and no deadline"
    if daemon.commits.put_off > 1:
        yield f"upkeep was put off {daemon.commits.put_off} times in a row when it was overdue"
    yield from _watchers(daemon)
    liveness: Any = core.registry._liveness
    for id, tracked in liveness._tracked.items():
        if not tracked.moving and core.deadlines.when(("session", id)) is None:
            yield f"session {id} is followed and has no deadline"
    yield from _claims(daemon)
    if store.queued == 0:
        letters = sum(1 for entry in store.index if entry.id[0] == "$mail")
        if letters != len(core.post.boxes):
            yield f"{letters} letters are durable, memory knows of {len(core.post.boxes)}"
    for connection in core.conversations:
        conversation: Any = connection
        if conversation.in_flight < 0:
            yield f"a connection has {conversation.in_flight} calls in flight"


def _claims(daemon: Daemon) -> Iterator[str]:
    core = daemon.core
    referee: Any = core.referee
    for held in referee.view:
        known = referee.holding._ends_s(held.claim) is None or referee.holding.is_ending(held.id)
        if not known and core.deadlines.when(("claim", held.id)) is None:
            yield f"claim {held.id} has no deadline"
    for place in referee.granting._places.values():
        for ask in place.queue:
            if ask.is_ready and ask.id not in place.ready and ask.id != place.granting:
                yield f"nothing is in the way of request {ask.id}, and it waits"
            for id in ask.obstacles:
                if place.queue.get(id) is None and referee.view.get(id) is None:
                    yield f"request {ask.id} waits for {id}, which is no more"
        if place.ready and not place.granting:
            yield f"requests of {place.project} are ready, and none is granted"


def _watchers(daemon: Daemon) -> Iterator[str]:
    hub: Any = daemon.core.watches
    reading = 0
    for watchers in hub._by_sink.values():
        for watcher in watchers.values():
            reading += watcher.state == "reading"
            if watcher.state in ("lagging", "snapshot") and not watcher.sink._starved:
                yield f"watch {watcher.id} is {watcher.state} and its connection is not full"
            if watcher.state == "waiting" and watcher not in hub._waiting:
                yield f"watch {watcher.id} waits for a page and is in no queue"
            behind = watcher.reported + 1 < daemon.store.compact_revision
            if watcher.state == "live" and behind and not watcher.sink._starved:
                yield f"watch {watcher.id} has last heard of {watcher.reported}, which the log window has passed"
    if reading > hub._reads:
        yield f"{reading} watches wait for a page, {hub._reads} pages are being read"
    if hub._waiting and not hub._reads and not hub._store._reading:  # else a place in the read queue is waited for
        yield f"{len(hub._waiting)} watches wait for their turn, and nothing is being read"


def leaks(daemon: Daemon) -> list[str]:
    """What is left of clients that are long gone."""
    core, store = daemon.core, daemon.store
    registry: Any = core.registry
    hub: Any = core.watches
    memory: Any = store
    claims: Any = core.referee
    post: Any = core.post
    counts = {
        "conversations": len(core.conversations),
        "watches": len(hub),
        "snapshots being sent": len(store.snapshots),
        "catch-up reads": hub._reads + len(hub._waiting),
        "batches in the queue": store.queued,
        "reads in the queue": memory._reading,
        "live sessions": registry.live_count,
        "followed sessions": len(registry._liveness._tracked),
        "registrations under way": len(registry._opening),
        "sweeps under way": len(registry._sweeping),
        "turns": len(core.turns),
        "claims": len(core.referee.view),
        "requests for claims": len(claims.granting._pending) + len(claims.granting._places),
        "targets of claims": len(claims.granting._targets),
        "times of claims": len(claims.holding._standing) + len(claims.holding._heard_s) + len(claims.holding._ending),
        "letters on their way": len(post.boxes._coming) + len(post._handing) + len(post._following),
        "deadlines": len(core.deadlines),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]
