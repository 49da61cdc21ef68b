"""Mail in a virtual world: the post room beside a registry, see `rig`; sessions are processes that can be killed.

After each batch the boxes in memory are held against the entries, and each letter against what it was before.
"""

from __future__ import annotations

import pytest

from cosession.model import Letter
from cosessiond.mail.letters import SPACE, opened
from cosessiond.mail.postroom import PostRoom
from cosessiond.server.addresses import Addresses
from rig import Rig

STATES = ("queued", "delivered", "read")


class Mail(Rig):
    """A registry and a post room over one store."""

    def __init__(self, seed=1):
        self.instances = {}
        self.states = {}
        super().__init__(seed)

    def others(self):
        self.post = PostRoom(
            self.store,
            clock=self.world.clock,
            entropy=self.world.entropy,
            deadlines=self.deadlines,
            sessions=Addresses(self.registry),
            flush=lambda: None,
        )
        return [self.post.published, self.look]

    def started(self):
        self.post.start()

    # Sessions.

    def session(self, id, pid=0, **fields):
        """A session with a process of its own, unless that is named."""
        number = pid or 100 + len(self.instances)
        instance = self.processes.start(number)
        self.instances[id] = instance
        self.register(instance, id=id, **fields)
        return id

    def die(self, id):
        self.processes.kill(self.instances[id].pid)
        self.world.run_until_idle()

    # Letters.

    def send(self, sender, to, text="a word", **fields):
        """The letter, as it was addressed, once it is durable."""
        return self.wait(self.begin_send(sender, to, text, **fields))

    def begin_send(self, sender, to, text="a word", **fields):
        letter = Letter(id="", to="", sender=sender, text=text, **fields)
        sending = self.post.address(letter, to) if to else self.post.address_all(letter, "global")
        answer = []
        origin = self.store.origin("mail.send", sender)
        self.post.submit(sending, origin, lambda _: answer.append(sending))
        return answer

    def texts(self, box):
        """What a session has not read, in order."""
        return [self.post.open(held).text for held in self.post.boxes.unread(box)]

    def given(self, box, count=50):
        """The texts that a session is handed over now."""
        ids = [held.id for held in self.post.undelivered(box)[:count]]
        found = self.wait(self.ask(self.post.hand_over, box, ids))
        return [self.post.open(held).text for held in found]

    def read(self, box, *ids):
        """Read these, or all."""
        ids = ids or [held.id for held in self.post.boxes.unread(box)]
        return self.wait(self.ask(self.post.read, box, ids))

    def ids(self, box):
        return [held.id for held in self.post.boxes.letters(box)]

    # What must hold.

    def look(self, committed):
        """At each batch: a letter never goes back, and is in the box that its key says."""
        for change in committed.changes:
            if change.id[0] == SPACE and change.kind == "put":
                letter = opened(self.store.get(change.id))
                assert change.id[2] == f"{letter.to}/{letter.id}"
                rank = STATES.index(letter.state)
                assert self.states.get(change.id, -1) < rank, f"{change.id} went back to {letter.state}"
                self.states[change.id] = rank
            elif change.id[0] == SPACE:
                self.states.pop(change.id, None)

    def check_memory(self):
        """The boxes are what is durable, and nothing is on its way."""
        boxes = self.post.boxes
        standing = {entry.id: entry for entry in self.store.index if entry.id[0] == SPACE}
        held = {each.entry_id: each for box in boxes for each in boxes.letters(box)}
        assert set(held) == set(standing)
        assert len(boxes) == len(standing)
        assert boxes.bytes == sum(len(entry.value) for entry in standing.values())
        for box in boxes:
            assert boxes.count(box) == sum(each.is_unread for each in boxes.letters(box))
        assert not boxes._coming
        assert not boxes._coming_bytes
        assert not self.post._handing
        assert not self.post._following


@pytest.fixture
def mail():
    found = Mail()
    yield found
    found.world.run_until_idle()
    found.check_memory()
