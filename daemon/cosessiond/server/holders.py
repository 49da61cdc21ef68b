"""What claims and checkpoints may know of the sessions: who lives, who is who, and the compare that says so.

And what the sessions may know of the checkpoints: layer 3 of the cascade.

Rule: claims, checkpoints and sessions never import one another; this is the one place that knows them.
"""

from __future__ import annotations

from cosession.model import Session
from cosessiond.checkpoints.keeper import Keeper
from cosessiond.checkpoints.ports import Author
from cosessiond.claims.ports import Holder
from cosessiond.clock import Clock, elapsed_ms
from cosessiond.sessions.records import as_read
from cosessiond.sessions.registry import Registry
from cosessiond.sessions.verdict import CheckpointKind, CheckpointSignal
from cosessiond.store.engine import Compare


class Holders:
    """The sessions of a registry, as claims and checkpoints see them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_live(self, id: str) -> bool:
        """Whether the session has not ended."""
        return self._registry.view.live(id) is not None

    def is_known(self, id: str) -> bool:
        """Whether its record is kept."""
        return self._registry.view.get(id) is not None

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
        return Holder(session.name, session.agent, session.state, session.replaced_by, session.recovered_by)

    def author(self, id: str) -> Author:
        """What a checkpoint of a live session is made with. Raises not_found and session_ended."""
        session = self._registry.require_live(id)
        return Author(self.guard(id), session.project, session.checkpoint)


def checkpoint_signal(keeper: Keeper, session: Session, clock: Clock) -> CheckpointSignal:
    """Layer 3: whether there is a checkpoint to go on from."""
    began_s = clock.monotonic()
    found = keeper.judge(session.id, session.checkpoint)
    if found.chosen is not None:
        kind: CheckpointKind = "valid"
    else:
        kind = "damaged" if keeper.shelf.of(session.id) or keeper.shelf.head(session.id) is not None else "none"
    evidence = "; ".join((found.standing, *found.evidence)) if kind != "none" else "no checkpoint is kept"
    return CheckpointSignal(kind, evidence, elapsed_ms(began_s, clock))
