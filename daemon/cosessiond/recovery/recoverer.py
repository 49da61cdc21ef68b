"""The recoverer: carries out what `plan` decides. Looks into the log a slice at a time, submits one batch, waits for
the claims that follow, and tells what there was.

Rule: who recovers is decided by that batch alone; everything before it is only told, everything behind it follows from
the record that it wrote, also after an end of the daemon in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from cosession.errors import CosessionError
from cosession.messages.limits import BATCH_WRITES_MAX, RECOVERY_LOG_PAGES_MAX
from cosession.messages.recovery import EndedEntry, LostClaim, Offer, RecoverReply
from cosession.model import Checkpoint, Claim, ClaimFact, Session
from cosessiond.checkpoints.keeper import Keeper
from cosessiond.checkpoints.standing import Judged
from cosessiond.claims.referee import Referee
from cosessiond.clock import Clock, elapsed_ms
from cosessiond.mail.postroom import PostRoom
from cosessiond.recovery import plan
from cosessiond.recovery.offers import offer_of
from cosessiond.sessions.records import Held
from cosessiond.sessions.registry import Registry
from cosessiond.store.engine import Batch, BelowWindow, Committed, Engine, Entry, EntryId, ValuePurged
from cosessiond.store.revisions import Result, Store

PAGE_ROWS: Final = 256
PAGE_BYTES: Final = 256 * 1024

Done = Callable[[RecoverReply | CosessionError], None]


class Asked(Struct, frozen=True, kw_only=True):
    """What is asked for: the dead session, who takes over ("": a plan), and whether with what was ephemeral."""

    dead: str
    by: str = ""
    ephemeral: bool = False


class Recoverer:
    """Recovers sessions of this daemon."""

    def __init__(
        self, store: Store, clock: Clock, *, registry: Registry, keeper: Keeper, referee: Referee, post: PostRoom
    ) -> None:
        self.store = store
        self.clock = clock
        self.registry = registry
        self.keeper = keeper
        self.referee = referee
        self.post = post

    def recover(self, asked: Asked, done: Done) -> None:
        """Answers what was recovered, or would be; raises and answers what `session.recover` promises."""
        dead = self.held(asked.dead)
        plan.check(dead.session, asked.by, self.name)
        _Recovery(self, asked, dead, done).begin()

    def offer(self, session: Session) -> Offer:
        """Whether to offer that a session is recovered."""
        return offer_of(session.crashes, self.clock.wall_ms() / 1000.0)

    def held(self, id: str) -> Held:
        """The record of a session as it is durable. Raises not_found."""
        held = self.registry.view.get(id)
        return held if held is not None else Held(self.registry.find(id), 0)

    def name(self, id: str) -> str:
        """A session in words."""
        held = self.registry.view.get(id)
        return f"session {held.session.name or id} ({id}, {held.session.state})" if held else f"session {id}"


class _Recovery:
    """One recovery on its way."""

    def __init__(self, all_of: Recoverer, asked: Asked, dead: Held, done: Done) -> None:
        self._all = all_of
        self._asked = asked
        self._dead = dead
        self._done = done
        self._began_s = all_of.clock.monotonic()
        self._judged: Judged = all_of.keeper.judge(dead.session.id, dead.session.checkpoint)
        self._since = plan.Since(dead.session.id, dead.session.project)
        self._more = False
        self._ended: list[tuple[EntryId, Entry | None]] = []
        self._restored: set[EntryId] = set()
        view = all_of.referee.view
        self._orphans = {each.id: each.claim for each in view.of_session(dead.session.id)}

    # Looking.

    def begin(self) -> None:
        """What ended with it, then what was written since."""
        revision = self._dead.mod_revision
        if self._dead.session.recovered_by or revision <= self._all.store.compact_revision:
            self._look_on(self._first())  # the record was written again since: what ended is not found any more
            return
        try:
            self._all.store.run(lambda engine: _ended_in(engine, revision), self._took_ended)
        except CosessionError as error:
            self._done(error)

    def _took_ended(self, found: list[tuple[EntryId, Entry | None]] | CosessionError) -> None:
        if not isinstance(found, CosessionError):
            self._ended = found
        self._look_on(self._first())

    def _first(self) -> int:
        """The revision behind which to look."""
        chosen = self._judged.chosen
        first = chosen.mod_revision if chosen is not None else self._dead.mod_revision
        oldest = self._all.store.compact_revision - 1
        self._more = self._more or first < oldest
        return max(first, oldest)

    def _look_on(self, after: int, pages: int = RECOVERY_LOG_PAGES_MAX) -> None:
        if after >= self._all.store.revision:
            self._decide()
            return
        if not pages:
            self._more = True
            self._decide()
            return

        def took(found: list[Committed] | CosessionError) -> None:
            if isinstance(found, CosessionError) or not found:
                self._more = True
                self._decide()
                return
            self._since.take(found, self._label)
            self._look_on(found[-1].revision, pages - 1)

        try:
            self._all.store.run(lambda engine: engine.changes(after, PAGE_ROWS, PAGE_BYTES), took)
        except CosessionError as error:
            self._done(error)

    # Doing.

    def _decide(self) -> None:
        if not self._asked.by:
            self._answer(None)
            return
        store = self._all.store

        def decide() -> Batch | None:
            dead, heir = self._all.held(self._asked.dead), self._all.held(self._asked.by)
            self._all.registry.require_live(self._asked.by)
            plan.check(dead.session, self._asked.by, self._all.name)
            chosen = self._judged.chosen
            now_s = self._all.clock.wall_ms() / 1000.0
            compares, writes = plan.handover(dead, heir, chosen.id if chosen is not None else "", now_s)
            if not writes:
                return None
            if dead.session.id != heir.session.id:
                more = self._all.post.inheritance(dead.session.id, heir.session.id, BATCH_WRITES_MAX // 2)
                compares, writes = [*compares, *more[0]], [*writes, *more[1]]
            if self._asked.ephemeral:
                entries = [entry for _, entry in self._ended if entry is not None]
                room = BATCH_WRITES_MAX - len(writes)
                more = plan.restored(entries, heir.session.id, store.get, room)
                self._restored = {write.id for write in more[1]}
                compares, writes = [*compares, *more[0]], [*writes, *more[1]]
            return store.batch(store.origin("session.recover", heir.session.id), compares, writes)

        store.propose(decide, self._decided)

    def _decided(self, outcome: Result) -> None:
        if isinstance(outcome, CosessionError):
            self._done(outcome)
            return
        heir = self._all.held(self._asked.by).session
        self._all.referee.adopting.follow(self._asked.dead)
        self._all.referee.adopting.wait(self._asked.dead, lambda: self._answer(heir))

    def _answer(self, heir: Session | None) -> None:
        all_of = self._all
        dead = all_of.held(self._asked.dead).session
        checkpoint = self._checkpoint()
        claims = self._claims(heir)
        self._done(
            RecoverReply(
                revision=all_of.store.revision,
                session=dead,
                by=heir,
                standing=self._judged.standing,
                evidence=list(self._judged.evidence),
                checkpoint=checkpoint,
                claims=claims,
                lost=self._lost(checkpoint.claims if checkpoint is not None else (), claims),
                letters=all_of.post.boxes.count(heir.id if heir is not None else dead.id),
                ephemeral=[self._ended_entry(id, entry) for id, entry in self._ended],
                changes=self._since.told(own=False),
                later=self._since.told(own=True),
                more=self._more or self._since.is_cut,
                offer=all_of.offer(dead),
                took_ms=round(elapsed_ms(self._began_s, all_of.clock), 3),
            )
        )

    # Telling.

    def _checkpoint(self) -> Checkpoint | None:
        chosen = self._judged.chosen
        try:
            return self._all.keeper.content(chosen.id) if chosen is not None else None
        except CosessionError:  # it has left meanwhile
            return None

    def _claims(self, heir: Session | None) -> list[Claim]:
        view = self._all.referee.view
        if heir is None:
            return [each for each in self._orphans.values() if each.state == "orphaned"]
        return [each.claim for each in view.of_session(heir.id) if each.claim.adopted_from in self._orphans]

    def _lost(self, facts: tuple[ClaimFact, ...], claims: list[Claim]) -> list[LostClaim]:
        had = {target for claim in claims for target in claim.targets}
        lost: list[LostClaim] = []
        standing = {
            target: each.claim
            for each in self._all.referee.view.of_project(self._dead.session.project)
            for target in each.claim.targets
        }
        for fact in facts:
            if had.issuperset(fact.targets):
                continue
            holder = next((standing[target] for target in fact.targets if target in standing), None)
            why = f"{self._all.name(holder.session)} holds it" if holder is not None else "it has ended"
            lost.append(LostClaim(targets=list(fact.targets), purpose=fact.purpose, why=why))
        return lost

    def _ended_entry(self, id: EntryId, entry: Entry | None) -> EndedEntry:
        standing = self._all.store.get(id)
        if id in self._restored:
            return EndedEntry(key=id[2], state="restored")
        if standing is not None:
            return EndedEntry(key=id[2], state="taken", session=standing.session)
        return EndedEntry(key=id[2], state="gone" if entry is None else "restorable")

    def _label(self, id: str) -> str:
        held = self._all.registry.view.get(id)
        return held.session.name if held is not None else ""


def _ended_in(engine: Engine, revision: int) -> list[tuple[EntryId, Entry | None]]:
    """The entries that the batch of this revision expired, as they were before: what ended with a session."""
    try:
        batches = engine.changes(revision - 1, 1, 1)
    except BelowWindow:
        return []
    found: list[tuple[EntryId, Entry | None]] = []
    for change in batches[0].changes if batches else ():
        if change.kind == "expire" and change.id[0] == "context":
            try:
                found.append((change.id, engine.entry_at(change.id, revision - 1)))
            except (BelowWindow, ValuePurged):
                found.append((change.id, None))
    return found
