"""Oracles over what ends by time or with its session: never early, never forgotten, never half.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import msgpack

from cosession.messages.sessions import Heartbeat, Register
from cosession.model import LIVE_STATES, TERMINAL_STATES, Session
from cosessiond.store.engine import Add, Append, EntryId, Merge
from simulation.history import History, Row
from simulation.model import Model, Standing

SESSIONS: Final = "$sessions"
#: How long an end may take after its time while the daemon lives: stalls of the disk, one refusal and its retry.
LATE_S: Final = 4.0
_decode_session = msgpack.Decoder(Session).decode


def leases(history: History, model: Model) -> Iterator[str]:
    """A TTL entry ends not before its time after its last put was published (or its daemon started), by an expiry of
    its own, and soon after that.
    """
    for row in history.rows:
        if row.outcome.origin.operation != "expire":
            continue
        for change in row.outcome.changes:
            before = model.at(change.id, row.revision - 1)
            if before is None or not before.ttl_ms or change.kind != "expire":
                yield f"revision {row.revision} expired {change.id[2]}, which had no lease"
                continue
            due_s = _began_s(history, before.mod_revision, row) + before.ttl_ms / 1000
            if row.submitted_s < due_s - 1e-6:
                yield (
                    f"revision {row.revision} expired {change.id[2]} of revision {before.mod_revision} "
                    f"{due_s - row.submitted_s:.3f} s before its time"
                )
    for id in sorted(model.versions):
        yield from _overdue(history, id, model.versions[id])


def _began_s(history: History, revision: int, row: Row) -> float:
    """When the lease of `revision` began for the daemon that wrote `row`."""
    put = history.rows[revision - 1]
    life = history.lives[row.life - 1]
    if put.life == row.life and put.published_s is not None:
        return put.published_s
    return life.started_s


def _overdue(history: History, id: EntryId, versions: list[Standing]) -> Iterator[str]:
    end_s = _end_s(history)
    late_s = _late_s(history)
    for index, standing in enumerate(versions):
        if not standing.ttl_ms or standing.kind != "put":
            continue
        following = versions[index + 1] if index + 1 < len(versions) else None
        until_s = history.rows[following.mod_revision - 1].applied_s if following else end_s
        put = history.rows[standing.mod_revision - 1]
        for life in history.lives[put.life - 1 :]:
            began_s = life.started_s if life.number > put.life else put.published_s
            stop_s = min(until_s, life.ended_s or end_s)
            if began_s is not None and stop_s - began_s > standing.ttl_ms / 1000 + late_s:
                stood = f"{id[2]} of revision {standing.mod_revision} stood {stop_s - began_s:.1f} s"
                yield f"{stood}, {standing.ttl_ms} ms were asked for"


def _end_s(history: History) -> float:
    """Until when ends are waited for: clients are at rest from then on, and soon gone."""
    return history.lives[-1].ended_s or (history.quiet_from_s + 8.0 if history.quiet else 0.0)


def _late_s(history: History) -> float:
    """What cannot be committed is tried again every second, for as long as luck will have it."""
    return LATE_S + (16.0 if "disk_full" in history.knobs.faults else 0.0)


def ephemerals(history: History, model: Model) -> Iterator[str]:
    """What is ephemeral ends with its session, in the same revision, and none is written for one that has ended."""
    owned: dict[str, set[EntryId]] = {}
    live: dict[str, bool] = {}
    for row in history.rows:
        ending: list[str] = []
        writes = (*row.batch.then, *row.batch.otherwise)
        for change in row.outcome.changes:
            before = model.at(change.id, row.revision - 1)
            if before is not None and before.owner:
                owned[before.owner].discard(change.id)
            if change.owner:
                owned.setdefault(change.owner, set()).add(change.id)
                kept = any(isinstance(write, Merge | Add | Append) for write in writes if write.id == change.id)
                if not live.get(change.owner) and not kept:
                    yield f"revision {row.revision} wrote {change.id[2]} for session {change.owner}, which had ended"
            if change.id[0] == SESSIONS:
                now = change.kind == "put" and _decode_session(change.value).state in LIVE_STATES
                if live.get(change.id[2]) and not now:
                    ending.append(change.id[2])
                live[change.id[2]] = now
        for id in ending:
            left = sorted(each[2] for each in owned.get(id, ()))
            if left:
                yield f"revision {row.revision} ended session {id}, its {left} stood on"


def sessions(history: History, model: Model) -> Iterator[str]:
    """Ended is ended until somebody registers; nobody is taken for dead, lost or suspect who was not; the dead are
    noticed.
    """
    heard = _heard(history)
    for row in history.rows:
        for change in row.outcome.changes:
            if change.id[0] != SESSIONS:
                continue
            standing = model.at(change.id, row.revision - 1)
            old = _decode_session(standing.value) if standing else None
            operation = row.outcome.origin.operation
            if not operation.startswith("session."):
                yield f"revision {row.revision} changed session {change.id[2]} by {operation}"
            if change.kind != "put":
                if old is not None and old.state in LIVE_STATES:
                    yield f"revision {row.revision} removed session {change.id[2]}, which was {old.state}"
                continue
            new = _decode_session(change.value)
            if old is not None and old.state in TERMINAL_STATES and operation != "session.register":
                yield f"revision {row.revision} moved session {new.id} from {old.state} to {new.state}"
            if old is not None and old.state in LIVE_STATES:
                yield from _judged(history, row, old, new, heard)


def noticed(history: History, model: Model) -> Iterator[str]:
    """A session whose processes are all dead ends within the time of a poll."""
    end_s, late_s = _end_s(history), _late_s(history)
    for id in sorted(model.versions):
        versions = model.versions[id] if id[0] == SESSIONS else []
        for index, standing in enumerate(versions):
            if standing.kind != "put":
                continue
            session = _decode_session(standing.value)
            deaths = [history.died_s.get((i.pid, i.start_time)) for i in session.instances if i.judgeable]
            if session.state in TERMINAL_STATES or None in deaths or len(deaths) < len(session.instances):
                continue
            following = versions[index + 1].mod_revision if index + 1 < len(versions) else 0
            until_s = history.rows[following - 1].applied_s if following else end_s
            since_s = max([history.rows[standing.mod_revision - 1].applied_s, *(each for each in deaths if each)])
            for life in history.lives:
                stood_s = min(until_s, life.ended_s or end_s) - max(since_s, life.started_s)
                if stood_s > late_s:
                    yield f"session {session.id} stood {stood_s:.1f} s after its processes had died"


def _judged(
    history: History, row: Row, old: Session, new: Session, heard: dict[str, list[tuple[float, float]]]
) -> Iterator[str]:
    if new.state == "crashed":
        for instance in old.instances:
            died_s = history.died_s.get((instance.pid, instance.start_time))
            if instance.judgeable and (died_s is None or died_s > row.submitted_s):
                yield f"revision {row.revision} took session {old.id} for crashed, process {instance.pid} lived"
    silence_s = {"suspect": 3 * old.heartbeat_s, "lost": history.knobs.policy().lost_after_s}.get(new.state, 0.0)
    if new.state == old.state or not silence_s:
        return
    last_s = max((sent for sent, answered in heard.get(old.id, ()) if answered <= row.submitted_s), default=None)
    if last_s is not None and row.submitted_s - last_s < silence_s - 1e-6:
        yield (
            f"revision {row.revision} took session {old.id} for {new.state} {row.submitted_s - last_s:.3f} s after a "
            f"sign of life was sent, {silence_s} s are promised"
        )


def _heard(history: History) -> dict[str, list[tuple[float, float]]]:
    """Signs of life by session: when they were sent and answered."""
    found: dict[str, list[tuple[float, float]]] = {}
    for call in history.calls:
        if call.status == "replied" and isinstance(call.request, Heartbeat):
            found.setdefault(call.request.session, []).append((call.sent_s, call.answered_s))
        elif call.status == "replied" and isinstance(call.request, Register):
            found.setdefault(call.request.id, []).append((call.sent_s, call.answered_s))
    return found
