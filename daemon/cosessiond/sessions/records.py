"""Session records and how they change: pure functions from a record (and a verdict) to the next record and its batch.

A record is one entry of `$sessions` in the project `global`, its key the session id, its value the struct
`cosession.model.Session` as MessagePack. Every batch compares the mod_revision of the record it was decided from, so
two transitions never overwrite each other. The batch that ends a session expires its ephemeral entries too, each
under a compare of its own: an entry that was detached a moment ago must not go with it.

Rule: no memory, no clock, no store; times come in as seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosession.model import GLOBAL, LIVE_STATES, Instance, Session
from cosessiond.sessions.verdict import OVER, Evidence, Policy, judge, spoken
from cosessiond.store.engine import Compare, Delete, Entry, EntryCompare, EntryId, Put, Write

SPACE: Final = "$sessions"
#: So long a crash counts, and so many of them are remembered.
CRASH_COUNTS_S: Final = 3_600.0
CRASHES_KEPT: Final = 8
_decode = msgspec.msgpack.Decoder(Session).decode
_encode = msgspec.msgpack.Encoder().encode

#: What a registration may say anew about a session it joins; "" and 0 keep what stands.
_DETAILS: Final = (
    "name",
    "agent",
    "model",
    "worktree",
    "branch",
    "cwd",
    "host",
    "transcript",
    "heartbeat_s",
    "replaces",
)


class Held(Struct, frozen=True):
    """A record as it is durable, and the revision that wrote it."""

    session: Session
    mod_revision: int


class Plan(Struct, frozen=True):
    """What to write, and the record as it will stand; without writes it stands already."""

    session: Session
    compares: tuple[Compare, ...] = ()
    writes: tuple[Write, ...] = ()
    operation: str = ""


def record_id(session_id: str) -> EntryId:
    """Where the record of a session lives."""
    return (SPACE, GLOBAL, session_id)


def is_live(session: Session) -> bool:
    """Whether the session has not ended."""
    return session.state in LIVE_STATES


def decode(id: EntryId, value: bytes) -> Session:
    """The record in an entry. Raises CosessionError(damaged) when it is none."""
    try:
        return _decode(value)
    except msgspec.DecodeError as error:
        message = (
            f"cannot read the record of session {id[2]}: {error}; put back a copy of the state directory, "
            "or run a newer cosessiond"
        )
        raise CosessionError(message, code="damaged") from error


def put(session: Session) -> Put:
    """The write that keeps a record."""
    return Put(record_id(session.id), _encode(msgspec.to_builtins(session)))


def unchanged(id: EntryId, mod_revision: int) -> EntryCompare:
    """The compare that an entry is still the one that was read (0: absent)."""
    return EntryCompare(id, "mod_revision", mod_revision)


def as_read(session_id: str, held: Held | None) -> EntryCompare:
    """The compare that a record still is as it was read."""
    return unchanged(record_id(session_id), held.mod_revision if held else 0)


def expired(entries: Iterable[Entry]) -> tuple[list[Compare], list[Write]]:
    """What expires these entries unless they changed meanwhile."""
    compares: list[Compare] = []
    writes: list[Write] = []
    for entry in entries:
        compares.append(unchanged(entry.id, entry.mod_revision))
        writes.append(Delete(entry.id, "expire"))
    return compares, writes


def registered(old: Session | None, draft: Session, now_s: float) -> Session:
    """The record after `draft` registers: new, joined by another instance, re-attached, or reopened.

    Equal to `old` when there is nothing to write: a re-attach costs no batch. A reopened session keeps its place in
    time (`registered_at`) and lists only the instance that reopened it: the others ended with it.
    """
    if old is None:
        return replace(draft, registered_at=now_s, changed_at=now_s, reason="registered: by its first instance")
    told = {name: getattr(draft, name) or getattr(old, name) for name in _DETAILS}
    if draft.project != GLOBAL:
        told["project"] = draft.project
    known = set(draft.instances) <= set(old.instances)
    if is_live(old):
        instances = old.instances if known else (*old.instances, *draft.instances)
        reason = "re-attached: by an instance it has" if known else "joined: by another instance"
    else:
        told |= {"heartbeat_s": draft.heartbeat_s, "replaces": draft.replaces}  # promises end with who made them
        instances, reason = draft.instances, f"reopened: it was {old.state}"
    others = set(instances) - set(draft.instances)  # a drill ends them too, so all must allow it
    told["drills"] = draft.drills and (old.drills or not others)
    told |= {"state": "active", "closed_at": 0.0, "replaced_by": "", "recovered_by": "", "drilled": False}
    new = replace(old, **told, instances=instances)
    if new == old:
        return old
    return replace(new, changed_at=now_s, reason=reason, evidence=(), detected_ms=0.0)


def superseded(old: Session, by: str, instance: Instance, now_s: float) -> Session:
    """The record of a session that session `by` of `instance` replaces: ended, or only without that instance while
    another one lives on.
    """
    others = without(old.instances, instance)
    line = f"close: replaced by session {by}"
    if instance in old.instances and others:
        reason = "instance-left: one instance went on with another session"
        return replace(old, instances=others, changed_at=now_s, reason=reason, evidence=(line,))
    return replace(
        old,
        state="superseded",
        replaced_by=by,
        changed_at=now_s,
        reason="superseded: its process went on with another session, which replaced it",
        evidence=(line,),
    )


def closed(old: Session, why: str, now_s: float) -> Session:
    """The record after a graceful close."""
    return replace(
        old,
        state="closed",
        closed_at=now_s,
        changed_at=now_s,
        reason="closed: an explicit close ends a session whether or not its process lives on",
        evidence=(f"close: closed gracefully: {why or 'no reason given'}",),
        detected_ms=0.0,
    )


def moved(
    old: Session, evidence: Evidence, policy: Policy, now_s: float, *, detected_ms: float = 0.0
) -> Session | None:
    """The record that the evidence asks for, None when it stands so already.

    `evidence.processes` follow `old.instances`. While one instance may live, those that are over leave the record;
    an ended record keeps them all, as the trace of what it was.
    """
    verdict = judge(evidence, policy)
    pairs = list(zip(old.instances, evidence.processes, strict=True))
    left = tuple(instance for instance, signal in pairs if signal.kind not in OVER)
    ends = verdict.state not in LIVE_STATES
    if verdict.state == old.state and (ends or left == old.instances):
        return None
    if verdict.state == old.state:
        lines = tuple(f"process: {spoken(s.kind)}: {s.evidence}" for _, s in pairs if s.kind in OVER)
        reason = "instance-over: one instance is over, another lives on"
        return replace(old, instances=left, changed_at=now_s, reason=reason, evidence=lines)
    return replace(
        old,
        state=verdict.state,
        recovered_by="" if ends else old.recovered_by,
        crashes=counted(old.crashes, now_s, crashed=verdict.state == "crashed"),
        instances=old.instances if ends else left,
        changed_at=now_s,
        reason=verdict.rule,
        evidence=verdict.evidence,
        detected_ms=detected_ms if ends else 0.0,
    )


def counted(crashes: Iterable[float], now_s: float, *, crashed: bool = False) -> tuple[float, ...]:
    """The crashes that still count, and one more when it has `crashed` now. One that the wall clock puts into the
    future has happened by now.
    """
    found = [min(when_s, now_s) for when_s in crashes if now_s - when_s < CRASH_COUNTS_S]
    return tuple([*found, now_s] if crashed else found)[-CRASHES_KEPT:]


def without(instances: Iterable[Instance], leaving: Instance) -> tuple[Instance, ...]:
    """`instances` in their order, without the one that leaves."""
    return tuple(instance for instance in instances if instance != leaving)
