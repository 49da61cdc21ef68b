"""turn: a place in the queue of one key, answered when the caller heads it."""

from __future__ import annotations

from typing import Any, Final

from cosession.errors import CosessionError, InvalidRequest, Overloaded
from cosession.messages import turns as messages
from cosession.messages.limits import HIGH_WATER_BYTES, TURN_WAIT_S_MAX
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.server.turnqueue import Turn
from cosessiond.store.engine import EntryId
from cosessiond.store.public import public_entry


def turn(core: Core, call: Call, request: messages.Turn) -> messages.TurnReply | None:
    """Answered at once when nobody has the turn, else later: with the turn, or when the time to wait is over."""
    id = admission.writable(core, request.space, request.project, request.key)
    if not 0 <= request.wait_s <= TURN_WAIT_S_MAX:
        raise InvalidRequest(f"cannot wait {request.wait_s} s for a turn: 0 to {TURN_WAIT_S_MAX:g}; ask again then")
    if request.give_back:
        core.turns.wrote(call.conversation, (id,))
        return messages.TurnReply(revision=core.store.revision, granted=False, behind=core.turns.behind(id))
    if core.draining:
        raise CosessionError("cannot wait for a turn: the daemon is shutting down", code="shutting_down")
    if core.turns.is_held(id):
        _reserve(core, call, id)

    def done(turn: Turn, outcome: bool | CosessionError) -> None:  # noqa: FBT001  # see `turns.Answer`
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
            return
        entry: Any = core.store.get(id) if outcome else None
        call.reply(
            messages.TurnReply(
                revision=core.store.revision,
                granted=outcome,
                waited=turn.waited,
                behind=core.turns.behind(id),
                entry=public_entry(entry) if entry is not None else None,
            )
        )

    core.turns.ask(id, call.conversation, request.wait_s, done, by_max=call.conversation.turns_max)
    return None


def _reserve(core: Core, call: Call, id: EntryId) -> None:
    """Count what the answer will hold about. Raises Overloaded before the connection is full of that: it would no
    longer be read, and the write that ends a turn may come on it.
    """
    entry = core.store.get(id)
    size = len(entry.value) if entry else 0
    if call.conversation.reserved_bytes + size > HIGH_WATER_BYTES // 2:
        core.metrics.hit("turns")
        raise Overloaded("cannot wait for a turn: too much is waited for on this connection; write without one")
    call.reserve(size)


ROWS: Final = (Row(messages.Turn, Access.READ, turn),)
