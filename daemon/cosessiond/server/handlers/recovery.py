"""session.recover: from a request to the recoverer and back.

Rule: here a request is tied to the session that takes over; what is taken over is decided below.
"""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError, NotAllowed
from cosession.messages import recovery as messages
from cosession.messages.limits import CHECKPOINT_BYTES_MAX
from cosessiond.recovery.recoverer import Asked
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row


def recover(core: Core, call: Call, request: messages.Recover) -> None:
    """What there is to take over, or all of it taken over."""
    dead = core.registry.find(request.session)
    by = ""
    if not request.plan:
        by = admission.acting_session(core, call, request.by)
        if not by:
            raise NotAllowed(
                f"cannot recover session {dead.id} for nobody: register a session first, or name one of yours; "
                "what there is to recover: --plan"
            )
    call.reserve(CHECKPOINT_BYTES_MAX)

    def done(outcome: messages.RecoverReply | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
        else:
            call.reply(outcome)

    core.recoverer.recover(Asked(dead=dead.id, by=by, ephemeral=request.ephemeral), done)


ROWS: Final = (Row(messages.Recover, Access.WRITE, recover),)
