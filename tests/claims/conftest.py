"""Claims in a virtual world: the referee beside a registry, see `rig`; sessions are processes that can be killed.

Every claim that stands, and every exclusive pair, is looked at after each batch, and so are the fencing tokens.
"""

from __future__ import annotations

import pytest

from cosession.model import Claim
from cosessiond.claims.records import SPACE, decode
from cosessiond.claims.referee import Referee
from cosessiond.claims.targets import meet
from cosessiond.metrics import Metrics
from cosessiond.server.holders import Holders
from cosessiond.server.runqueue import RunQueue
from rig import Rig

FULL = "the disk is full"


class Claims(Rig):
    """A registry and a referee over one store. `by` is the connection that asks."""

    def __init__(self, seed=1):
        self.token = 0
        self.fills = False
        self.instances = {}
        super().__init__(seed, belongings=self.left_behind)

    def others(self):
        self.metrics = Metrics()
        self.referee = Referee(
            self.store,
            clock=self.world.clock,
            entropy=self.world.entropy,
            deadlines=self.deadlines,
            sessions=Holders(self.registry),
            metrics=self.metrics,
            later=RunQueue(self.deadlines).wait,
            flush=lambda: None,
        )
        return [self.look, self.referee.published]

    def left_behind(self, session, writes_max):
        return self.referee.aftermath.belongings(session, writes_max)

    def started(self):
        self.referee.start()

    # Sessions.

    def session(self, id, pid=0, **fields):
        """A session with a process of its own."""
        number = pid or 100 + len(self.instances)
        self.instances[id] = self.processes.start(number)
        self.register(self.instances[id], id=id, **fields)
        return id

    def die(self, id):
        self.processes.kill(self.instances[id].pid)

    # Claims.

    def claim(self, session, *targets, by="c", wait_s=0.0, **fields):
        """The claim as it was granted, or what refused it."""
        return self.wait(self.ask_claim(session, *targets, by=by, wait_s=wait_s, **fields)).claim

    def ask_claim(self, session, *targets, by="c", wait_s=0.0, **fields):
        """The list that gets the answer."""
        fields = {"ttl_s": 60.0, "worktree": "/w"} | fields
        wanted = Claim(id="", session=session, targets=targets or ("name:a",), **fields)
        answer = []
        self.referee.acquire(wanted, by, wait_s, answer.append)
        return answer

    def release(self, claim, *, force=False):
        return self.wait(self.ask(self.referee.release, claim.session, [claim.id], force=force))

    def renew(self, session, *ids):
        """The ids that stand and those that are lost."""
        answer = []
        self.referee.renew(session, ids, lambda found, lost: answer.append(([held.id for held in found], lost)))
        self.world.run_until_idle()
        return answer[0]

    def adopt(self, claim, session):
        held = self.referee.view.get(claim.id)
        return self.wait(self.ask(self.referee.adopt, held, session)).claim

    def left_s(self, claim):
        """What is left of a claim, None when it has ended."""
        held = self.referee.view.get(claim.id)
        return None if held is None else self.referee.holding.left_s(held.claim)

    def standing(self):
        """The claims on the disk, by id."""
        found = [entry for entry in self.store.index if entry.id[0] == SPACE]
        return {
            each.id[2]: decode(
                each.id, each.value, create_revision=each.create_revision, mod_revision=each.mod_revision
            )
            for each in found
        }

    def fill(self):
        """The disk is full from the next batch on, before anybody hears of that one."""
        self.fills = True

    def empty(self):
        """There is room again."""
        self.fills, self.store.read_only = False, ""

    # What must hold.

    def look(self, committed):
        """At each batch: a larger token for each grant, and nobody beside an exclusive holder."""
        if self.fills:
            self.store.read_only = FULL
        for change in committed.changes:
            if change.id[0] == SPACE and change.kind == "put" and change.version == 1:
                assert change.create_revision > self.token, "a token that is no larger"
                self.token = change.create_revision
        changed = {change.id[2] for change in committed.changes if change.id[0] == SPACE and change.kind == "put"}
        if not changed:
            return
        held = [each for each in self.standing().values() if each.claim.state == "held"]
        for one in (each for each in held if each.id in changed):
            for other in held:
                if one.claim.session != other.claim.session and one.claim.project == other.claim.project:
                    both = one.claim.shared and other.claim.shared
                    assert both or not meet(one.targets, other.targets), f"{one.claim} beside {other.claim}"

    def check_empty(self):
        """Nothing is kept of what is over."""
        referee = self.referee
        left = {
            "claims": len(referee.view),
            "places": len(referee.granting._places),
            "asks": len(referee.granting._pending),
            "targets": len(referee.granting._targets),
            "standing": len(referee.holding._standing),
            "heard": len(referee.holding._heard_s),
            "renewed": len(referee.holding._renewed_s),
            "ending": len(referee.holding._ending),
            "unasked": len(referee._unasked),
            "following": len(referee.aftermath._following),
            "tokens": len(referee.view._tokens),
            "projects": len(referee.view._projects),
            "sessions": len(referee.view._sessions),
        }
        assert not any(left.values()), left


@pytest.fixture
def claims():
    return Claims()
