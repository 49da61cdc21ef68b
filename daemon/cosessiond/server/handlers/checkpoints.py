"""checkpoint.save, list, get: from a request to the keeper and back.

Rule: here a request is tied to the session it acts for, what it says is made safe to keep, and what the session holds
is added; the chain is the keeper's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from cosession.errors import CosessionError, InvalidRequest, NotAllowed
from cosession.messages import checkpoints as messages
from cosession.messages.limits import (
    CHECKPOINT_BYTES_MAX,
    PROJECT_BYTES_MAX,
    RANGE_BYTES_MAX,
    RANGE_ENTRIES_MAX,
    SESSION_ID_BYTES_MAX,
)
from cosession.model import CheckpointSummary, ClaimFact, GitFacts
from cosessiond.checkpoints.content import check_files, content_of
from cosessiond.checkpoints.keeper import Draft, saved_in
from cosessiond.redaction import redacted
from cosessiond.server import admission, proposing
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.sessions.admission import check_text
from cosessiond.store.engine import Committed

#: About what one summary takes in an answer beside its texts.
_SUMMARY_BYTES: Final = 1_024
#: So much of a checkpoint may be the claims that its session holds.
_CLAIMS_BYTES_MAX: Final = 32 * 1024
_ID_BYTES_MAX: Final = SESSION_ID_BYTES_MAX + 27
_decode = msgspec.msgpack.Decoder().decode


def save(core: Core, call: Call, request: messages.Save) -> None:
    """Answered when it is durable; a repeat is answered with the checkpoint of the first time."""
    origin = admission.anonymous_origin(core, request)

    def settle(outcome: Committed | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            proposing.refuse_unless_committed(core, call, request, outcome, answer)
        else:
            call.reply(answer(outcome))

    def answer(outcome: Committed) -> messages.SaveReply:
        return messages.SaveReply(revision=core.store.revision, checkpoint=_summary(core, saved_in(outcome)))

    try:
        draft = _draft(core, call, request)
    except CosessionError as error:
        settle(error)
        return
    instance = f"{call.peer.pid}@{call.peer.start_time}" if call.peer is not None else ""
    core.checkpoints.save(draft, replace(origin, session=draft.session, instance=instance), settle)


def list_(core: Core, _call: Call, request: messages.List) -> messages.ListReply:
    """The checkpoints of a session, of a project, or all, newest first."""
    if not 1 <= request.limit <= RANGE_ENTRIES_MAX:
        raise InvalidRequest(
            f"cannot list {request.limit} checkpoints: the limit is 1 to {RANGE_ENTRIES_MAX}; choose one"
        )
    check_text(request.project, "project", PROJECT_BYTES_MAX)
    session = core.registry.find(request.session).id if request.session else ""
    shelf = core.checkpoints.shelf
    found: list[CheckpointSummary] = []
    left = RANGE_BYTES_MAX
    for each in reversed(shelf.of(session)) if session else shelf.newest_first():
        summary = each.summary
        if request.project and summary.project != request.project:
            continue
        left -= _SUMMARY_BYTES + 4 * (len(summary.task) + len(summary.next_step))
        if len(found) == request.limit or left < 0:
            return messages.ListReply(revision=core.store.revision, checkpoints=found, more=True)
        found.append(summary)
    return messages.ListReply(revision=core.store.revision, checkpoints=found)


def get(core: Core, call: Call, request: messages.Get) -> messages.GetReply:
    """One checkpoint, or the newest of a session that is whole."""
    check_text(request.checkpoint, "checkpoint", _ID_BYTES_MAX)
    if "/" in request.checkpoint:
        checkpoint = core.checkpoints.content(request.checkpoint)
        found = core.checkpoints.judge(checkpoint.session)
        is_newest = found.chosen is not None and found.chosen.id == checkpoint.id
        evidence = found.evidence if is_newest else (f"{checkpoint.id}, number {checkpoint.number}: its hash holds",)
        standing = found.standing if is_newest else "VERIFIED"
    else:
        session = core.registry.find(request.checkpoint)
        found = core.checkpoints.judge(session.id, session.checkpoint)
        checkpoint_or_none = core.checkpoints.content(found.chosen.id) if found.chosen is not None else None
        call.reserve(found.chosen.summary.size_bytes if found.chosen is not None else 0)
        return messages.GetReply(
            revision=core.store.revision,
            checkpoint=checkpoint_or_none,
            standing=found.standing,
            evidence=list(found.evidence),
        )
    call.reserve(CHECKPOINT_BYTES_MAX)
    return messages.GetReply(
        revision=core.store.revision, checkpoint=checkpoint, standing=standing, evidence=list(evidence)
    )


def _draft(core: Core, call: Call, request: messages.Save) -> Draft:
    raw = admission.Allowance(core, bytes_max=CHECKPOINT_BYTES_MAX).admit(bytes(request.state), "state")
    state = redacted(_decode(raw))
    git, hidden = _git(request.git)
    session = admission.acting_session(core, call, request.session)
    if not session:
        raise NotAllowed("cannot save a checkpoint for nobody; register a session first, or name one of yours")
    return Draft(
        session=session,
        content=content_of(state.value),
        git=git,
        claims=_claims(core, session),
        automatic=request.automatic,
        redacted=state.pieces + hidden,
    )


def _git(facts: GitFacts | None) -> tuple[GitFacts | None, int]:
    if facts is None:
        return None, 0
    check_files(facts.dirty, "git")
    found = redacted(msgspec.to_builtins(facts))
    return msgspec.convert(found.value, GitFacts), found.pieces


def _claims(core: Core, session: str) -> tuple[ClaimFact, ...]:
    """What the session holds, as far as it fits."""
    facts: list[ClaimFact] = []
    left = _CLAIMS_BYTES_MAX
    for held in core.referee.view.of_session(session):
        claim = held.claim
        left -= len(claim.worktree) + len(claim.purpose) + sum(len(target.encode()) for target in claim.targets)
        if left < 0:
            break
        facts.append(
            ClaimFact(targets=claim.targets, shared=claim.shared, purpose=claim.purpose, worktree=claim.worktree)
        )
    return tuple(facts)


def _summary(core: Core, id: str) -> CheckpointSummary:
    seen: Any = core.checkpoints.shelf.get(id)
    if seen is None:  # of a repeat, after ten more
        return CheckpointSummary(id=id, session=id.partition("/")[0], damaged="it is no longer kept")
    summary: CheckpointSummary = seen.summary
    return summary


ROWS: Final = (
    Row(messages.Save, Access.WRITE, save),
    Row(messages.List, Access.READ, list_),
    Row(messages.Get, Access.READ, get),
)
