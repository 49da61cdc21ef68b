"""What follows from the end of a session, and from the end of a claim's time.

The batch that ends a session sees to its claims as well (`belongings`), as far as they fit. What is left, and what a
grant on its way adds, is followed up by batches of their own.

What a session held is released when it closed, passed on when it goes on under another id, else orphaned, and freed
LOCK_DELAY_S later: long enough for whoever recovers it to adopt its claims, and for a paused writer to notice.

Rule: it decides from the view when it is its turn, so a session that came back, or a claim that was renewed, is left
alone; what could not be committed is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cosession.errors import CosessionError
from cosession.messages.limits import BATCH_WRITES_MAX
from cosession.model import Session
from cosessiond.claims import records
from cosessiond.claims.adopting import Adopting
from cosessiond.claims.holding import RETRY_S, Holding
from cosessiond.claims.ports import Proposed, Sessions, Store
from cosessiond.claims.records import Change, Held
from cosessiond.claims.view import View
from cosessiond.clock import Clock
from cosessiond.store.engine import Batch, Compare, Write
from cosessiond.store.leases import Deadlines


class Aftermath:
    """Sees to the claims that nobody holds any more."""

    def __init__(
        self,
        store: Store,
        view: View,
        *,
        clock: Clock,
        deadlines: Deadlines,
        sessions: Sessions,
        adopting: Adopting,
        flush: Callable[[], None],
    ) -> None:
        self._store = store
        self._view = view
        self._clock = clock
        self._deadlines = deadlines
        self._sessions = sessions
        self._adopting = adopting
        self._flush = flush
        self._following: set[str] = set()

    def time_over(self, holding: Holding, id: str) -> None:
        """The time of a claim has passed: end it, unless it is gone or was given to somebody else meanwhile."""

        def decide() -> Batch | None:
            held = self._view.get(id)
            if held is None or not holding.is_over(id):
                return None
            heir = self._adopting.heir(held.claim.session) if held.claim.state == "orphaned" else ""
            if heir:
                return self._adopting.batch(held, heir)
            return self._batch("claim.expire", records.expired(held))

        def finished(outcome: Proposed) -> None:
            if isinstance(outcome, CosessionError) and self._view.get(id) is not None:
                holding.retry(id)
            else:
                holding.settled(id)
            self._flush()

        self._store.propose(decide, finished)

    def belongings(self, session: Session, writes_max: int) -> tuple[list[Compare], list[Write]]:
        """What becomes of its claims when the record of a session becomes this one."""
        held = self._left_by(session.id, writes_max)
        if not held:
            return [], []
        replaced_by = session.replaced_by if session.state == "superseded" else ""
        _, change = self._consequence(session.id, session.state, replaced_by, held)
        return list(change.compares), list(change.writes)

    def session_over(self, session: str) -> None:
        """A session has ended: see to what it held, until nothing is left of it."""
        if session in self._following:
            return
        self._following.add(session)

        def decide() -> Batch | None:
            held = self._left_by(session, BATCH_WRITES_MAX)
            if not held or self._sessions.is_live(session):
                return None
            holder = self._sessions.holder(session)
            replaced_by = holder.replaced_by if self._sessions.is_live(holder.replaced_by) else ""
            return self._batch(*self._consequence(session, holder.state, replaced_by, held))

        def finished(outcome: Proposed) -> None:
            self._following.discard(session)
            if isinstance(outcome, CosessionError):
                self._deadlines.after(("claims of", session), RETRY_S, partial(self.session_over, session))
            elif outcome is not None:
                self.session_over(session)  # not all may have fitted, and a grant may have been on its way

        self._store.propose(decide, finished)

    def _left_by(self, session: str, writes_max: int) -> list[Held]:
        """The claims that it holds, as many as fit into one batch."""
        held = [each for each in self._view.of_session(session) if each.claim.state == "held"]
        return records.fitting(held, writes_max)

    def _consequence(self, session: str, state: str, replaced_by: str, held: list[Held]) -> tuple[str, Change]:
        if state == "closed":
            return "claim.release", records.released(held)
        if state == "superseded" and replaced_by:
            why = f"passed on: session {session} goes on as {replaced_by}"
            return "claim.pass_on", records.passed_on(held, replaced_by, why)
        why = f"orphaned: its session {state or 'is not known'}"
        return "claim.orphan", records.orphaned(held, why, self._clock.wall_ms() / 1000.0)

    def _batch(self, operation: str, change: Change) -> Batch:
        return self._store.batch(self._store.origin(operation), change.compares, change.writes)
