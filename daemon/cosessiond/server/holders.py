"""What the claims may know of the sessions: who lives, who is who, and the compare that says so to the disk.

Rule: claims and sessions never import one another; this is the one place that knows both.
"""

from __future__ import annotations

from cosessiond.claims.ports import Holder
from cosessiond.sessions.records import as_read
from cosessiond.sessions.registry import Registry
from cosessiond.store.engine import Compare


class Holders:
    """The sessions of a registry, as claims see them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_live(self, id: str) -> bool:
        """Whether the session has not ended."""
        return self._registry.view.live(id) is not None

    def guard(self, id: str) -> Compare:
        """The compare that the session lives as it does now. Raises not_found and session_ended."""
        self._registry.require_live(id)
        return as_read(id, self._registry.view.get(id))

    def holder(self, id: str) -> Holder:
        """What is known of a session."""
        held = self._registry.view.get(id)
        if held is None:
            return Holder()
        session = held.session
        return Holder(session.name, session.agent, session.state, session.replaced_by)
