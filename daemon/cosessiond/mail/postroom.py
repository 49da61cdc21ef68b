"""The post room: what everything above mail calls. Send, hand over, read, pass on.

A letter has no guard on its recipient: whoever dies, goes on under another id or is forgotten while it is on its way
is seen to afterwards, in `published` and at a start, so writers never wait for one another. What a session leaves
unread is passed on when its record names who goes on for it, and waits until then; it goes when its record does.

Rule: decisions are pure (`letters`) or made from durable memory under compares; what could not be committed is tried
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosession.messages.limits import BATCH_BYTES_MAX, BATCH_WRITES_MAX, MAIL_RECIPIENTS_MAX
from cosession.model import Letter
from cosessiond.clock import Clock, Entropy, ulid
from cosessiond.mail import letters
from cosessiond.mail.boxes import Boxes
from cosessiond.mail.letters import SPACE, Change, Held
from cosessiond.mail.ports import Addressee, Proposed, Sessions, Store
from cosessiond.store.engine import Batch, Committed, Compare, Entry, EntryId, Origin, Outcome, Put, Write
from cosessiond.store.leases import Deadlines

_SESSIONS: Final = "$sessions"
#: How long what follows waits when it could not be committed (disk full, queue full).
RETRY_S: Final = 1.0
#: So many letters are read, or dropped, by one batch: a write each, and one for what goes for it.
PORTION: Final = BATCH_WRITES_MAX // 2
#: Sessions that nobody is to write to any more: nobody recovers what was closed.
_OVER: Final = "closed"


class Sending(Struct, frozen=True):
    """A letter addressed: what is written to which boxes, and which have no room for it."""

    writes: tuple[Put, ...]
    to: tuple[Addressee, ...]
    full: tuple[str, ...] = ()


class PostRoom:
    """All boxes of this daemon."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        entropy: Entropy,
        deadlines: Deadlines,
        sessions: Sessions,
        flush: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._deadlines = deadlines
        self._sessions = sessions
        self._flush = flush
        self._following: set[str] = set()
        self._handing: set[EntryId] = set()  # letters that are being handed over
        self.boxes = Boxes()

    def start(self) -> None:
        """Take in the letters, and follow what became of their sessions meanwhile; `published` must be a listener by
        then, and the sessions known. Raises CosessionError(damaged).
        """
        for entry in self._store.index:
            if entry.id[0] == SPACE:
                self.boxes.put(_held(entry))
        for box in self.boxes:
            self._follow_up(box)

    # The operations.

    def address(self, letter: Letter, to: str) -> Sending:
        """The letter as it goes to the session that `to` names, or to the one that goes on in its place; the sender's
        name and project are filled in.

        Raises not_found, InvalidRequest, CosessionError session_ended for one that nobody reads for any more,
        quota_exceeded for a full box.
        """
        sender = self._sessions.get(letter.sender)
        found = self._sessions.find(to, sender.project if sender else "")
        found = self._sessions.successor(found.id) or found
        if found.state == _OVER:
            message = f"cannot send to {_called(found)}: it was closed, nobody reads its letters; "
            raise CosessionError(
                message + "write to another session (cosession sessions), or into the context",
                code="session_ended",
                data={"session": found.id, "state": found.state},
            )
        return self._sending(letter, sender, [found])

    def address_all(self, letter: Letter, project: str) -> Sending:
        """The letter as it goes to all other live sessions of a project: to those that have room.

        Raises not_found when there is none, quota_exceeded when none has room, TooLarge when there are too many.
        """
        found = [each for each in self._sessions.live_in(project) if each.id != letter.sender]
        if not found:
            raise CosessionError(
                f"cannot send to all: no other session lives in {project!r}; put it into the context for those to come",
                code="not_found",
                data={"project": project},
            )
        if len(found) > MAIL_RECIPIENTS_MAX:
            raise CosessionError(
                f"cannot send to all: {len(found)} sessions live in {project!r}, the limit is {MAIL_RECIPIENTS_MAX}; "
                "put it into the context, which they can watch",
                code="too_large",
                data={"size": len(found), "limit": MAIL_RECIPIENTS_MAX},
            )
        return self._sending(replace(letter, to_all=True), self._sessions.get(letter.sender), found)

    def submit(self, sending: Sending, origin: Origin, done: Callable[[Outcome], None]) -> None:
        """Send it; `done` gets the outcome. Raises what `Store.submit` raises."""
        sizes = [(each.id, len(put.value)) for each, put in zip(sending.to, sending.writes, strict=True)]

        def expect(sign: int) -> None:
            for box, size in sizes:
                self.boxes.expect(box, size, sign)

        def settled(outcome: Outcome) -> None:
            expect(-1)
            done(outcome)

        self._store.submit(self._store.batch(origin, (), sending.writes), settled)
        expect(+1)

    def known(self, session: str) -> Addressee | None:
        """What is known of a session."""
        return self._sessions.get(session)

    def open(self, held: Held) -> Letter | None:
        """The letter with its text, None when it is gone. Raises CosessionError(damaged)."""
        entry = self._store.get(held.entry_id)
        return letters.opened(entry) if entry is not None else None

    def undelivered(self, box: str) -> list[Held]:
        """The letters that a session was never given, nor is being given now; cheap where there are none."""
        return [each for each in self.boxes.undelivered(box) if each.entry_id not in self._handing]

    def hand_over(self, box: str, ids: Sequence[str], done: Callable[[list[Held] | CosessionError], None]) -> None:
        """Give a session these letters, at most PORTION; `done` gets those that nobody was given before."""
        assert len(ids) <= PORTION, "they fit into one batch"
        mine = [each for each in self.undelivered(box) if each.id in set(ids)]
        self._handing.update(each.entry_id for each in mine)
        given: list[str] = []

        def decide() -> Batch | None:
            standing = self._standing(box, [each.id for each in mine])
            given[:] = [held.id for held, letter in standing if letter.state == "queued"]
            return self._batch("mail.deliver", letters.handed_over(standing, self._now_s()), box)

        def finished(outcome: Proposed) -> None:
            self._handing.difference_update(each.entry_id for each in mine)
            if isinstance(outcome, CosessionError):
                done(outcome)
            else:
                done([held for held in (self.boxes.get(box, id) for id in given) if held is not None])

        self._store.propose(decide, finished)

    def read(self, box: str, ids: Iterable[str], done: Callable[[CosessionError | None], None]) -> None:
        """Note that a session has read these letters; the oldest read ones beyond what is kept go."""
        left = list(dict.fromkeys(ids))

        def next_portion() -> None:
            portion = left[:PORTION]
            del left[:PORTION]

            def decide() -> Batch | None:
                standing = self._standing(box, portion)
                reading = [held.id for held, _ in standing if held.is_unread]
                change = letters.read(standing, self.boxes.surplus(box, reading), self._now_s())
                return self._batch("mail.read", change, box)

            self._store.propose(decide, finished)

        def finished(outcome: Proposed) -> None:
            if isinstance(outcome, CosessionError) or not left:
                done(_error(outcome))
            else:
                next_portion()

        next_portion()

    # What a session leaves.

    def inheritance(
        self, dead: str, successor: str, writes_max: int, bytes_max: int = BATCH_BYTES_MAX // 2
    ) -> tuple[list[Compare], list[Write]]:
        """What moves the unread letters of a session that has ended into the box of its successor, as many as fit: for
        the batch that says so in its record (`replaced_by`). The rest follows by itself. Decides from memory and
        changes nothing; what the successor has to read may outgrow its box.
        """
        found = self._sessions.get(successor)
        if found is None:
            return [], []
        change = letters.passed_on(
            self.boxes.unread(dead),
            self.open,
            box=successor,
            project=found.project,
            has=lambda id: self.boxes.get(successor, id) is not None,
            writes_max=writes_max,
            bytes_max=bytes_max,
        )
        return list(change.compares), list(change.writes)

    # Following what is durable.

    def published(self, committed: Committed) -> None:
        """A listener of the store, behind the sessions: boxes follow what is durable, and letters their readers."""
        looked: set[str] = set()
        for change in committed.changes:
            if change.id[0] == SPACE:
                if change.kind != "put":
                    self.boxes.remove(change.id)
                    continue
                held = letters.held(
                    change.id,
                    change.value,
                    create_revision=change.create_revision,
                    mod_revision=committed.revision,
                )
                self.boxes.put(held)
                looked.add(held.box)
            elif change.id[0] == _SESSIONS:
                looked.add(change.id[2])
        for box in sorted(looked):
            self._follow_up(box)

    def _follow_up(self, box: str) -> None:
        """See to what a session left that has ended, or of which nothing is known: again until nothing is left."""
        if box in self._following or not self._left_behind(box):
            return
        self._following.add(box)

        def decide() -> Batch | None:
            change = self._left_behind(box)
            return self._batch("mail.pass_on" if change and change.compares else "mail.drop", change)

        def finished(outcome: Proposed) -> None:
            self._following.discard(box)
            if isinstance(outcome, CosessionError):
                self._deadlines.after(("letters of", box), RETRY_S, partial(self._follow_up, box))
            elif outcome is not None:
                self._follow_up(box)
            self._flush()

        self._store.propose(decide, finished)

    def _left_behind(self, box: str) -> Change | None:
        """What is to be done about the letters in a box now, None for nothing."""
        if not self.boxes.has(box):
            return None
        if self._sessions.get(box) is None:
            return letters.dropped(self.boxes.letters(box)[:PORTION])
        successor = self._sessions.successor(box)
        if successor is None or not self.boxes.count(box):
            return None
        compares, writes = self.inheritance(box, successor.id, BATCH_WRITES_MAX)
        return Change(tuple(compares), tuple(writes)) if writes else None

    def _sending(self, letter: Letter, sender: Addressee | None, found: Sequence[Addressee]) -> Sending:
        id = ulid(self._clock, self._entropy)
        letter = replace(
            letter,
            id=id,
            sender_name=sender.name if sender else "",
            project=sender.project if sender else letter.project,
            thread=letter.thread or id,
            sent_at=self._now_s(),
        )
        puts: list[Put] = []
        to: list[Addressee] = []
        full: list[str] = []
        for each in found:
            put = letters.put(each.project, replace(letter, to=each.id))
            try:
                self.boxes.refuse_unless_room(each.id, _called(each), len(put.value))
            except CosessionError:
                full.append(each.id)
                if len(full) == len(found):
                    raise
            else:
                puts.append(put)
                to.append(each)
        self.boxes.refuse_unless_room_in_all(sum(len(put.value) for put in puts))
        return Sending(tuple(puts), tuple(to), tuple(full))

    def _standing(self, box: str, ids: Sequence[str]) -> list[tuple[Held, Letter]]:
        held = [each for each in (self.boxes.get(box, id) for id in ids) if each is not None]
        opened = [(each, self.open(each)) for each in held]
        return [(each, letter) for each, letter in opened if letter is not None]

    def _batch(self, operation: str, change: Change | None, session: str = "") -> Batch | None:
        if change is None or not change.writes:
            return None
        return self._store.batch(self._store.origin(operation, session), change.compares, change.writes)

    def _now_s(self) -> float:
        return self._clock.wall_ms() / 1000.0


def _held(entry: Entry) -> Held:
    return letters.held(entry.id, entry.value, create_revision=entry.create_revision, mod_revision=entry.mod_revision)


def _called(session: Addressee) -> str:
    return f"session {session.name!r} ({session.id})" if session.name else f"session {session.id}"


def _error(outcome: Proposed) -> CosessionError | None:
    return outcome if isinstance(outcome, CosessionError) else None
