"""debug.tail: what has passed since the last call of this connection, now or as soon as there is something.

Rule: each call is answered once; a connection has one that waits, at most.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from cosession.errors import InvalidRequest
from cosession.messages import debug as messages
from cosession.messages.limits import TAIL_FRAMES_MAX, TAIL_WAIT_S_MAX
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row
from cosessiond.server.tails import Filter, Tail


def tail(core: Core, call: Call, request: messages.Tail) -> messages.TailReply | None:
    """Begin, or go on."""
    if not 1 <= request.limit <= TAIL_FRAMES_MAX:
        raise InvalidRequest(f"cannot use limit {request.limit}: 1 to {TAIL_FRAMES_MAX}; ask again for more")
    if not (isfinite(request.wait_s) and 0 <= request.wait_s <= TAIL_WAIT_S_MAX):
        raise InvalidRequest(f"cannot wait {request.wait_s} s: 0 to {TAIL_WAIT_S_MAX}; ask again after that")
    conversation, tails = call.conversation, core.tails
    wanted = Filter(request.client, request.pid, request.methods, request.values)
    tails.woken(conversation)  # an earlier call that still waits
    found = tails.of(conversation)
    began = found is None or found.filter != wanted
    if found is None or began:
        found = tails.open(conversation, wanted)
    tails.asked(conversation)
    if not request.wait_s or core.draining:
        return _answer(core, found, request.limit, began=began)

    def wake() -> None:
        tails.asked(conversation)
        call.reply(_answer(core, found, request.limit, began=began))
        core.flush()

    tails.wait(conversation, wake, core.clock.monotonic() + request.wait_s)
    return None


def _answer(core: Core, found: Tail, frames_max: int, *, began: bool) -> messages.TailReply:
    frames = found.take(frames_max)
    return messages.TailReply(
        revision=core.store.revision,
        began=began,
        frames=frames,
        lost=found.take_lost(),
        more=len(found) > 0,
    )


ROWS: Final = (Row(messages.Tail, Access.ADMIN, tail),)
