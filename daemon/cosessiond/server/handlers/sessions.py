"""session.register, heartbeat, close, list, explain, simulate_crash: from a request to the registry and back.

Rule: here a request is tied to its caller, by the kernel's word or by the session token; what it does is the
registry's.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from msgspec.structs import replace

from cosession.errors import CosessionError, InvalidRequest
from cosession.messages import sessions as messages
from cosession.messages.limits import CHECKPOINT_EVENTS_MAX
from cosession.model import Session
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.sessions.admission import instance_for


def register(core: Core, call: Call, request: messages.Register) -> None:
    """Begin a session, join it or come back to it; the connection acts for it from then on."""
    instance = instance_for(request.pid, call.peer, call.ancestry())
    if not request.session_token:
        request = replace(request, session_token=call.session_token(request.id))

    def done(outcome: Session | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
            return
        call.sessions.add(outcome.id)
        token = core.registry.session_token(outcome.id)
        call.reply(messages.RegisterReply(revision=core.store.revision, session=outcome, session_token=token))

    core.registry.register(request, instance, done, may_replace=partial(_require, core, call, token=""))


def heartbeat(core: Core, call: Call, request: messages.Heartbeat) -> None:
    """A sign of life, answered at once unless it wakes a suspect session."""
    if not 0 <= request.events <= CHECKPOINT_EVENTS_MAX or not 1 <= request.checkpoint_every <= CHECKPOINT_EVENTS_MAX:
        raise InvalidRequest(
            f"cannot count {request.events} events, a checkpoint due after {request.checkpoint_every}: "
            f"up to {CHECKPOINT_EVENTS_MAX} of each; report them as they happen"
        )
    _require(core, call, request.session, token=request.session_token)

    def done(outcome: Session | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
            return
        events = core.checkpoints.counting.add(outcome.id, request.events)
        due = events >= request.checkpoint_every
        call.reply(
            messages.HeartbeatReply(
                revision=core.store.revision, state=outcome.state, events=events, checkpoint_due=due
            )
        )

    core.registry.heartbeat(request.session, done)


def close(core: Core, call: Call, request: messages.Close) -> None:
    """The orderly end of a session."""
    _require(core, call, request.session, token=request.session_token)

    def done(outcome: Session | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
        else:
            call.reply(messages.CloseReply(revision=core.store.revision, session=outcome))

    core.registry.close(request.session, request.reason, done)


def list_(core: Core, _call: Call, request: messages.List) -> messages.ListReply:
    """The sessions, newest first."""
    found = core.registry.list(ended=request.all, project=request.project, limit=request.limit)
    more = len(found) < core.registry.count(ended=request.all, project=request.project)
    return messages.ListReply(revision=core.store.revision, sessions=found, more=more)


def explain(core: Core, _call: Call, request: messages.Explain) -> messages.ExplainReply:
    """Why a session is in its state."""
    found = core.registry.explain(request.session)
    return messages.ExplainReply(
        revision=core.store.revision,
        session=found.session,
        layers=list(found.layers),
        liveness=found.verdict.liveness,
        ending=found.verdict.ending,
        recoverability=found.verdict.recoverability,
        rule=found.rule,
        silent_s=round(found.silent_s, 3),
        cost_ms=round(found.cost_ms, 4),
    )


def simulate_crash(core: Core, call: Call, request: messages.SimulateCrash) -> None:
    """A drill; who asked for it goes into the audit beside the verdict."""

    def done(outcome: Session | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
            return
        caller = call.conversation.caller()
        core.journal.acted("session.simulate_crash", caller=caller, project=outcome.project, subject=outcome.id)
        call.reply(messages.SimulateCrashReply(revision=core.store.revision, session=outcome))

    core.registry.simulate_crash(request.session, done)


def _require(core: Core, call: Call, id: str, *, token: str) -> None:
    """Raises NotAllowed unless the caller may act for session `id`; not_found when there is none."""
    if id not in call.sessions:
        core.registry.require_may_act(call.ancestry(), id, token or call.session_token(id))


ROWS: Final = (
    Row(messages.Register, Access.WRITE, register),
    Row(messages.Heartbeat, Access.READ, heartbeat),
    Row(messages.Close, Access.RELEASE, close),
    Row(messages.List, Access.READ, list_),
    Row(messages.Explain, Access.READ, explain),
    Row(messages.SimulateCrash, Access.WRITE, simulate_crash),
)
