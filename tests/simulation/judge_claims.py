"""Oracles over claims: nobody beside an exclusive holder, tokens that grow, no early end, fences, and who is next.

They read the records of `$claims` as the log has them, and the moments at which the daemon took calls and answered
them. What overlaps is known from what each target names (`claiming.NAMED`), with nothing of the daemon's code.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from msgspec import msgpack

from cosession.errors import CosessionError
from cosession.messages.claims import Acquire, AcquireReply, Renew, RenewReply
from cosession.model import Claim
from simulation.claiming import NAMED
from simulation.history import Call, History, Row
from simulation.knobs import LOCK_DELAY_S
from simulation.model import Model

SPACE: Final = "$claims"
_decode = msgpack.Decoder(Claim).decode


class Change(NamedTuple):
    """One change of one claim: as it was before and is then, None for nothing; its token."""

    row: Row
    id: str
    before: Claim | None
    after: Claim | None
    token: int


def exclusive(history: History, model: Model) -> Iterator[str]:
    """A claim is granted only when no other stands that overlaps it, unless both are shared or of one live session;
    and it changes hands only as a whole.
    """
    del model
    standing: dict[str, Claim] = {}
    for change in _changes(history):
        after = change.after
        if after is None:
            standing.pop(change.id, None)
            continue
        if change.before is None and not after.adopted_from:
            for other in standing.values():
                own = other.session == after.session and other.state == "held"
                if not own and not (other.shared and after.shared) and _overlap(other.targets, after.targets):
                    yield (
                        f"revision {change.row.revision} granted {_shown(after)} to {after.session} beside "
                        f"{_shown(other)} of {other.session} ({other.state})"
                    )
        standing[change.id] = after


def tokens(history: History, model: Model) -> Iterator[str]:
    """Each grant has a larger token than all before, the claim keeps it, and it is what the holder is told."""
    del model
    last, known = 0, {}
    for change in _changes(history):
        if change.before is None:
            if change.token <= last:
                yield f"revision {change.row.revision} granted claim {change.id} with token {change.token} after {last}"
            last = known[change.id] = change.token
        elif change.after is not None and change.token != known[change.id]:
            yield f"revision {change.row.revision} changed the token of claim {change.id} to {change.token}"
    for call in history.calls:
        for claim in _told(call.reply):
            if claim.token != known.get(claim.id):
                yield f"{_name(call)} was told token {claim.token} of a claim that has {known.get(claim.id)}"


def in_time(history: History, model: Model) -> Iterator[str]:
    """A claim ends by time not before its full time after it began or changed hands, was renewed, its session showed
    activity, or the daemon started; an orphan not before the delay.
    """
    del model
    alive = _signs(history)
    changed: dict[str, Row] = {}
    for change in _changes(history):
        before = change.before
        if change.row.outcome.origin.operation == "claim.expire" and before is not None:
            began = changed[change.id]
            since_s = history.lives[change.row.life - 1].started_s
            if began.life == change.row.life and began.published_s is not None:
                since_s = began.published_s
            if before.state == "held":
                until_s = change.row.submitted_s
                names = (before.id,) if before.automatic else (before.id, before.session)
                signs = (s for name in names for life, s in alive.get(name, ()) if life == change.row.life)
                since_s = max([since_s, *(s for s in signs if s < until_s)])
            lasts_s = LOCK_DELAY_S if before.state == "orphaned" else max(before.ttl_s, before.idle_hold_s)
            early_s = since_s + lasts_s - change.row.submitted_s
            if early_s > 1e-6 or (before.hold == "process" and before.state == "held"):
                what = f"claim {change.id} ({before.state})"
                yield f"revision {change.row.revision} ended {what} {early_s:.3f} s too early"
        changed[change.id] = change.row


def fenced(history: History, model: Model) -> Iterator[str]:
    """A write with a fencing token is committed only while that claim stands, held by the session that writes."""
    del model
    fences = {
        call.request.request_id: call.request.fence  # type: ignore[attr-defined]
        for call in history.calls
        if getattr(call.request, "fence", 0)
    }
    standing: dict[int, Claim] = {}
    changes: dict[int, list[Change]] = {}
    for change in _changes(history):
        changes.setdefault(change.row.revision, []).append(change)
    for row in history.rows:
        origin = row.outcome.origin
        token = fences.get(origin.request_id) if origin.request_id else None
        if token is not None:
            claim = standing.get(token)
            if claim is None or claim.state != "held" or claim.session != origin.session:
                yield f"revision {row.revision} of {origin.session} was committed, its fence {token} did not hold"
        for change in changes.get(row.revision, ()):
            if change.after is None:
                standing.pop(change.token, None)
            else:
                standing[change.token] = change.after


def in_line(history: History, model: Model) -> Iterator[str]:
    """Nobody is granted what somebody waits for who asked before."""
    del model
    asked: dict[int, list[Call]] = {}
    for call in history.calls:
        if isinstance(call.request, Acquire) and call.taken is not None and call.connection in history.connections:
            asked.setdefault(history.connections[call.connection].life, []).append(call)
    for calls in asked.values():
        for late in calls:
            if not isinstance(late.outcome, AcquireReply) or late.outcome.renewed:
                continue
            for early in calls:
                if _waited(history, early, late) and _conflict(early.request, late.request):
                    yield f"{_name(late)} was granted what {_name(early)} waited for, which had asked before"


def _waited(history: History, early: Call, late: Call) -> bool:
    """Whether `early` waited from before `late` asked until after that was answered."""
    assert early.taken is not None
    assert late.taken is not None
    assert late.told is not None
    if early.taken >= late.taken or (early.told is not None and early.told <= late.told):
        return False
    if early.told is None and isinstance(early.outcome, CosessionError):
        return False
    closed = history.connections[early.connection].closed
    return closed is None or closed > late.told


def _conflict(early: Any, late: Any) -> bool:
    if early.session == late.session or (early.shared and late.shared):
        return False
    return _overlap(early.targets, late.targets)


def _signs(history: History) -> dict[str, list[tuple[int, float]]]:
    """By claim and by session: in which life and when it was renewed, or a request of it was taken and not refused.

    A repeat is no sure sign: it gets its first outcome also from whoever may act for the session no more.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for call in history.calls:
        if call.taken is None or call.told is None or isinstance(call.outcome, CosessionError):
            continue
        if getattr(call.outcome, "repeated", False):
            continue
        sign = (history.connections[call.connection].life, call.taken.s)
        for claim in _told(call.outcome):
            found.setdefault(claim.id, []).append(sign)
        session = getattr(call.request, "session", "")
        if session and (isinstance(call.request, Acquire | Renew) or getattr(call.request, "fence", 0)):
            found.setdefault(session, []).append(sign)
    return found


def _told(reply: object) -> Iterable[Claim]:
    if isinstance(reply, AcquireReply):
        return (reply.claim,)
    return reply.claims if isinstance(reply, RenewReply) else ()


def _changes(history: History) -> Iterator[Change]:
    standing: dict[str, Claim] = {}
    begun: dict[str, int] = {}
    for row in history.rows:
        for change in row.outcome.changes:
            if change.id[0] != SPACE:
                continue
            id = change.id[2]
            before = standing.pop(id, None)
            after = _decode(change.value) if change.kind == "put" else None
            token = change.create_revision if after is not None else begun.get(id, 0)
            if after is not None:
                standing[id] = after
                begun[id] = token
            yield Change(row, id, before, after, token)


def _overlap(one: Iterable[str], other: Iterable[str]) -> bool:
    return any(NAMED[a] & NAMED[b] for a in one for b in other)


def _shown(claim: Claim) -> str:
    return f"{'shared ' if claim.shared else ''}{', '.join(claim.targets)}"


def _name(call: Call) -> str:
    return f"call {call.number} of {call.client} ({type(call.request).__name__})"
