"""Checkpoints in a virtual world: the keeper beside a registry, see `rig`; sessions are processes that can die."""

from __future__ import annotations

import pytest
from msgspec import msgpack

from cosession.model import GLOBAL
from cosessiond.checkpoints import records
from cosessiond.checkpoints.content import content_of
from cosessiond.checkpoints.keeper import Draft, Keeper, saved_in
from cosessiond.server.holders import Holders, checkpoint_signal
from cosessiond.store.engine import Delete
from rig import Rig


class Shelved(Rig):
    """A registry and a keeper over one store."""

    def __init__(self, seed=1, bounds=None):
        self.bounds = bounds
        self.damage = []
        self.instances = {}
        super().__init__(seed, checkpoint=lambda session: checkpoint_signal(self.keeper, session, self.world.clock))

    def others(self):
        self.keeper = Keeper(
            self.store,
            clock=self.world.clock,
            entropy=self.world.entropy,
            sessions=Holders(self.registry),
            on_damage=self.damage.append,
            bounds=self.bounds,
        )
        self.keeper.load()
        return [self.keeper.published]

    def started(self):
        self.keeper.start()

    def session(self, id, **fields):
        self.instances[id] = self.processes.start(100 + len(self.instances))
        self.register(self.instances[id], id=id, **fields)
        return id

    def die(self, id):
        self.processes.kill(self.instances[id].pid)
        self.world.run_until_idle()

    def ask_save(self, session, *, request_id="", **state):
        draft = Draft(
            session=session,
            content=content_of(state or {"task": "t"}),
            git=None,
            claims=(),
            automatic=False,
            redacted=0,
        )
        origin = self.store.origin("checkpoint.save", session, request_id=request_id, request_hash=b"h" * 16)
        return self.ask(self.keeper.save, draft, origin)

    def save(self, session, **state):
        """The checkpoint as it is kept."""
        return self.keeper.content(saved_in(self.wait(self.ask_save(session, **state))))

    def kept(self, session):
        return [each.id for each in self.keeper.shelf.of(session)]

    def spoil(self, id):
        """Another byte in a checkpoint, by a way that no hash of a row notices."""
        entry = self.store.get(records.entry_id(id))
        value = msgpack.decode(entry.value)
        value["checkpoint"]["task"] = "something else"
        self.write(entry.id, msgpack.encode(value))

    def lose(self, id):
        self.store.submit(
            self.store.batch(self.store.origin("test"), [], [Delete(records.entry_id(id))]), lambda _: None
        )
        self.world.run_until_idle()

    def quarantined(self):
        return [entry.id[2] for entry in self.store.scan(records.SPACE, records.QUARANTINE, "")]

    def check_followed(self):
        """The shelf is what is durable, whatever happened."""
        stored = {each.id[2] for each in self.store.scan(records.SPACE, GLOBAL, "") if not records.is_head(each.id[2])}
        assert {each.id for each in self.keeper.shelf} == stored
        entries = [self.store.get(records.entry_id(id)) for id in stored]
        assert self.keeper.shelf.bytes == sum(len(each.value) for each in entries)


@pytest.fixture
def shelved():
    return Shelved()


@pytest.fixture
def make_shelved():
    return Shelved
