"""The verb of the hooks: one event of an AI client as it came, and what the client is to print.

Rule: the daemon reads the event and renders the answer, so that a hook parses nothing. What it costs a client to be
asked is the product's price; so one event is one call.
"""

from __future__ import annotations

from typing import ClassVar

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL


class HookReply(Reply, frozen=True, kw_only=True):
    """What the hook is to do: print `output` and exit with `exit_code`; or, with `more`, ask again with what it knows
    of the place. With `note` the output is no text for the client but a note for its user.
    """

    exit_code: int = 0
    output: str = ""
    more: bool = False
    note: bool = False


class Hook(Request[HookReply], frozen=True, kw_only=True):
    """One event. `payload` is what the `client` gave its hook, JSON text of up to 4 MiB, and `event` the name of the
    event as the hook was called with it.

    `facts` says that the fields after it are given: what only the caller's side knows of the place, asked for by `more`
    when the session is not known yet. `too_long` says that the payload was over the limit and is not here.
    """

    method: ClassVar[str] = "hook"
    client: str
    event: str
    payload: str = ""
    facts: bool = False
    project: str = GLOBAL
    worktree: str = ""
    branch: str = ""
    too_long: bool = False
