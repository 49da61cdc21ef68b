"""A write on its way: decided, submitted, decided again when one of the daemon's own guards failed, and answered.

Rule: a refusal says "certainly no effect" (P2). So a write with a request id is refused only after the engine was asked
whether it is the repeat of one that was committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from cosession.errors import CosessionError, Overloaded
from cosession.messages import Reply
from cosession.messages import store as messages
from cosession.messages.limits import DECIDE_ATTEMPTS_MAX
from cosession.model import GLOBAL
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.store.engine import (
    Batch,
    Committed,
    Compare,
    Conflicted,
    Entry,
    EntryCompare,
    EntryId,
    Outcome,
    Refused,
)
from cosessiond.store.public import public_entry
from cosessiond.store.revisions import conflict_of

#: A batch and how many of its first compares are the daemon's own guards, whose failure means: decide again.
Decided = tuple[Batch, int]


def commit(
    core: Core,
    call: Call,
    request: admission.WriteRequest,
    decide: Callable[[], Decided],
    answer: Callable[[Committed], Reply],
) -> None:
    """Submit what `decide` says, again when one of its guards failed; answer the outcome."""
    _Proposal(core, call, request, decide, answer).attempt()


class _Proposal:
    """One write. An object and no nest of closures that know each other: those would keep the value of every write
    in memory until the collector comes round.
    """

    __slots__ = ("_answer", "_call", "_compares", "_core", "_decide", "_guards", "_left", "_request")

    def __init__(
        self,
        core: Core,
        call: Call,
        request: admission.WriteRequest,
        decide: Callable[[], Decided],
        answer: Callable[[Committed], Reply],
    ) -> None:
        self._core = core
        self._call = call
        self._request = request
        self._decide = decide
        self._answer = answer
        self._compares: tuple[Compare, ...] = ()
        self._guards = 0
        self._left = DECIDE_ATTEMPTS_MAX

    def attempt(self) -> None:
        """Decide and submit."""
        call = self._call
        try:
            batch, self._guards = self._decide()
            self._compares = batch.compares
            if self._left == DECIDE_ATTEMPTS_MAX:
                call.reserve(_conflict_bytes(self._core, batch))
            self._core.store.submit(batch, self._settle)
            if self._guards:
                call.conversation.hold()
        except CosessionError as error:
            self._refuse(error)

    def _settle(self, outcome: Outcome) -> None:
        call = self._call
        if self._guards:
            call.conversation.release()
        self._left -= 1
        if isinstance(outcome, Committed):
            call.reply(self._answer(outcome))
            if self._core.conflicts.pending:
                written = [*self._named(), *(change.id for change in outcome.changes)]
                self._core.conflicts.wrote(call.conversation, written)
        elif isinstance(outcome, Refused):
            call.fail(CosessionError(outcome.message, code=outcome.code))
        elif outcome.compare >= self._guards:
            call.fail(_conflict(outcome, self._guards))
            self._core.conflicts.met(call.conversation, _in_the_way(outcome, self._compares[outcome.compare]))
        elif self._left > 0:
            self.attempt()
            return
        else:
            call.fail(Overloaded("cannot write: the session kept changing meanwhile; try again in a moment"))
        self._end_turns()

    def _named(self) -> list[EntryId]:
        """The entries that the request writes by name."""
        request = self._request
        if isinstance(request, messages.Txn):
            keys = [write.key for write in (*request.then, *request.otherwise)]
        else:
            keys = [request.key]
        return [(request.space, request.project, key) for key in keys]

    def _end_turns(self) -> None:
        """The write has its outcome: the turn that its sender may have had for it is over."""
        if self._core.turns:
            self._core.turns.wrote(self._call.conversation, self._named())

    def _refuse(self, error: CosessionError) -> None:
        self._end_turns()
        refuse_unless_committed(self._core, self._call, self._request, error, self._answer)


def refuse_unless_committed(
    core: Core,
    call: Call,
    request: admission.OnceRequest,
    refusal: CosessionError,
    answer: Callable[[Committed], Reply],
) -> None:
    """Refuse a write, unless it is the repeat of one that was committed when sessions, limits or the configuration
    still let it.

    A refusal says "certainly no effect" (P2). Where the queue is too full to ask, that is the answer, and says nothing
    of the first.
    """

    def settle(outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            call.reply(answer(outcome))
        elif isinstance(outcome, Refused):
            call.fail(CosessionError(outcome.message, code=outcome.code))
        else:
            call.fail(refusal)

    if not request.request_id:
        call.fail(refusal)
        return
    try:
        ask_for_repeat(core, request, settle)
    except CosessionError as why:  # the request id is none, or the queue is full
        call.fail(why)


def ask_for_repeat(core: Core, request: admission.OnceRequest, done: Callable[[Outcome], None]) -> None:
    """Ask whether a write was committed under its request id: the outcome is that of the first time, or a conflict.

    Only the engine knows the request ids: it is asked with a batch whose compare cannot hold. Raises CosessionError.
    """
    never = EntryCompare(("context", GLOBAL, ""), "version", -1)
    core.store.submit(core.store.batch(admission.anonymous_origin(core, request), [never], []), done, asks=True)


def _conflict(outcome: Conflicted, guards: int) -> CosessionError:
    shifted = structs.replace(outcome, compare=outcome.compare - guards)
    return conflict_of(shifted, _public)


def _in_the_way(outcome: Conflicted, compare: Compare) -> EntryId:
    """The entry that a conflict is about; of a range that failed, the one that is newer."""
    if outcome.current is not None:
        return outcome.current.id
    assert isinstance(compare, EntryCompare), "a range fails by an entry that is there"
    return compare.id


def _conflict_bytes(core: Core, batch: Batch) -> int:
    """About what the answer holds if a compare fails: the entry that stands."""
    most = 0
    for compare in batch.compares:
        if isinstance(compare, EntryCompare):
            entry = core.store.get(compare.id)
            most = max(most, len(entry.value) if entry else 0)
        else:
            most = core.limits.value_bytes_max
    return most


def _public(entry: Entry | None) -> Any:
    return public_entry(entry) if entry is not None else None
