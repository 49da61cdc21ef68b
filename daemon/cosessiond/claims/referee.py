"""The referee: what everything above the claims calls. Acquire, renew, release, adopt, check, fence.

It keeps a view of all claims that follows what is durable. Requests go their way through `granting`, time is kept by
`holding`, and what sessions leave behind is the business of `aftermath`; deaths arrive as changes of their records.

Rule: decisions are pure (`queue`, `records`, `refusal`) or made from durable memory under compares. An operation raises
what it can refuse at once, and answers everything else through `done`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

from msgspec import DecodeError, Struct, msgpack
from msgspec.structs import replace

from cosession.errors import CosessionError, Fenced, NotAllowed
from cosession.messages.limits import BATCH_WRITES_MAX
from cosession.model import GLOBAL, TERMINAL_STATES, Blocker, Claim
from cosessiond.claims import records
from cosessiond.claims.adopting import Adopting
from cosessiond.claims.aftermath import Aftermath
from cosessiond.claims.granting import Granted, Granting
from cosessiond.claims.holding import RETRY_S, Holding
from cosessiond.claims.ports import Later, Proposed, Sessions, Store
from cosessiond.claims.records import SPACE, Held
from cosessiond.claims.targets import Targets, read
from cosessiond.claims.view import View
from cosessiond.clock import Clock, Entropy, ulid
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Applied, Batch, Committed, EntryCompare
from cosessiond.store.leases import Deadlines

_SESSIONS: Final = "$sessions"


class _State(Struct):
    """What matters of a session record here."""

    state: str


_state_of = msgpack.Decoder(_State).decode


class Referee:
    """All claims of this daemon. `later` runs an action in a later tick; `flush` sends what was answered."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        entropy: Entropy,
        deadlines: Deadlines,
        sessions: Sessions,
        metrics: Metrics,
        later: Later,
        flush: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._sessions = sessions
        self._deadlines = deadlines
        self._unasked: set[str] = set()  # claims whose asker went away, until they are released
        self.view = View()
        self.adopting = Adopting(store, self.view, clock=clock, entropy=entropy, deadlines=deadlines, sessions=sessions)
        self.aftermath = Aftermath(
            store,
            self.view,
            clock=clock,
            deadlines=deadlines,
            sessions=sessions,
            adopting=self.adopting,
            flush=flush,
        )
        self.holding = Holding(clock, deadlines, lambda id: self.aftermath.time_over(self.holding, id))
        self.granting = Granting(
            store,
            self.view,
            self.holding,
            clock=clock,
            deadlines=deadlines,
            sessions=sessions,
            metrics=metrics,
            later=later,
            flush=flush,
            unwanted=self._unwanted,
        )

    def start(self) -> None:
        """Take in the records, each with its full time, and follow what became of their sessions meanwhile; `published`
        must be a listener by then, and the sessions known. Raises CosessionError(damaged).
        """
        found = sorted((each for each in self._store.index if each.id[0] == SPACE), key=lambda e: e.create_revision)
        for entry in found:
            revisions = {"create_revision": entry.create_revision, "mod_revision": entry.mod_revision}
            self._stands(records.decode(entry.id, entry.value, **revisions))
        for session in self.view.sessions():
            if not self._sessions.is_live(session):
                self.aftermath.session_over(session)
            self.adopting.follow(session)

    # The operations.

    def acquire(self, wanted: Claim, by: Hashable, wait_s: float, done: Granted) -> None:
        """Claim what `wanted` says (its id is made here) for its session; `done` gets the claim as it stands.

        Answered at once when nothing is in the way or nobody wants to wait, else when the last obstacle has gone, or
        with Claimed when `wait_s` is over. What the session holds already in the same way is renewed. Raises
        InvalidRequest, TooLarge, Overloaded, not_found and session_ended.
        """
        wanted, targets = _resolved(wanted)
        self._sessions.guard(wanted.session)
        same = self.same(wanted)
        if same is None:
            wanted = replace(wanted, id=ulid(self._clock, self._entropy))
            self.granting.ask(wanted, targets, by, wait_s, done)
        else:
            self._unasked.discard(same.id)
            self.holding.renew(same.id, lambda: done(same))

    def same(self, wanted: Claim) -> Held | None:
        """The claim that the session holds already on just these targets in just this way, and not until its end that
        is on its way: asked for again, it begins anew.
        """

        def way(claim: Claim) -> tuple[object, ...]:
            return claim.project, claim.worktree, claim.shared, claim.hold, claim.automatic, set(claim.targets)

        wanted, _ = _resolved(wanted)
        held = (each for each in self.view.of_session(wanted.session) if each.claim.state == "held")
        mine = (each for each in held if not self.holding.is_ending(each.id))
        return next((each for each in mine if way(each.claim) == way(wanted)), None)

    def check(self, wanted: Claim, done: Callable[[list[Blocker], int], None]) -> None:
        """What would be in the way of a claim now: `done` gets the first blockers, and how many there are. Raises
        InvalidRequest and TooLarge.
        """
        wanted, targets = _resolved(wanted)
        self.granting.check(wanted, targets, done)

    def renew(self, session: str, ids: Sequence[str], done: Callable[[list[Held], list[str]], None]) -> None:
        """Give claims of a session their full time again, all of them without `ids`; `done` gets those that stand, and
        the ids of those that do not, or not as this session's.
        """
        ids = list(dict.fromkeys(ids or [held.id for held in self.view.of_session(session)]))
        left = len(ids)

        def renewed() -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                found = [held for held in map(self.view.get, ids) if held is not None and _is_of(held, session)]
                standing = {held.id for held in found}
                done(found, [id for id in ids if id not in standing])

        if not ids:
            renewed()
        for id in ids:
            held = self.view.get(id)
            if held is not None and _is_of(held, session):
                self.holding.renew(id, renewed)
            else:
                renewed()

    def release(
        self,
        session: str,
        ids: Iterable[str],
        done: Callable[[list[str] | CosessionError], None],
        *,
        force: bool = False,
    ) -> None:
        """End claims of a session, or with `force` of any; `done` gets the ids that ended now. Raises NotAllowed."""
        wanted = list(dict.fromkeys(ids))
        for held in filter(None, map(self.view.get, wanted)):
            if held.claim.session != session and not force:
                raise NotAllowed(
                    f"cannot release claim {held.id}: session {held.claim.session} has it; ask that one, or force it"
                )
        ending = [id for id in wanted if self.view.get(id) is not None and self.holding.begin_ending(id)]
        released: list[str] = []
        portion: list[str] = []

        def decide() -> Batch | None:
            standing = [held for held in map(self.view.get, wanted) if held is not None][:BATCH_WRITES_MAX]
            portion[:] = [held.id for held in standing]
            change = records.released(standing)
            origin = self._store.origin("claim.release", session)
            return self._store.batch(origin, change.compares, change.writes) if standing else None

        def finished(outcome: Proposed) -> None:
            if isinstance(outcome, Committed):
                released.extend(portion)
                self._store.propose(decide, finished)  # until nothing is left of them
                return
            for id in ending:
                self.holding.settled(id)
            done(outcome if outcome is not None else released)

        self._store.propose(decide, finished)

    def adopt(self, held: Held, session: str, done: Granted) -> None:
        """Give an orphaned claim to a live session, ahead of all who wait, with a larger token; `done` gets it.

        Answers not_found when it is gone, Claimed when it is no orphan any more, session_ended.
        """

        def finished(outcome: str | CosessionError) -> None:
            adopted = self.view.get(outcome) if isinstance(outcome, str) else None
            if isinstance(outcome, CosessionError):
                done(outcome)
            else:
                assert adopted is not None, "what was committed is published"
                done(adopted)

        self.adopting.adopt(held.id, session, finished)

    def fence(self, token: int, session: str) -> EntryCompare:
        """The compare that the claim with this fencing token still stands for `session`. Raises Fenced, NotAllowed."""
        held = self.view.with_token(token)
        if held is None or held.claim.state != "held" or not self._sessions.is_live(held.claim.session):
            raise Fenced(
                f"cannot write: no claim stands with fencing token {token} any more; "
                "claim again, and look what others did meanwhile",
                data={"fence": token},
            )
        if held.claim.session != session:
            raise NotAllowed(
                f"cannot write: fencing token {token} is of session {held.claim.session}; use one of your own claims"
            )
        return records.unchanged(held)

    def activity(self, session: str) -> None:
        """A request or hook event of a session: what it holds lasts longer."""
        self.holding.heard(session)

    # Following what is durable.

    def published(self, committed: Committed) -> None:
        """A listener of the store: claims follow what is durable, sessions' ends among it."""
        mine = [change for change in committed.changes if change.id[0] == SPACE]
        ended: dict[str, Held] = {}
        for change in mine:
            held = self.view.remove(change.id[2]) if change.kind != "put" else None
            if held is not None:
                ended[held.id] = held
        for change in mine:
            if change.kind == "put":
                self._follow(change, committed.revision, ended)
        for held in ended.values():
            self._unasked.discard(held.id)
            self.holding.end(held.id)
            self._forget_holder(held)
            self.granting.ended(held)
        for change in committed.changes:
            if change.id[0] == _SESSIONS and change.kind == "put":
                if _has_ended(change.value):
                    self._session_over(change.id[2])
                self.adopting.follow(change.id[2])  # who lives again may have recovered itself

    def _follow(self, change: Applied, revision: int, ended: dict[str, Held]) -> None:
        create_revision = change.create_revision
        held = records.decode(change.id, change.value, create_revision=create_revision, mod_revision=revision)
        self._stands(held, ended.get(held.claim.adopted_from))

    def _stands(self, held: Held, adopted: Held | None = None) -> None:
        before = self.view.get(held.id)
        self.view.put(held)
        self.holding.begin(held.claim)
        if before is not None and before.claim.session != held.claim.session:
            self._forget_holder(before)
        self.granting.stands(held, before, adopted)

    def _forget_holder(self, held: Held) -> None:
        if not self.view.of_session(held.claim.session):
            self.holding.forget(held.claim.session)

    def _unwanted(self, held: Held) -> None:
        """A claim stands that nobody knows of: whoever asked for it went away while it was on its way to the disk."""
        self._unasked.add(held.id)

        def done(outcome: list[str] | CosessionError) -> None:
            if isinstance(outcome, CosessionError) and self.view.get(held.id) is not None:
                self._deadlines.after(("unwanted", held.id), RETRY_S, again)

        def again() -> None:
            if held.id in self._unasked:  # else it was asked for again, or is gone
                self._unwanted(held)

        self.release(held.claim.session, [held.id], done, force=True)

    def _session_over(self, session: str) -> None:
        why = f"cannot claim for session {session}: it has ended"
        self.granting.refuse_all(CosessionError(why, code="session_ended"), session)
        self.aftermath.session_over(session)


def _resolved(wanted: Claim) -> tuple[Claim, Targets]:
    """A claim with its targets read, in the project it belongs to: names of the machine are of none."""
    targets = read(wanted.targets, wanted.worktree)
    project = GLOBAL if targets.on_machine else wanted.project
    texts = tuple(target.text for target in targets.each)
    return replace(wanted, project=project, worktree=targets.worktree, targets=texts), targets


def _is_of(held: Held, session: str) -> bool:
    return held.claim.session == session and held.claim.state == "held"


def _has_ended(record: bytes) -> bool:
    try:
        return _state_of(record).state in TERMINAL_STATES
    except DecodeError:
        return False  # the registry says what is wrong with it
