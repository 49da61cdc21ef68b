"""Oracles over turns: one at a time, in the order of asking, over as soon as it may be, and in nobody's way.

They go by the moments at which the daemon took calls and answered them, which no network delays.

Rule: pure functions from a history to sentences about what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

from cosession.errors import CosessionError
from cosession.messages.limits import COMMIT_QUEUE_MAX, TURN_S
from cosession.messages.past import Purge, Revert
from cosession.messages.store import Txn
from cosession.messages.turns import Turn, TurnReply
from simulation.history import Call, History, Moment
from simulation.model import Model, WriteRequest

#: How late a timer of the daemon may be: as late as the scheduler makes it, twice.
LATE_S: Final = 0.5
Key = tuple[int, str, str, str]  # life, space, project, key


class End(NamedTuple):
    """Between which moments a turn ends, and by what."""

    first: Moment
    last: Moment
    why: str


class _Key:
    """What happened to the turns of one key in one life."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.granted: list[Call] = []
        self.ending: list[tuple[int, End]] = []  # by connection: what ends a turn, if it has one


def turns(history: History, model: Model) -> Iterator[str]:
    """Nobody has the turn of a key while another has; a write of that key by who has it, its giving it back, its
    leaving, and 1 s end it at once; then it is the turn of who asked first.
    """
    del model
    for (life, _, _, name), key in _keys(history).items():
        ended_s = history.lives[life - 1].ended_s or inf
        granted = sorted(key.granted, key=_told)
        for index, call in enumerate(granted):
            following = granted[index + 1] if index + 1 < len(granted) else None
            end = _end(history, key, call)
            until_s = following.told.s if following and following.told else ended_s
            for sentence in _passed_on(history, key, end, following, until_s):
                yield f"the turn of {name} that call {call.number} of {call.client} got: {sentence}"


def _passed_on(history: History, key: _Key, end: End, following: Call | None, until_s: float) -> Iterator[str]:
    if following is not None and _told(following) < end.first:
        yield f"call {following.number} of {following.client} got it {end.first.s - _told(following).s:.3f} s too early"
        return
    if following is not None:  # by then it had ended
        end = end._replace(last=min(end.last, _told(following)))
    waiting = [call for call in key.asked if _waits(history, call, end)]
    if not waiting:
        return
    first = min(waiting, key=lambda call: call.taken or end.last)
    if until_s > end.last.s + 1e-6:
        yield f"{end.why} ended it, call {first.number} of {first.client} waited {until_s - end.last.s:.3f} s longer"
    elif following is not None and following is not first:
        yield f"call {first.number} of {first.client} asked before call {following.number} of {following.client}"


def _waits(history: History, call: Call, end: End) -> bool:
    """Whether this call waits for certain when the turn ends."""
    closed = history.connections[call.connection].closed
    still = call.told is None or call.told > end.last or (isinstance(call.outcome, TurnReply) and call.outcome.granted)
    if not still or call.taken is None or call.taken > end.first or (call.told and call.told <= end.first):
        return False
    return closed is None or closed > end.last


def _end(history: History, key: _Key, call: Call) -> End:
    """How the turn that `call` got ends."""
    granted = _told(call)
    due_s = granted.s + TURN_S
    ends = [End(Moment(due_s - 1e-6, 0), Moment(due_s + LATE_S, 0), "its time")]
    closed = history.connections[call.connection].closed
    if closed is not None:
        ends.append(End(closed, closed, "the end of its connection"))
    ends += [end for connection, end in key.ending if connection == call.connection and end.last > granted]
    certain = [end for end in ends if end.first > granted]  # else it may have ended the turn before
    return End(
        max(granted, min(end.first for end in ends)),
        min(end.last for end in certain),
        min(certain, key=lambda end: end.last).why,
    )


def _told(call: Call) -> Moment:
    assert call.told is not None
    return call.told


def _keys(history: History) -> dict[Key, _Key]:
    found: dict[Key, _Key] = {}
    for call in history.calls:
        if call.taken is None or call.connection not in history.connections:
            continue
        life, request = history.connections[call.connection].life, call.request
        if isinstance(request, Turn) and not request.give_back:
            key = found.setdefault((life, request.space, request.project, request.key), _Key())
            key.asked.append(call)
            if isinstance(call.outcome, TurnReply) and call.outcome.granted:
                key.granted.append(call)
    for call in history.calls:
        if call.taken is not None and call.connection in history.connections:
            for key in _named(history, call):
                if key in found:
                    found[key].ending.append((call.connection, _ends(call)))
    return found


def _named(history: History, call: Call) -> list[Key]:
    """The keys whose turn this call ends."""
    life, request = history.connections[call.connection].life, call.request
    if isinstance(request, Turn):
        return [(life, request.space, request.project, request.key)] if request.give_back else []
    if not isinstance(request, WriteRequest) or isinstance(request, Revert | Purge):
        return []
    parts = (*request.then, *request.otherwise) if isinstance(request, Txn) else (request,)
    return [(life, request.space, request.project, part.key) for part in parts]


def _ends(call: Call) -> End:
    """What is refused at admission ends the turn before it is answered, when it was asked whether it is a repeat, and
    that may be the answer; what was never answered may have been.
    """
    assert call.taken is not None
    if call.told is None:
        return End(call.taken, Moment(inf, 0), "a write without an answer")
    told = call.told
    outcome = call.outcome
    refused = outcome.code != "conflict" if isinstance(outcome, CosessionError) else getattr(outcome, "repeated", False)
    given_back = isinstance(call.request, Turn)
    first, last = call.taken if refused or given_back else told, call.taken if given_back else told
    return End(first, last, type(call.request).__name__)


def unhindered(history: History, model: Model) -> Iterator[str]:
    """A write waits for nothing but the queue: it is in there the moment it is taken, whoever has a turn; and it is
    told `overloaded` by a full queue alone.
    """
    del model
    for call in history.calls:
        request, outcome = call.request, call.outcome
        if call.taken is None or not isinstance(request, WriteRequest) or isinstance(request, Revert | Purge):
            continue
        if request.session or getattr(request, "ephemeral", False):
            continue  # guarded by its session, and decided again when that changes
        who = f"call {call.number} of {call.client} ({type(request).__name__})"
        if isinstance(outcome, CosessionError):
            if outcome.code == "overloaded" and history.knobs.commit_queue >= COMMIT_QUEUE_MAX:
                yield f"{who} was refused: {outcome.message}"
            continue
        revision = _revision(outcome)
        if revision and not getattr(outcome, "repeated", False):
            late_s = history.rows[revision - 1].submitted_s - call.taken.s
            if late_s > 1e-6:
                yield f"{who} was taken {late_s:.3f} s before it was in the queue"


def _revision(reply: object) -> int:
    written = getattr(reply, "written", None)
    revision: int = getattr(reply, "txn_revision", 0) or getattr(written, "mod_revision", 0)
    return revision
