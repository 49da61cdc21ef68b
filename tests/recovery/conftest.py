"""Recovery in a virtual world: registry, claims, checkpoints and mail over one store, see `rig`."""

from __future__ import annotations

from functools import partial

import pytest
from msgspec import msgpack

from cosession.errors import CosessionError
from cosession.model import Claim, ClaimFact, Letter
from cosessiond.checkpoints.content import content_of
from cosessiond.checkpoints.keeper import Draft, Keeper, saved_in
from cosessiond.claims.referee import Referee
from cosessiond.mail.postroom import PostRoom
from cosessiond.metrics import Metrics
from cosessiond.recovery.recoverer import Asked, Recoverer
from cosessiond.server.addresses import Addresses
from cosessiond.server.holders import Holders, checkpoint_signal
from cosessiond.server.runqueue import RunQueue
from cosessiond.store.engine import Put
from rig import Rig


class Recovering(Rig):
    """All that a recovery touches. `tokens` are those of all grants, in order."""

    def __init__(self, seed=1):
        self.instances = {}
        self.tokens = []
        super().__init__(
            seed,
            belongings=lambda *ending: self.referee.aftermath.belongings(*ending),  # noqa: PLW0108 (made later)
            checkpoint=lambda session: checkpoint_signal(self.keeper, session, self.world.clock),
        )

    def others(self):
        parts = {"clock": self.world.clock, "entropy": self.world.entropy}
        sessions = Holders(self.registry)
        self.referee = Referee(
            self.store,
            **parts,
            deadlines=self.deadlines,
            sessions=sessions,
            metrics=Metrics(),
            later=RunQueue(self.deadlines).wait,
            flush=lambda: None,
        )
        self.keeper = Keeper(self.store, **parts, sessions=sessions, on_damage=lambda _: None)
        self.post = PostRoom(
            self.store,
            **parts,
            deadlines=self.deadlines,
            sessions=Addresses(self.registry),
            flush=lambda: None,
        )
        self.recoverer = Recoverer(
            self.store,
            self.world.clock,
            registry=self.registry,
            keeper=self.keeper,
            referee=self.referee,
            post=self.post,
        )
        self.keeper.load()
        return [self.look, self.referee.published, self.keeper.published, self.post.published]

    def started(self):
        self.referee.start()
        self.keeper.start()
        self.post.start()

    def look(self, committed):
        """Each grant has a larger token than all before."""
        for change in committed.changes:
            if change.id[0] == "$claims" and change.kind == "put" and change.version == 1:
                assert not self.tokens or change.create_revision > self.tokens[-1]
                self.tokens.append(change.create_revision)

    def session(self, id, **fields):
        self.instances[id] = self.processes.start(100 + len(self.instances))
        self.register(self.instances[id], id=id, **fields)
        return id

    def die(self, id):
        self.processes.kill(self.instances[id].pid)
        self.world.run_until_idle()

    def save(self, session, **state):
        draft = Draft(
            session=session,
            content=content_of(state or {"task": "t"}),
            git=None,
            claims=tuple(self.claim_facts(session)),
            automatic=False,
            redacted=0,
        )
        origin = self.store.origin("checkpoint.save", session)
        return saved_in(self.wait(self.ask(self.keeper.save, draft, origin)))

    def claim_facts(self, session):
        held = self.referee.view.of_session(session)
        return [ClaimFact(targets=each.claim.targets, purpose=each.claim.purpose) for each in held]

    def ask_claim(self, session, *targets, wait_s=0.0):
        wanted = Claim(id="", session=session, targets=targets, worktree="/w", ttl_s=60.0)
        answer = []
        self.referee.acquire(wanted, session, wait_s, answer.append)
        return answer

    def claim(self, session, *targets):
        return self.wait(self.ask_claim(session, *targets)).claim

    def write_to(self, sender, to, text):
        letter = Letter(id="", to="", sender=sender, text=text)
        answer = []
        self.post.submit(self.post.address(letter, to), self.store.origin("mail.send", sender), answer.append)
        self.world.run_until_idle()

    def ephemeral(self, key, owner, value):
        write = Put(("context", "global", key), msgpack.encode(value), 0, owner)
        self.store.submit(self.store.batch(self.store.origin("put", owner), [], [write]), lambda _: None)
        self.world.run_until_idle()

    def ask_recover(self, dead, by="", *, ephemeral=False):
        return self.ask(self.recoverer.recover, Asked(dead=dead, by=by, ephemeral=ephemeral))

    def recover(self, dead, by="", *, ephemeral=False):
        return self.wait(self.ask_recover(dead, by, ephemeral=ephemeral))

    def refused(self, dead, by=""):
        with pytest.raises(CosessionError, match="cannot recover session") as caught:
            self.recover(dead, by)
        return caught.value


@pytest.fixture
def world():
    return Recovering()


@pytest.fixture
def make_world():
    return partial(Recovering)
