"""The session registry: what everything above the sessions calls. Register, heartbeat, close, find, explain.

It keeps a view of all records, decides from it, and submits each transition as one batch guarded by the record's
mod_revision; when that conflicts it decides again from what is durable then. What ends a session also expires its
ephemeral entries, in the same batch (see `planning.left_behind`). What is found ephemeral of an ended session all the
same, because it was written without admission's guard or is more than fits, is expired by batches of its own.

Rule: decisions are made by pure functions (`admission`, `records`, `planning`, `verdict`); this file carries them out.
An operation raises what it can refuse at once, and answers everything else through `done`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from cosession.errors import CosessionError, InvalidRequest
from cosession.messages.limits import RANGE_BYTES_MAX, RANGE_ENTRIES_MAX, TEXT_BYTES_MAX
from cosession.messages.sessions import Register
from cosession.model import GLOBAL, Instance, Session
from cosessiond.clock import Clock, Entropy, elapsed_ms, ulid
from cosessiond.sessions.admission import check_text, draft
from cosessiond.sessions.authority import Authority
from cosessiond.sessions.drills import simulated
from cosessiond.sessions.explain import Explained, explain
from cosessiond.sessions.identity import ProcessRef, boot_id
from cosessiond.sessions.liveness import RETRY_S, Liveness
from cosessiond.sessions.planning import Belongings, MayReplace, Planner, SessionLimits
from cosessiond.sessions.ports import Processes, Proposed, Store
from cosessiond.sessions.records import SPACE, Held, Plan, as_read, closed, decode, is_live, put
from cosessiond.sessions.verdict import POLICY, CheckpointSignal, DiskSignal, Policy
from cosessiond.sessions.view import View, has_ended, unknown
from cosessiond.store.engine import Applied, Batch, Committed
from cosessiond.store.leases import Deadlines

DISCONNECT_LOOK_S: Final = 0.05

Done = Callable[[Session | CosessionError], None]


class Registry:
    """All sessions of this daemon. `secret`: 16 to 64 bytes that outlive the daemon and never leave it."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        entropy: Entropy,
        deadlines: Deadlines,
        process_watch: Processes,
        host: str,
        disk: Callable[[], DiskSignal],
        checkpoint: Callable[[Session], CheckpointSignal] = lambda _: CheckpointSignal("none", "no checkpoint is kept"),
        secret: bytes,
        policy: Policy = POLICY,
        limits: SessionLimits | None = None,
        boot: str | None = None,
        belongings: Belongings = lambda _, __: ([], []),
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._deadlines = deadlines
        self._host = host
        self._policy = policy
        self._opening: set[str] = set()
        self._sweeping: set[str] = set()
        self.view = View()
        self.authority = Authority(self.view, secret=secret, boot=boot_id() if boot is None else boot)
        self._planner = Planner(store, self.view, limits or SessionLimits(), belongings)
        self._liveness = Liveness(
            self.view,
            clock=clock,
            deadlines=deadlines,
            processes=process_watch,
            disk=disk,
            checkpoint=checkpoint,
            policy=policy,
            commit=self._commit,
            plan_for=self._planner.transition,
        )

    def start(self) -> None:
        """Take in the records, then judge every live session again; `published` must be a listener by then.

        Raises CosessionError(damaged).
        """
        for entry in sorted(self._store.scan(SPACE, GLOBAL, ""), key=lambda entry: entry.mod_revision):
            self.view.put(Held(decode(entry.id, entry.value), entry.mod_revision))
        for id in self.view.ended_ids():
            if self._store.owned(id):
                self._sweep(id)
        for session in self.view.live_sessions():
            self._liveness.begin(session)

    # The operations.

    def register(
        self,
        request: Register,
        instance: Instance,
        done: Done,
        *,
        may_replace: MayReplace | None = None,
        returns: bool = False,
    ) -> None:
        """Begin, join, re-attach to or reopen a session; `done` gets its record, or the error.

        `instance` is what the caller may stand for (`admission.instance_for`). `may_replace` raises unless the caller
        may act for the session that it names by `replaces`; without it only an instance of that session may replace
        it. `returns`: it is known to come back, also to a session that it saw ending. Raises InvalidRequest and
        TooLarge; answers Overloaded at a limit, NotAllowed for joining from where no process can be judged,
        session_ended for a session that this very instance saw ending.
        """
        id = request.id or ulid(self._clock, self._entropy)
        wanted = draft(request, instance, id=id, host=self._host)
        switching = returns or bool(request.replaces)
        proved = bool(request.session_token) and self.authority.token_holds(id, request.session_token)
        if self.view.live(id) is None:
            self._opening.add(id)

        def plan() -> Plan:
            opening, now_s = len(self._opening), self._now_s()
            return self._planner.registration(
                wanted, now_s, opening=opening, proved=proved, switching=switching, may_replace=may_replace
            )

        def finished(outcome: Session | CosessionError) -> None:
            self._opening.discard(id)
            if not isinstance(outcome, CosessionError):
                self._liveness.heard(id)
            done(outcome)

        self._commit(id, plan, finished)

    def heartbeat(self, id: str, done: Done) -> None:
        """A sign of life; `done` gets the record after it. Raises not_found and session_ended, and answers the same
        when the session ended meanwhile.
        """
        self.require_live(id)

        def answer() -> None:
            try:
                done(self.require_live(id))
            except CosessionError as error:
                done(error)

        self._liveness.heard(id, answer)

    def activity(self, id: str) -> None:
        """A request or hook event of a session: a sign of life nobody waits for. Ended sessions are ignored."""
        self._liveness.heard(id)

    def disconnected(self, ids: Iterable[str]) -> None:
        """A connection that registered these sessions is gone: look soon whether their processes are.

        Where the kernel does not tell, this notices a death long before the next poll. Not at once: a process closes
        its descriptors a little before it is over.
        """
        for id in ids:
            self._deadlines.after(("disconnected", id), DISCONNECT_LOOK_S, partial(self._liveness.look, id))

    def close(self, id: str, why: str, done: Done) -> None:
        """End a session gracefully; a closed one stays as it is.

        Raises TooLarge and InvalidRequest for the reason and not_found; answers session_ended for a session that
        ended otherwise.
        """
        check_text(why, "reason", TEXT_BYTES_MAX)
        if self.view.get(id) is None:
            raise unknown(id)

        def plan() -> Plan:
            held = self.view.get(id)
            if held is None:
                raise unknown(id)
            if held.session.state == "closed":
                return Plan(held.session)
            if not is_live(held.session):
                raise has_ended(held.session)
            return self._planner.transition("session.close", closed(held.session, why, self._now_s()))

        self._commit(id, plan, done)

    def simulate_crash(self, text: str, done: Done) -> None:
        """End a session as if all its processes had crashed, see `drills`; `done` gets its record. Raises as `find`;
        answers session_ended, and NotAllowed for one that does not allow it.
        """
        id = self.find(text).id

        def plan() -> Plan:
            session = self.require_live(id)
            evidence = self._liveness.evidence(session, self._liveness.silent_s(id) or 0.0)
            target = simulated(session, evidence, self._policy, self._now_s())
            return self._planner.transition("session.simulate_crash", target)

        self._commit(id, plan, done)

    def list(self, *, ended: bool = False, project: str = "", limit: int = 200) -> list[Session]:
        """At most `limit` sessions, and no more than one frame holds, newest first. Raises InvalidRequest."""
        if not 1 <= limit <= RANGE_ENTRIES_MAX:
            raise InvalidRequest(f"cannot list {limit} sessions: the limit is 1 to {RANGE_ENTRIES_MAX}; choose one")
        shown: list[Session] = []
        left = RANGE_BYTES_MAX
        for held in self.view.newest(ended=ended, project=project, limit=limit):
            left -= len(put(held.session).value)
            if left < 0:
                break
            shown.append(held.session)
        return shown

    def count(self, *, ended: bool = False, project: str = "") -> int:
        """How many sessions `list` chooses from."""
        return self.view.count(ended=ended, project=project)

    def find(self, text: str) -> Session:
        """The session with this id, or the only one with this name. Raises not_found and InvalidRequest."""
        return self.view.find(text).session

    def require_live(self, id: str) -> Session:
        """The record of a live session. Raises not_found and session_ended."""
        held = self.view.get(id)
        if held is None:
            raise unknown(id)
        if not is_live(held.session):
            raise has_ended(held.session)
        return held.session

    def explain(self, text: str) -> Explained:
        """Why a session is in its state: all five layers looked at now. Changes nothing. Raises as `find`."""
        began_s = self._clock.monotonic()
        session = self.find(text)  # which is all that layer 5 looks at
        close_ms = elapsed_ms(began_s, self._clock)
        silent_s = self._liveness.silent_s(session.id)
        if silent_s is None:
            silent_s = max(0.0, self._now_s() - session.changed_at)
        heartbeat_ms = elapsed_ms(began_s, self._clock) - close_ms
        evidence = self._liveness.evidence(session, silent_s)
        found = explain(session, evidence, self._policy, heartbeat_ms=heartbeat_ms, close_ms=close_ms)
        return replace(found, cost_ms=elapsed_ms(began_s, self._clock))

    @property
    def live_count(self) -> int:
        """How many sessions have not ended."""
        return self.view.live_count

    def sessions_of(self, ancestry: Callable[[], Sequence[ProcessRef]]) -> frozenset[str]:
        """The live sessions of a process, or else of its nearest ancestor that has any.

        The nearest: an agent started inside another's session acts for its own. `ancestry` is asked only if needed.
        """
        return self.authority.sessions_of(ancestry()) if self.live_count else frozenset()

    def session_token(self, id: str) -> str:
        """See `Authority.session_token`."""
        return self.authority.session_token(id)

    def may_act(self, ancestry: Sequence[ProcessRef], id: str, token: str = "") -> bool:
        """See `Authority.may_act`."""
        return self.authority.may_act(ancestry, id, token)

    def require_may_act(self, ancestry: Sequence[ProcessRef], id: str, token: str = "") -> None:
        """See `Authority.require_may_act`."""
        self.authority.require_may_act(ancestry, id, token)

    # Carrying out, and following what is durable.

    def _commit(self, session: str, plan: Callable[[], Plan], done: Done) -> None:
        last: Plan | None = None

        def decide() -> Batch | None:
            nonlocal last
            last = plan()
            if not last.writes:
                return None
            return self._store.batch(self._store.origin(last.operation, session), last.compares, last.writes)

        def finished(outcome: Proposed) -> None:
            if isinstance(outcome, CosessionError):
                done(outcome)
            else:
                assert last is not None, "an outcome without a decision"
                done(last.session)

        self._store.propose(decide, finished)

    def published(self, committed: Committed) -> None:
        """A listener of the store: the view and the liveness of sessions follow what is durable."""
        for change in committed.changes:
            if change.id[0] == SPACE:
                self._follow(change, committed.revision)
            elif change.owner and change.kind == "put" and self.view.live(change.owner) is None:
                self._sweep(change.owner)

    def _follow(self, change: Applied, revision: int) -> None:
        id = change.id[2]
        if change.kind != "put":
            self.view.remove(id)
            self._liveness.forget(id)
            return
        session = decode(change.id, change.value)
        self.view.put(Held(session, revision))
        self._liveness.follow(session)
        if is_live(session):
            self._opening.discard(id)  # it counts as live from here on
        elif self._store.owned(id):
            self._sweep(id)

    def _sweep(self, owner: str) -> None:
        """Expire what is ephemeral of a session that is not live; again until nothing is left."""
        if owner in self._sweeping:
            return
        self._sweeping.add(owner)

        def decide() -> Batch | None:
            if self.view.live(owner):
                return None
            compares, writes = self._planner.left_behind(owner)
            if not writes:
                return None
            guard = as_read(owner, self.view.get(owner))
            return self._store.batch(self._store.origin("session.expire"), (guard, *compares), writes)

        def finished(outcome: Proposed) -> None:
            self._sweeping.discard(owner)
            if isinstance(outcome, CosessionError):
                self._deadlines.after(("sweep", owner), RETRY_S, partial(self._sweep, owner))
            elif outcome is not None:
                self._sweep(owner)

        self._store.propose(decide, finished)

    def _now_s(self) -> float:
        return self._clock.wall_ms() / 1000.0
