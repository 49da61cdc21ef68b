"""What becomes of the claims of a session that was recovered: each goes to who recovered it, ahead of all who wait.

The record of the dead session names its heir (`recovered_by`), and from that batch on nobody else gets what it left.
The claims follow by a batch each: a fencing token is the revision that begins a claim, and no two may share one.

Rule: it follows what is durable, so an adoption that was cut off by an end of the daemon is taken up at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cosession.errors import Claimed, CosessionError
from cosessiond.claims import records
from cosessiond.claims.holding import RETRY_S
from cosessiond.claims.ports import Proposed, Sessions, Store
from cosessiond.claims.records import Held
from cosessiond.claims.view import View
from cosessiond.clock import Clock, Entropy, ulid
from cosessiond.store.engine import Batch
from cosessiond.store.leases import Deadlines

Adopted = Callable[[str | CosessionError], None]


class Adopting:
    """Gives orphaned claims to heirs."""

    def __init__(
        self, store: Store, view: View, *, clock: Clock, entropy: Entropy, deadlines: Deadlines, sessions: Sessions
    ) -> None:
        self._store = store
        self._view = view
        self._clock = clock
        self._entropy = entropy
        self._deadlines = deadlines
        self._sessions = sessions
        self._under_way: set[str] = set()
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def heir(self, session: str) -> str:
        """The live session that recovered this one, "" when there is none."""
        by = self._sessions.holder(session).recovered_by
        return by if by and self._sessions.is_live(by) else ""

    def batch(self, held: Held, session: str, new_id: str = "") -> Batch:
        """What gives an orphaned claim to a live session, with a larger token. Raises session_ended, not_found."""
        new_id = new_id or ulid(self._clock, self._entropy)
        change = records.adopted(held, new_id, session, self._clock.wall_ms() / 1000.0)
        guard = self._sessions.guard(session)
        return self._store.batch(self._store.origin("claim.adopt", session), (guard, *change.compares), change.writes)

    def adopt(self, id: str, session: str, done: Adopted) -> None:
        """Give an orphaned claim to a live session; `done` gets its new id.

        Answers not_found when it is gone, Claimed when it is no orphan any more, session_ended.
        """
        new_id = ulid(self._clock, self._entropy)

        def decide() -> Batch:
            standing = self._view.get(id)
            if standing is None:
                raise CosessionError(f"cannot adopt claim {id}: it stands no longer", code="not_found")
            if standing.claim.state != "orphaned":
                raise Claimed(f"cannot adopt claim {id}: session {standing.claim.session} holds it")
            return self.batch(standing, session, new_id)

        def finished(outcome: Proposed) -> None:
            done(outcome if isinstance(outcome, CosessionError) else new_id)

        self._store.propose(decide, finished)

    def follow(self, session: str) -> None:
        """A session has an heir: give it what is left, and whatever could not be committed again later."""
        heir = self.heir(session)
        for held in self._orphans(session) if heir else ():
            if held.id not in self._under_way:
                self._under_way.add(held.id)
                self.adopt(held.id, heir, partial(self._adopted, session, held.id))
        self._tell(session)

    def wait(self, session: str, then: Callable[[], None]) -> None:
        """Call `then` when nothing that this session left is on its way to its heir."""
        self._waiting.setdefault(session, []).append(then)
        self._tell(session)

    def _adopted(self, session: str, id: str, outcome: str | CosessionError) -> None:
        self._under_way.discard(id)
        if isinstance(outcome, CosessionError) and self._view.get(id) is not None and self.heir(session):
            self._deadlines.after(("adopt", session), RETRY_S, partial(self.follow, session))
        self._tell(session)

    def _tell(self, session: str) -> None:
        if session in self._waiting and not any(held.id in self._under_way for held in self._orphans(session)):
            for then in self._waiting.pop(session):
                then()

    def _orphans(self, session: str) -> list[Held]:
        return [held for held in self._view.of_session(session) if held.claim.state == "orphaned"]
