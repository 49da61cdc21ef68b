"""The clients whose hooks are understood, by the name that a hook is called with.

Rule: what is not here is refused, and the user told: a wrong name in the settings must not look like a check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cosession.errors import InvalidRequest
from cosessiond.hooks import claude, codex
from cosessiond.hooks.event import Advice, Event


class Client(NamedTuple):
    """How one client speaks."""

    agent: str
    parse: Callable[[str, dict[str, Any]], Event]
    render: Callable[[Event, Advice], str]


CLIENTS: Final[dict[str, Client]] = {
    "claude": Client(claude.AGENT, claude.parse, claude.render),
    "codex": Client(codex.AGENT, codex.parse, codex.render),
}


def client_of(name: str) -> Client:
    """The client that goes by this name. Raises InvalidRequest."""
    if name not in CLIENTS:
        known = " and ".join(CLIENTS)
        raise InvalidRequest(f"cannot read events of {name[:40]!r}: {known} are understood; mend the hook's settings")
    return CLIENTS[name]
