"""The way of a request: compared with what is in its way, then granted, queued or refused.

Each project has a queue of those who ask, and one grant under way at a time, so that a burst of requests does not spoil
one another's compares. An answer is given once: the claim as it is durable, or why not.

Rule: what is decided, the queue decides; here it is carried out, and everything that waits is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from msgspec.structs import replace

from cosession.errors import CosessionError, Overloaded
from cosession.messages.limits import CLAIM_TARGETS_PROJECT_MAX, CLAIM_WAITERS_MAX, CLAIMS_SESSION_MAX
from cosession.model import Blocker, Claim
from cosessiond.claims import records
from cosessiond.claims.holding import Holding
from cosessiond.claims.ports import Later, Proposed, Sessions, Store
from cosessiond.claims.queue import Ask, Queue
from cosessiond.claims.records import Held
from cosessiond.claims.refusal import BLOCKERS_MAX, blocker, claimed
from cosessiond.claims.targets import Targets, pairs
from cosessiond.claims.view import View
from cosessiond.clock import Clock
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Batch
from cosessiond.store.leases import Deadlines

Granted = Callable[[Held | CosessionError], None]


class _Pending:
    """An ask that is not answered: who is to be answered, how long it may wait, since when (monotonic seconds)."""

    __slots__ = ("done", "since_s", "wait_s")

    def __init__(self, done: Granted, wait_s: float, since_s: float) -> None:
        self.done = done
        self.wait_s = wait_s
        self.since_s = since_s


class _Place:
    """One project: its queue, who is ready, and the grant that is under way, whether one is being proposed."""

    __slots__ = ("granting", "project", "proposing", "queue", "ready")

    def __init__(self, project: str) -> None:
        self.project = project
        self.queue = Queue()
        self.ready: dict[str, None] = {}  # in the order in which they became so
        self.granting = ""
        self.proposing = False


class Granting:
    """All who ask. `unwanted` ends a claim whose asker went away while it was on its way to the disk."""

    def __init__(
        self,
        store: Store,
        view: View,
        holding: Holding,
        *,
        clock: Clock,
        deadlines: Deadlines,
        sessions: Sessions,
        metrics: Metrics,
        later: Later,
        flush: Callable[[], None],
        unwanted: Callable[[Held], None],
    ) -> None:
        self._store = store
        self._view = view
        self._holding = holding
        self._clock = clock
        self._deadlines = deadlines
        self._sessions = sessions
        self._metrics = metrics
        self._later = later
        self._flush = flush
        self._unwanted = unwanted
        self._places: dict[str, _Place] = {}
        self._pending: dict[str, _Pending] = {}
        self._targets: dict[str, int] = {}  # of each project, claimed and asked for

    def ask(self, claim: Claim, targets: Targets, by: Hashable, wait_s: float, done: Granted) -> None:
        """One request; `done` gets the claim, Claimed when it may not wait longer, or why it cannot be. Raises
        Overloaded.
        """
        self._check_limits(claim, self._places.get(claim.project) or _Place(claim.project))
        place = self._place(claim.project)
        ask = Ask(claim, targets, by)
        place.queue.add(ask, self._view.of_project(claim.project))
        self._count(claim.project, len(claim.targets))
        self._pending[ask.id] = _Pending(done, wait_s, self._clock.monotonic())
        self._compare(place, ask)

    def check(self, claim: Claim, targets: Targets, done: Callable[[list[Blocker], int], None]) -> None:
        """What would be in the way of a claim now: `done` gets the first blockers, and how many there are."""
        place = self._places.get(claim.project) or _Place(claim.project)
        ask = Ask(claim, targets, None)
        ask.unseen = [*(each.id for each in place.queue), *(held.id for held in self._view.of_project(claim.project))]

        def look() -> None:
            if place.queue.step(ask, self._view.get):
                gone = [id for id in ask.obstacles if not place.queue.get(id) and not self._view.get(id)]
                for id in gone:  # while it was compared with others
                    del ask.obstacles[id]
                done(self._blockers(place, ask), len(ask.obstacles))
                self._flush()
            else:
                self._later(ask, look)

        look()

    def waiters(self, held: Held) -> list[Ask]:
        """Who waits for a claim, in order."""
        place = self._places.get(held.claim.project)
        return place.queue.behind(held.id) if place else []

    def asks(self, project: str) -> list[Ask]:
        """Who asks in a project, in order; "" is every one."""
        names = [project] if project else list(self._places)
        return [ask for name in names if name in self._places for ask in self._places[name].queue]

    def waits_s(self, ask: Ask) -> float:
        """How long a request has waited."""
        pending = self._pending.get(ask.id)
        return self._clock.monotonic() - pending.since_s if pending else 0.0

    def left(self, by: Hashable) -> None:
        """A connection is gone, and with it all that was asked for on it."""
        for place in list(self._places.values()):
            for ask in place.queue:
                if ask.by is by:
                    self._forget(place, ask)

    def refuse_all(self, error: CosessionError, session: str = "") -> None:
        """Answer all who ask, or those of one session, with an error; a grant that is under way goes on."""
        for place in list(self._places.values()):
            for ask in place.queue:
                if ask.id != place.granting and session in {"", ask.claim.session}:
                    self._refuse(place, ask, error)

    # What became of claims.

    def stands(self, held: Held, before: Held | None, adopted: Held | None) -> None:
        """A claim is durable as it is now; `before`: as it was, `adopted`: the one whose place it takes."""
        place = self._place(held.claim.project)
        asked = place.queue.get(held.id) is not None
        place.queue.granted(held.id)
        if before is None and not asked:
            self._count(held.claim.project, len(held.claim.targets))
        if adopted is not None:
            place.queue.adopted(adopted.id, held.id)
        if adopted is not None or (before is not None and before.claim.session != held.claim.session):
            for ask in place.queue.passed_on(held.id, held.claim.session):
                self._ready(place, ask)
        self._tidy(place)

    def ended(self, held: Held) -> None:
        """A claim stands no more."""
        self._count(held.claim.project, -len(held.claim.targets))
        place = self._places.get(held.claim.project)
        if place is not None:
            for ask in place.queue.gone(held.id):
                self._ready(place, ask)

    # The way of a request.

    def _compare(self, place: _Place, ask: Ask) -> None:
        """Look for what is in its way, a step at a time; then grant, wait or refuse."""
        pending = self._pending.get(ask.id)
        if pending is None:
            return
        if not place.queue.step(ask, self._view.get):
            self._later(ask, partial(self._compare, place, ask))
            return
        if ask.is_ready:
            self._ready(place, ask)
        elif pending.wait_s > 0:
            self._deadlines.after(("ask", ask.id), pending.wait_s, partial(self._waited_long_enough, place, ask))
        else:
            self._refuse_claimed(place, ask)
        self._flush()

    def _ready(self, place: _Place, ask: Ask) -> None:
        self._deadlines.cancel(("ask", ask.id))
        place.ready[ask.id] = None
        self._grant_next(place)

    def _grant_next(self, place: _Place) -> None:
        if place.proposing:
            return  # what is refused at once is settled in the middle of this: however many, one after the other
        place.proposing = True
        while place.ready and not place.granting:
            place.granting = next(iter(place.ready))
            del place.ready[place.granting]
            ask = place.queue.get(place.granting)
            assert ask is not None, "who leaves the queue is not ready any more"
            self._store.propose(partial(self._decide, ask), partial(self._settle, place, ask))
        place.proposing = False

    def _decide(self, ask: Ask) -> Batch | None:
        if ask.id not in self._pending:
            return None  # given up meanwhile
        guard = self._sessions.guard(ask.claim.session)
        now_s = self._clock.wall_ms() / 1000.0
        claim = replace(ask.claim, granted_at=now_s, reason="granted: nothing was in its way")
        change = records.granted(claim, self._store.revision)
        origin = self._store.origin("claim.acquire", claim.session)
        return self._store.batch(origin, (guard, *change.compares), change.writes)

    def _settle(self, place: _Place, ask: Ask, outcome: Proposed) -> None:
        place.granting = ""
        pending = self._pending.pop(ask.id, None)
        held = self._view.get(ask.id)
        if held is None:
            self._leave_queue(place, ask)
        if pending is None:
            if held is not None:
                self._unwanted(held)
        elif isinstance(outcome, CosessionError):
            pending.done(outcome)
        elif held is not None:
            pending.done(held)
        else:
            why = f"cannot claim for session {ask.claim.session}: it has ended"
            pending.done(CosessionError(why, code="session_ended"))
        self._grant_next(place)
        self._tidy(place)
        self._flush()

    def _waited_long_enough(self, place: _Place, ask: Ask) -> None:
        self._refuse_claimed(place, ask)
        self._flush()

    def _refuse_claimed(self, place: _Place, ask: Ask) -> None:
        self._refuse(place, ask, claimed(ask.targets, self._blockers(place, ask), len(ask.obstacles)))

    def _refuse(self, place: _Place, ask: Ask, error: CosessionError) -> None:
        pending = self._pending.get(ask.id)
        self._forget(place, ask)
        if pending is not None:
            pending.done(error)

    def _forget(self, place: _Place, ask: Ask) -> None:
        self._pending.pop(ask.id, None)
        self._deadlines.cancel(("ask", ask.id))
        if ask.id == place.granting:
            return  # its outcome comes, and then it goes
        self._leave_queue(place, ask)
        self._tidy(place)

    def _leave_queue(self, place: _Place, ask: Ask) -> None:
        if place.queue.get(ask.id) is None:
            return
        self._count(place.project, -len(ask.claim.targets))
        place.ready.pop(ask.id, None)
        for each in place.queue.leave(ask.id):
            self._ready(place, each)

    def _check_limits(self, wanted: Claim, place: _Place) -> None:
        asked = sum(ask.claim.session == wanted.session for ask in place.queue)
        used = len(self._view.of_session(wanted.session)) + asked
        if used >= CLAIMS_SESSION_MAX:
            self._metrics.hit("claims_session")
            raise Overloaded(
                f"cannot claim: session {wanted.session} has {used} claims, the limit; release some or use wider globs",
                data={"limit": CLAIMS_SESSION_MAX},
            )
        if len(place.queue) >= CLAIM_WAITERS_MAX:
            self._metrics.hit("claim_waiters")
            raise Overloaded(
                f"cannot claim: {CLAIM_WAITERS_MAX} requests of this project wait already; try again in a moment",
                data={"limit": CLAIM_WAITERS_MAX},
            )
        targets = self._targets.get(wanted.project, 0) + len(wanted.targets)
        self._metrics.level("claim_targets", targets, CLAIM_TARGETS_PROJECT_MAX)
        if targets > CLAIM_TARGETS_PROJECT_MAX:
            self._metrics.hit("claim_targets")
            raise Overloaded(
                f"cannot claim: {CLAIM_TARGETS_PROJECT_MAX} targets of this project are claimed; use wider globs",
                data={"limit": CLAIM_TARGETS_PROJECT_MAX},
            )

    def _blockers(self, place: _Place, ask: Ask) -> list[Blocker]:
        found = []
        for id, first in list(ask.obstacles.items())[:BLOCKERS_MAX]:
            other = place.queue.get(id) or self._view.get(id)
            if other is None:
                continue
            is_waiting = isinstance(other, Ask)
            holder = self._sessions.holder(other.claim.session)
            left_s = 0.0 if is_waiting else self._holding.left_s(other.claim)
            ahead = len(place.queue.behind(id))
            overlaps = pairs(ask.targets, other.targets, first)
            found.append(blocker(overlaps, other.claim, holder, left_s=left_s, waiting=is_waiting, ahead=ahead))
        return found

    def _place(self, project: str) -> _Place:
        return self._places.setdefault(project, _Place(project))

    def _tidy(self, place: _Place) -> None:
        """Keep nothing of a project in which nobody asks."""
        if not len(place.queue) and not place.granting:
            self._places.pop(place.project, None)

    def _count(self, project: str, change: int) -> None:
        left = self._targets.get(project, 0) + change
        if left:
            self._targets[project] = left
        else:
            self._targets.pop(project, None)
