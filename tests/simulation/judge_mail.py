"""Oracles over mail: no letter appears from nowhere, is sent twice, goes back or is lost; none is handed over twice;
a box shows what is in it, in order.

They read `$mail` as the log has it, with nothing of the daemon's code. Rule: pure functions from a history to sentences
about what is wrong with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from msgspec import msgpack

from cosession.messages.mail import Inbox, InboxReply, Send, SendReply
from cosession.model import Letter, Session
from simulation.history import Call, History, Row
from simulation.knobs import BOX_LETTERS_MAX
from simulation.model import Model

SPACE: Final = "$mail"
STATES: Final = ("queued", "delivered", "read")
Place = tuple[str, str]
_decode = msgpack.Decoder(Letter).decode
_decode_session = msgpack.Decoder(Session).decode


class Standing(NamedTuple):
    """A letter in a box, and the revision that first kept it, in whatever box."""

    letter: Letter
    first: int


class _Boxes:
    """All letters as they stand, and the sessions, one row after the other."""

    def __init__(self) -> None:
        self.letters: dict[Place, Standing] = {}
        self.sessions: dict[str, Session] = {}

    def take(self, row: Row) -> Iterator[str]:
        """The changes of one batch, and what is wrong with them."""
        mine = [change for change in row.outcome.changes if change.id[0] == SPACE]
        for change in row.outcome.changes:
            if change.id[0] == "$sessions":
                self.sessions.pop(change.id[2], None)
                if change.kind == "put":
                    self.sessions[change.id[2]] = _decode_session(change.value)
        gone: dict[str, list[Standing]] = {}
        for change in mine:
            if change.kind != "put":
                box, _, id = change.id[2].partition("/")
                standing = self.letters.pop((box, id), None)
                if standing is not None:
                    gone.setdefault(id, []).append(standing)
        for change in mine:
            if change.kind == "put":
                yield from self._put(row, _decode(change.value), gone)
        for id, left in gone.items():
            for standing in left:
                yield from self._left(row, id, standing)

    def _put(self, row: Row, letter: Letter, gone: dict[str, list[Standing]]) -> Iterator[str]:
        place, what = (letter.to, letter.id), f"revision {row.revision}: letter {letter.text} to {letter.to}"
        before = self.letters.get(place)
        origin = row.outcome.origin
        if before is not None:
            first = before.first
            if STATES.index(letter.state) <= STATES.index(before.letter.state):
                yield f"{what} went from {before.letter.state} to {letter.state}"
            if _said(letter) != _said(before.letter):
                yield f"{what} says something else than before"
        elif origin.operation == "mail.send":
            first = row.revision
            if letter.sender != origin.session or letter.state != "queued" or letter.passed_from:
                yield f"{what} is of {letter.sender}, sent by {origin.session}"
            unread = [each for each in self.letters.values() if each.letter.to == letter.to]
            unread = [each for each in unread if each.letter.state != "read"]
            if len(unread) >= BOX_LETTERS_MAX and not any(each.letter.passed_from for each in unread):
                yield f"{what} came into a box of {len(unread)} unread letters"
        else:
            source = next(iter(gone.get(letter.id, ())), None)
            if source is None or _said(source.letter) != _said(letter) or source.letter.state == "read":
                yield f"{what} appeared from nowhere"
            first = source.first if source is not None else row.revision
        self.letters[place] = Standing(letter, first)

    def _left(self, row: Row, id: str, standing: Standing) -> Iterator[str]:
        """A letter went out of a box: it was read, or another box has it, or its session is no more."""
        letter = standing.letter
        reads = row.outcome.origin.operation == "mail.read" and row.outcome.origin.session == letter.to
        elsewhere = any(place[1] == id for place in self.letters if place[0] != letter.to)
        if letter.state == "read" or reads or letter.to not in self.sessions:
            return
        if not elsewhere or letter.to not in self.sessions:
            yield f"revision {row.revision} lost letter {letter.text} to {letter.to}"


def letters(history: History, model: Model) -> Iterator[str]:
    """Every letter of the log was sent once, goes forward, and leaves its box for a reason; every one that somebody was
    told of is in it; and at rest none waits for a session whose successor lives.
    """
    del model
    boxes = _Boxes()
    asked = {call.request.text for call in history.calls if isinstance(call.request, Send)}
    placed: dict[str, set[str]] = {}
    for row in history.rows:
        yield from boxes.take(row)
        for change in row.outcome.changes:
            if change.id[0] == SPACE and row.outcome.origin.operation == "mail.send":
                box, _, id = change.id[2].partition("/")
                placed.setdefault(id, set()).add(box)
                if _decode(change.value).text not in asked:
                    yield f"revision {row.revision} sent letter {id}, which nobody wrote"
    once = Counter(text for row in history.rows for text in _sent(row))
    yield from (f"letter {text} was sent {times} times" for text, times in once.items() if times > 1)
    for call in history.calls:
        reply = call.outcome
        if isinstance(reply, SendReply) and isinstance(call.request, Send) and set(reply.to) != placed.get(reply.id):
            yield f"{_name(call)} was told of letter {reply.id} to {reply.to}, the log has {placed.get(reply.id)}"
    if history.quiet is not None:
        for (box, _), standing in boxes.letters.items():
            record = boxes.sessions.get(box)
            if record is None:
                yield f"letter {standing.letter.text} is in the box of {box}, of which nothing is known"
            elif standing.letter.state != "read" and _successor(boxes.sessions, record):
                yield f"letter {standing.letter.text} waits for {box}, although {record.replaced_by} goes on for it"


def handed(history: History, model: Model) -> Iterator[str]:
    """No letter is handed over twice to one session, however often it is asked."""
    del model
    placed: Counter[Place] = Counter()
    for row in history.rows:
        for change in row.outcome.changes:
            if change.id[0] == SPACE and change.kind == "put" and _decode(change.value).state == "queued":
                placed[_place(change.id[2])] += 1
    given: Counter[Place] = Counter()
    for call in history.calls:
        if isinstance(call.outcome, InboxReply) and isinstance(call.request, Inbox) and call.request.new:
            for letter in call.outcome.letters:
                place = (call.outcome.box, letter.id)
                given[place] += 1
                if given[place] > placed[place]:
                    yield f"{_name(call)} was handed letter {letter.text} once more"


def inbox(history: History, model: Model) -> Iterator[str]:
    """Who looks into a box sees the letters that are in it then, in the order in which they were first kept."""
    del model
    looks: dict[int, list[Call]] = {}
    for call in history.calls:
        if isinstance(call.outcome, InboxReply) and isinstance(call.request, Inbox) and not call.request.new:
            looks.setdefault(call.outcome.revision, []).append(call)
    boxes = _Boxes()
    revision = 0
    for row in (None, *history.rows):
        if row is not None:
            for _ in boxes.take(row):
                pass
            revision = row.revision
        for call in looks.get(revision, ()):
            yield from _looked(call, boxes)


def _looked(call: Call, boxes: _Boxes) -> Iterator[str]:
    request: Any = call.request
    reply: Any = call.outcome
    found = [each for each in boxes.letters.values() if each.letter.to == reply.box]
    found = [each for each in found if request.all or each.letter.state != "read"]
    found.sort(key=lambda each: each.first)
    wanted = [each.letter for each in found][: request.limit]
    if reply.letters != wanted or reply.more != (len(found) > request.limit):
        told = [f"{each.text} ({each.state})" for each in reply.letters]
        there = [f"{each.text} ({each.state})" for each in wanted]
        yield f"{_name(call)} was shown {told} of {reply.box} at revision {reply.revision}, where {there} were"


def _successor(sessions: dict[str, Session], record: Session) -> bool:
    """Whether somebody lives who goes on for an ended session."""
    seen = {record.id}
    while record.state not in ("active", "idle", "suspect"):
        following = sessions.get(record.replaced_by)
        if following is None or following.id in seen:
            return False
        seen.add(following.id)
        record = following
    return len(seen) > 1


def _sent(row: Row) -> set[str]:
    """The texts of the letters that a batch sent: of one to all, one text."""
    if row.outcome.origin.operation != "mail.send":
        return set()
    return {_decode(change.value).text for change in row.outcome.changes if change.id[0] == SPACE}


def _said(letter: Letter) -> tuple[object, ...]:
    return letter.id, letter.text, letter.sender, letter.thread, letter.importance, letter.to_all, letter.sent_at


def _place(key: str) -> Place:
    box, _, id = key.partition("/")
    return box, id


def _name(call: Call) -> str:
    return f"call {call.number} of {call.client} ({type(call.request).__name__})"
