"""How long a claim lasts: until so long after the last activity of its session, on the monotonic clock.

Activity only notes the moment, once for all claims of a session: a claim's deadline is worked out anew when it comes
up. So whatever happened, a claim may last longer, never end early; and after a start each has its full time again (P8).
A claim whose end is on its way to the disk, by time or by a release, is `ending` until that is durable or has failed: a
renewal waits for it, and nobody is told that it stands.

Rule: knows claims by id and moments by number; what follows from a deadline is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cosession.model import Claim
from cosessiond.clock import Clock
from cosessiond.store.leases import Deadlines

#: How long the claims of a crashed session stand for nobody, so that a paused writer can notice.
LOCK_DELAY_S: Final = 15.0
#: How long an end waits that could not be committed (disk full, queue full).
RETRY_S: Final = 1.0
#: A deadline that comes up a rounding error early must not come up again at the same moment.
STEP_S: Final = 0.001

Then = Callable[[], None]


class Holding:
    """The time of all claims. `over` is told when the time of a claim has passed."""

    def __init__(self, clock: Clock, deadlines: Deadlines, over: Callable[[str], None]) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._over = over
        self._standing: dict[str, Claim] = {}
        self._heard_s: dict[str, float] = {}  # of sessions
        self._renewed_s: dict[str, float] = {}  # of claims
        self._ending: dict[str, list[Then]] = {}

    def begin(self, claim: Claim) -> None:
        """A claim stands now, or its record changed: it has its full time."""
        self._standing[claim.id] = claim
        self._renewed_s[claim.id] = self._clock.monotonic()
        self._heard_s.setdefault(claim.session, self._clock.monotonic())
        self._arm(claim)

    def end(self, id: str) -> None:
        """A claim stands no more; who waited for the outcome of its end is told."""
        self._standing.pop(id, None)
        self._renewed_s.pop(id, None)
        self._deadlines.cancel(("claim", id))
        self.settled(id)

    def heard(self, session: str) -> None:
        """A session has shown activity; one without claims is not kept in mind."""
        if session in self._heard_s:
            self._heard_s[session] = self._clock.monotonic()

    def forget(self, session: str) -> None:
        """A session has no claims any more."""
        self._heard_s.pop(session, None)

    def renew(self, id: str, then: Then) -> None:
        """Give a claim its full time again if it stands, then call `then`; when it is ending, after the outcome."""
        waiting = self._ending.get(id)
        if waiting is not None:
            waiting.append(lambda: self.renew(id, then))
            return
        claim = self._standing.get(id)
        if claim is not None and claim.state == "held":
            self._renewed_s[id] = self._clock.monotonic()
            self._arm(claim)
        then()

    def begin_ending(self, id: str) -> bool:
        """Its end is submitted now. False when it is ending already: who was first calls `settled`."""
        if id in self._ending:
            return False
        self._ending[id] = []
        return True

    def is_ending(self, id: str) -> bool:
        """Whether its end is on its way to the disk."""
        return id in self._ending

    def is_over(self, id: str) -> bool:
        """Whether the time of a claim that stands has passed."""
        claim = self._standing.get(id)
        ends_s = None if claim is None else self._ends_s(claim)
        return ends_s is not None and ends_s <= self._clock.monotonic()

    def left_s(self, claim: Claim) -> float:
        """Seconds until its time passes, as things stand; -1 when only its session ends it."""
        ends_s = self._ends_s(claim)
        return -1.0 if ends_s is None else max(0.0, ends_s - self._clock.monotonic())

    def look(self, id: str) -> None:
        """A deadline has come up: the time of the claim has passed, or there is a later one."""
        claim = self._standing.get(id)
        if claim is None or id in self._ending:
            return
        if not self.is_over(id):
            self._arm(claim)
            return
        self.begin_ending(id)
        self._over(id)

    def retry(self, id: str) -> None:
        """The end of a claim by time could not be committed: again later."""
        self.settled(id)
        self._deadlines.after(("claim", id), RETRY_S, lambda: self.look(id))

    def settled(self, id: str) -> None:
        """The end of a claim is durable or has failed; renewals that waited go on."""
        waiting = self._ending.pop(id, ())
        claim = self._standing.get(id)
        if claim is not None:
            self._arm(claim)
        for then in waiting:
            then()

    def _arm(self, claim: Claim) -> None:
        ends_s = self._ends_s(claim)
        if ends_s is None:
            self._deadlines.cancel(("claim", claim.id))
        else:
            due_s = max(ends_s, self._clock.monotonic() + STEP_S)
            self._deadlines.set(("claim", claim.id), due_s, lambda: self.look(claim.id))

    def _ends_s(self, claim: Claim) -> float | None:
        renewed_s = self._renewed_s.get(claim.id, 0.0)
        if claim.state == "orphaned":
            return renewed_s + LOCK_DELAY_S
        if claim.hold == "process":
            return None
        if claim.automatic:
            return renewed_s + claim.ttl_s
        return max(renewed_s, self._heard_s.get(claim.session, 0.0)) + max(claim.ttl_s, claim.idle_hold_s)
