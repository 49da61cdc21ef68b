"""The seeded bugs of claims: each makes one of the things that a claim promises untrue.

Rule: what is wrong is done to the parts of one daemon inside the simulation; no file of it is touched.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from cosession.model import Claim
from cosessiond.claims.records import Held
from cosessiond.store.engine import EntryCompare
from simulation.daemon import Daemon


def blind(daemon: Daemon) -> None:
    """Who asks is compared with those who ask, and not with the claims that stand."""
    granting: Any = daemon.core.referee.granting
    view = granting._view

    class Blind:
        def of_project(self, project: str) -> list[Held]:  # noqa: ARG002
            return []

        def __getattr__(self, name: str) -> Any:
            return getattr(view, name)

    granting._view = Blind()


def of_before(daemon: Daemon) -> None:
    """The token of a claim is the revision before it, which may be another claim's."""
    view = daemon.core.referee.view
    put = view.put
    view.put = lambda held: put(replace(held, claim=replace(held.claim, token=held.claim.token - 1)))  # type: ignore[method-assign]


def hasty(daemon: Daemon) -> None:
    """Claims last nine tenths of their time."""
    holding: Any = daemon.core.referee.holding
    ends_s = holding._ends_s

    def sooner(claim: Claim) -> float | None:
        found: float | None = ends_s(claim)
        return None if found is None else found - claim.ttl_s * 0.1

    holding._ends_s = sooner


def from_memory(daemon: Daemon) -> None:
    """A fence is looked at when the write comes, and not when it is committed."""
    referee: Any = daemon.core.referee
    fence = referee.fence

    def looked_at(token: int, session: str) -> EntryCompare:
        fence(token, session)
        return EntryCompare(("context", "global", "nothing"), "version", 0)

    referee.fence = looked_at


def pushing(daemon: Daemon) -> None:
    """Who asks is compared with the claims that stand, and not with those who wait."""
    granting: Any = daemon.core.referee.granting
    place_of = granting._place

    def place(project: str) -> Any:
        found = place_of(project)
        queue = found.queue
        add = type(queue).add

        def add_in_front(ask: Any, standing: Any) -> None:
            add(queue, ask, standing)
            ask.unseen = [id for id in ask.unseen if queue.get(id) is None]

        queue.add = add_in_front
        return found

    granting._place = place


def sleeping(daemon: Daemon) -> None:
    """Nobody is told when a claim ends."""
    daemon.core.referee.granting.ended = lambda held: None  # type: ignore[method-assign]  # noqa: ARG005
