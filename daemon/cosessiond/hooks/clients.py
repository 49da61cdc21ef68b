"""The clients whose hooks are understood, by the name that a hook is called with.

Rule: a client that is not here is read as Claude Code is, whose form most others took over; it is told apart by its
own name as the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

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
    """The client that goes by this name."""
    return CLIENTS.get(name) or Client(name[:64], claude.parse, claude.render)
