"""hook: an event of an AI client, read here, followed in `server.hooking`.

Rule: a payload that cannot be read is an error like any other; the hook shows it as a note, and the client goes on.
"""

from __future__ import annotations

from typing import Final

from cosession.errors import InvalidRequest
from cosession.messages import hooks as messages
from cosessiond.hooks.clients import client_of
from cosessiond.hooks.event import payload_of
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.hooking import Hooked
from cosessiond.server.table import Access, Row


def hook(core: Core, call: Call, request: messages.Hook) -> None:
    """Read the event and follow it."""
    client = client_of(request.client)
    payload = payload_of(request.payload)
    told = payload.get("hook_event_name", request.event)
    if isinstance(told, str) and told != request.event:
        raise InvalidRequest(
            f"cannot take the event: the hook was called for {request.event[:40]!r}, the client says {told[:40]!r}; "
            "mend the hook's settings"
        )
    event = client.parse(request.event, payload)
    Hooked(core, call, request, client, event).go()


ROWS: Final = (Row(messages.Hook, Access.READ, hook),)
