"""mail.send, inbox, read: from a request to the post room and back.

Rule: here a request is tied to the session it acts for; what becomes of letters is the post room's.
"""

from __future__ import annotations

import re
from typing import Final

from cosession.errors import CosessionError, InvalidRequest, NotAllowed, TooLarge
from cosession.messages import Reply
from cosession.messages import mail as messages
from cosession.messages.limits import (
    MAIL_BOX_LETTERS_MAX,
    MAIL_READ_KEPT,
    MAIL_TEXT_BYTES_MAX,
    MAIL_THREAD_BYTES_MAX,
    RANGE_ENTRIES_MAX,
    SESSION_ID_BYTES_MAX,
)
from cosession.model import TERMINAL_STATES, Letter
from cosessiond.mail.letters import Held
from cosessiond.mail.postroom import PORTION
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.proposing import refuse_unless_committed
from cosessiond.server.table import Access, Row
from cosessiond.sessions.admission import check_text
from cosessiond.store.engine import Committed, Outcome, Refused

#: About what a letter takes in an answer beside its text.
_COVER_BYTES: Final = 512
_LONE: Final = re.compile("[\ud800-\udfff]")


def send(core: Core, call: Call, request: messages.Send) -> None:
    """A letter to one session, or a copy to each of a project, as one batch."""

    def answer(outcome: Committed) -> Reply:
        boxes = [change.id[2].rpartition("/") for change in outcome.changes]
        to = [box for box, _, _ in boxes]
        states = {box: found.state for box in to if (found := core.post.known(box)) is not None}
        return messages.SendReply(
            revision=core.store.revision,
            id=boxes[0][2] if boxes else "",
            to=to,
            waiting=[box for box in to if states.get(box) in TERMINAL_STATES],
            full=[] if outcome.repeated else full,
            repeated=outcome.repeated,
        )

    def settle(outcome: Outcome) -> None:
        if isinstance(outcome, Committed):
            call.reply(answer(outcome))
            return
        assert isinstance(outcome, Refused), "it compares nothing"
        call.fail(CosessionError(outcome.message, code=outcome.code))

    full: list[str] = []
    try:
        _check_letter(request)
        origin = admission.origin(core, call, request)
        sender = _require(origin.session, "send")
        letter = Letter(
            id="", to="", sender=sender, text=request.text, thread=request.thread, importance=request.importance
        )
        if request.all:
            sending = core.post.address_all(letter, request.project)
        else:
            sending = core.post.address(letter, request.to)
        full += sending.full
        core.post.submit(sending, origin, settle)
    except CosessionError as error:
        refuse_unless_committed(core, call, request, error, answer)


def inbox(core: Core, call: Call, request: messages.Inbox) -> messages.InboxReply | None:
    """The letters in a box; with `new` they count as handed over before they are shown."""
    if not 1 <= request.limit <= RANGE_ENTRIES_MAX:
        raise InvalidRequest(f"cannot show {request.limit} letters: the limit is 1 to {RANGE_ENTRIES_MAX}; choose one")
    if request.new and (request.all or request.box):
        raise InvalidRequest(
            "cannot hand over letters that way: `new` goes with neither `all` nor `box`; leave one out"
        )
    if request.box:
        box = core.registry.find(request.box).id
    else:
        box = _require(admission.acting_session(core, call, request.session), "read letters")
    boxes = core.post.boxes
    if not request.new:
        found = boxes.letters(box) if request.all else boxes.unread(box)
        return _shown(core, call, box, found, request.limit)
    found, more = _fitting(call, core.post.undelivered(box), min(request.limit, PORTION))

    def done(outcome: list[Held] | CosessionError) -> None:
        if isinstance(outcome, CosessionError):
            call.fail(outcome)
        else:
            call.reply(_shown(core, call, box, outcome, PORTION, more=more))

    core.post.hand_over(box, [held.id for held in found], done)
    return None


def read(core: Core, call: Call, request: messages.Read) -> None:
    """Letters that were read; they make room in the box."""
    if bool(request.ids) == request.all:
        raise InvalidRequest("cannot read that: name the ids of letters, or say `all`, and not both")
    if len(request.ids) > MAIL_BOX_LETTERS_MAX + MAIL_READ_KEPT:
        limit = MAIL_BOX_LETTERS_MAX + MAIL_READ_KEPT
        raise TooLarge(
            f"cannot read {len(request.ids)} letters at once: a box has at most {limit}; name those, or say `all`",
            data={"size": len(request.ids), "limit": limit},
        )
    box = _require(admission.acting_session(core, call, request.session), "read letters")
    boxes = core.post.boxes
    ids = request.ids or [held.id for held in boxes.unread(box)]
    absent = [id for id in dict.fromkeys(request.ids) if boxes.get(box, id) is None]

    def done(error: CosessionError | None) -> None:
        if error is not None:
            call.fail(error)
        else:
            call.reply(messages.ReadReply(revision=core.store.revision, absent=absent, unread=boxes.count(box)))

    core.post.read(box, ids, done)


def _shown(
    core: Core, call: Call, box: str, held: list[Held], limit: int, *, more: bool = False
) -> messages.InboxReply:
    fitting, cut = _fitting(call, held, limit)
    letters = [letter for letter in map(core.post.open, fitting) if letter is not None]
    return messages.InboxReply(
        revision=core.store.revision, box=box, letters=letters, unread=core.post.boxes.count(box), more=more or cut
    )


def _fitting(call: Call, held: list[Held], limit: int) -> tuple[list[Held], bool]:
    """The first of them that fit into one answer, and whether there are more."""
    left_bytes = call.page_bytes_max
    for count, each in enumerate(held):
        left_bytes -= _COVER_BYTES + each.size_bytes
        if count == limit or left_bytes < 0:
            return held[:count], True
    return held, False


def _check_letter(request: messages.Send) -> None:
    """Raises InvalidRequest or TooLarge for what is no letter, wherever it goes. The text may hold any characters, like
    a value: whoever shows it on a terminal quotes them.
    """
    if bool(request.to) == request.all:
        raise InvalidRequest("cannot send that: name a session in `to`, or say `all`, and not both")
    if _LONE.search(request.text):
        raise InvalidRequest("cannot send that text: it holds a lone surrogate; send valid Unicode")
    size = len(request.text.encode())
    if not 0 < size <= MAIL_TEXT_BYTES_MAX:
        raise TooLarge(
            f"cannot send a text of {size} bytes: 1 to {MAIL_TEXT_BYTES_MAX}; put the rest into the context, and write "
            "which key to read",
            data={"size": size, "limit": MAIL_TEXT_BYTES_MAX},
        )
    check_text(request.thread, "thread", MAIL_THREAD_BYTES_MAX)
    check_text(request.to, "to", SESSION_ID_BYTES_MAX * 2)
    admission.check_project(request.project)


def _require(session: str, what: str) -> str:
    if not session:
        raise NotAllowed(f"cannot {what} for nobody; register a session first, or name one of yours")
    return session


ROWS: Final = (
    Row(messages.Send, Access.WRITE, send),
    Row(messages.Inbox, Access.READ, inbox),
    Row(messages.Read, Access.WRITE, read),
)
