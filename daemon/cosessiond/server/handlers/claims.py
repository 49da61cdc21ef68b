"""claim.acquire, renew, release, list, check, explain: from a request to the referee and back.

Rule: here a request is tied to the session it acts for; what may be claimed is the referee's.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from cosession.errors import CosessionError, InvalidRequest, NotAllowed, TooLarge
from cosession.messages import claims as messages
from cosession.messages.limits import (
    CLAIM_TTL_S_MAX,
    CLAIM_TTL_S_MIN,
    CLAIM_WAIT_S_MAX,
    CLAIMS_SESSION_MAX,
    RANGE_BYTES_MAX,
    RANGE_ENTRIES_MAX,
    SESSION_ID_BYTES_MAX,
)
from cosession.model import Blocker, Claim
from cosessiond.claims.queue import Ask
from cosessiond.claims.records import Held
from cosessiond.claims.refusal import left
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.sessions.admission import check_text

#: About what one claim takes in an answer beside its targets.
_CLAIM_BYTES: Final = 512
#: The longest purpose.
PURPOSE_BYTES_MAX: Final = 512


def acquire(core: Core, call: Call, request: messages.Acquire) -> None:
    """Answered when it is granted, or when it is not to be had within its time."""
    if not 0 <= request.wait_s <= CLAIM_WAIT_S_MAX:
        raise InvalidRequest(f"cannot wait {request.wait_s} s for a claim: 0 to {CLAIM_WAIT_S_MAX:g}; ask again then")
    if not CLAIM_TTL_S_MIN <= request.ttl_s <= CLAIM_TTL_S_MAX:
        allowed = f"{CLAIM_TTL_S_MIN:g} to {CLAIM_TTL_S_MAX:g}"
        raise InvalidRequest(f"cannot claim for {request.ttl_s} s: ttl_s is {allowed} seconds; choose one")
    if not 0 <= request.idle_hold_s <= CLAIM_TTL_S_MAX:
        raise InvalidRequest(
            f"cannot hold for {request.idle_hold_s} s: idle_hold_s is 0 to {CLAIM_TTL_S_MAX:g} seconds"
        )
    check_text(request.purpose, "purpose", PURPOSE_BYTES_MAX)
    session = _somebody(core, call, request.session, "claim")
    wanted = Claim(
        id="",
        session=session,
        project=_project(request.project),
        worktree=request.worktree,
        targets=tuple(request.targets),
        shared=request.shared,
        purpose=request.purpose,
        hold=request.hold,
        automatic=request.automatic,
        ttl_s=request.ttl_s,
        idle_hold_s=request.idle_hold_s,
    )
    renewed = core.referee.same(wanted) is not None
    asked_s = core.clock.monotonic()

    def done(outcome: Held | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
            return
        waited_s = 0.0 if renewed else round(core.clock.monotonic() - asked_s, 3)
        claim = _shown(core, outcome)
        call.reply(messages.AcquireReply(revision=core.store.revision, claim=claim, renewed=renewed, waited_s=waited_s))

    core.referee.acquire(wanted, call.conversation, request.wait_s, done)


def renew(core: Core, call: Call, request: messages.Renew) -> None:
    """The full time again; answered at once unless one of them is about to expire."""
    _check_ids(request.ids)
    if request.session and request.session_token:
        core.registry.require_may_act(call.ancestry(), request.session, request.session_token)
        session = core.registry.require_live(request.session).id
    else:
        session = _somebody(core, call, request.session, "renew claims")

    def done(found: list[Held], lost: list[str]) -> None:
        claims = [_shown(core, held) for held in found]
        call.reply(messages.RenewReply(revision=core.store.revision, claims=claims, lost=lost))

    core.referee.renew(session, request.ids, done)


def release(core: Core, call: Call, request: messages.Release) -> None:
    """Claims given up, or with `force` taken away."""
    _check_ids(request.ids)
    if bool(request.ids) == request.all:
        raise InvalidRequest("cannot release that: name the ids of claims, or say `all`, and not both")
    if request.force and request.all:
        raise InvalidRequest("cannot force the release of all: name the ids of the claims")
    session = admission.acting_session(core, call, request.session)
    if not request.force:
        _require(session, "release claims")
    ids = request.ids or [held.id for held in core.referee.view.of_session(session)]
    forced = [held for held in map(core.referee.view.get, ids) if held is not None and held.claim.session != session]

    def done(outcome: list[str] | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
            return
        for held in forced:
            if held.id in outcome:
                project = held.claim.project
                caller = call.conversation.caller()
                core.journal.acted("claim.release", caller=caller, outcome="forced", project=project, subject=held.id)
        absent = [id for id in dict.fromkeys(ids) if id not in outcome]
        call.reply(messages.ReleaseReply(revision=core.store.revision, released=outcome, absent=absent))

    core.referee.release(session, ids, done, force=request.force)


def list_(core: Core, _call: Call, request: messages.List) -> messages.ListReply:
    """Claims in the order of their grants, then those who wait."""
    if not 1 <= request.limit <= RANGE_ENTRIES_MAX:
        raise InvalidRequest(f"cannot list {request.limit} claims: the limit is 1 to {RANGE_ENTRIES_MAX}; choose one")
    referee = core.referee
    standing: list[Held | Ask] = []
    standing += referee.view.of_project(request.project) if request.project else referee.view
    standing += referee.granting.asks(request.project)
    found: list[messages.ClaimStanding] = []
    left_bytes = RANGE_BYTES_MAX
    for each in standing:
        if request.session not in {"", each.claim.session}:
            continue
        left_bytes -= _CLAIM_BYTES + sum(len(target.encode()) for target in each.claim.targets)
        if len(found) == request.limit or left_bytes < 0:
            return messages.ListReply(revision=core.store.revision, claims=found, more=True)
        found.append(_standing(core, each))
    return messages.ListReply(revision=core.store.revision, claims=found)


def check(core: Core, call: Call, request: messages.Check) -> None:
    """Whether a claim would be granted now."""
    wanted = Claim(
        id="",
        session=admission.acting_session(core, call, request.session),
        project=_project(request.project),
        worktree=request.worktree,
        targets=tuple(request.targets),
        shared=request.shared,
    )

    def done(blockers: list[Blocker], count: int) -> None:
        call.reply(messages.CheckReply(revision=core.store.revision, free=not count, blockers=blockers, count=count))

    core.referee.check(wanted, done)


def explain(core: Core, _call: Call, request: messages.Explain) -> messages.ExplainReply:
    """Why a claim stands, and when it ends."""
    held = core.referee.view.find(request.claim)
    return messages.ExplainReply(
        revision=core.store.revision,
        standing=_standing(core, held),
        lines=_lines(_shown(core, held)),
        waiters=[_standing(core, ask) for ask in core.referee.granting.waiters(held)],
    )


def _lines(claim: Claim) -> list[str]:
    """The rules that hold for a claim, in words."""
    lines = [claim.reason, f"fencing token {claim.token}: a write that carries it is refused once the claim has ended"]
    if claim.state == "orphaned":
        return [*lines, f"freed in {claim.expires_in_s:.0f} s unless whoever recovers its session adopts it"]
    if claim.hold == "process":
        return [*lines, "held by the process: it ends when its session does"]
    if claim.automatic:
        return [*lines, f"automatic: it ends {claim.ttl_s:g} s after the last edit; {left(claim.expires_in_s)}"]
    lasts_s = max(claim.ttl_s, claim.idle_hold_s)
    return [*lines, f"it ends {lasts_s:g} s after the last activity of its session; {left(claim.expires_in_s)}"]


def _standing(core: Core, each: Held | Ask) -> messages.ClaimStanding:
    holder = core.holders.holder(each.claim.session)
    granting = core.referee.granting
    return messages.ClaimStanding(
        claim=each.claim if isinstance(each, Ask) else _shown(core, each),
        name=holder.name,
        agent=holder.agent,
        session_state=holder.state,
        waiting=0 if isinstance(each, Ask) else len(granting.waiters(each)),
        waits_s=round(granting.waits_s(each), 3) if isinstance(each, Ask) else -1.0,
    )


def _shown(core: Core, held: Held) -> Claim:
    return replace(held.claim, expires_in_s=round(core.referee.holding.left_s(held.claim), 3))


def _somebody(core: Core, call: Call, named: str, what: str) -> str:
    return _require(admission.acting_session(core, call, named), what)


def _require(session: str, what: str) -> str:
    if not session:
        raise NotAllowed(f"cannot {what} for nobody; register a session first, or name one of yours")
    return session


def _project(project: str) -> str:
    admission.check_project(project)
    return project


def _check_ids(ids: list[str]) -> None:
    if len(ids) > CLAIMS_SESSION_MAX:
        raise TooLarge(
            f"cannot take {len(ids)} claims at once: the limit is {CLAIMS_SESSION_MAX}; use several calls",
            data={"size": len(ids), "limit": CLAIMS_SESSION_MAX},
        )
    for id in ids:
        check_text(id, "ids", SESSION_ID_BYTES_MAX)


ROWS: Final = (
    Row(messages.Acquire, Access.WRITE, acquire),
    Row(messages.Renew, Access.READ, renew),
    Row(messages.Release, Access.RELEASE, release),
    Row(messages.List, Access.READ, list_),
    Row(messages.Check, Access.READ, check),
    Row(messages.Explain, Access.READ, explain),
)
