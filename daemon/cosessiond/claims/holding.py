"""How long a claim lasts: until so long after the last activity of its session, on the monotonic clock.

Activity only notes the moment, once for all claims of a session: a claim's deadline is worked out anew when it comes
up. So whatever happened, a claim may last longer, never end early; and after a start each has its full time again (P8).
A claim whose time has passed is `expiring` until its end is durable or has failed, and a renewal waits for that.

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
        self._heard_s: dict[str, float] = {}  # of sessions
        self._renewed_s: dict[str, float] = {}  # of claims
        self._expiring: dict[str, list[Then]] = {}

    def begin(self, claim: Claim) -> None:
        """A claim stands now, or its record changed: it has its full time."""
        self._renewed_s[claim.id] = self._clock.monotonic()
        self._heard_s.setdefault(claim.session, self._clock.monotonic())
        self._arm(claim)

    def end(self, id: str) -> None:
        """A claim stands no more; who waited for the outcome of its end is told."""
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

    def renew(self, claim: Claim, then: Then) -> None:
        """Give a claim its full time again if it stands, then call `then`; after the outcome when it is expiring."""
        waiting = self._expiring.get(claim.id)
        if waiting is not None:
            waiting.append(lambda: self.renew(claim, then))
            return
        if claim.id in self._renewed_s:
            self._renewed_s[claim.id] = self._clock.monotonic()
            self._arm(claim)
        then()

    def left_s(self, claim: Claim) -> float:
        """Seconds until its time passes, as things stand; -1 when only its session ends it."""
        ends_s = self._ends_s(claim)
        return -1.0 if ends_s is None else max(0.0, ends_s - self._clock.monotonic())

    def look(self, claim: Claim) -> None:
        """A deadline has come up: the time of the claim has passed, or there is a later one."""
        ends_s = self._ends_s(claim)
        if ends_s is None or claim.id in self._expiring:
            return
        if ends_s > self._clock.monotonic():
            self._arm(claim)
            return
        self._expiring[claim.id] = []
        self._over(claim.id)

    def retry(self, claim: Claim) -> None:
        """The end of a claim could not be committed: again later."""
        self.settled(claim.id)
        self._deadlines.after(("claim", claim.id), RETRY_S, lambda: self.look(claim))

    def settled(self, id: str) -> None:
        """The end of a claim is durable or has failed; renewals that waited go on."""
        for then in self._expiring.pop(id, ()):
            then()

    def _arm(self, claim: Claim) -> None:
        ends_s = self._ends_s(claim)
        if ends_s is None:
            self._deadlines.cancel(("claim", claim.id))
        else:
            due_s = max(ends_s, self._clock.monotonic() + STEP_S)
            self._deadlines.set(("claim", claim.id), due_s, lambda: self.look(claim))

    def _ends_s(self, claim: Claim) -> float | None:
        renewed_s = self._renewed_s.get(claim.id, 0.0)
        if claim.state == "orphaned":
            return renewed_s + LOCK_DELAY_S
        if claim.hold == "process":
            return None
        if claim.automatic:
            return renewed_s + claim.ttl_s
        return max(renewed_s, self._heard_s.get(claim.session, 0.0)) + max(claim.ttl_s, claim.idle_hold_s)
