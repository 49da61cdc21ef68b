# Made from cosession/aio/mail.py by tests/client/unasync.py; change that one.
"""Letters of a session of this program: sent, listed, read, and taken one by one as they come.

Rule: a letter that was given to the program counts as read when it says so (`read`), or comes back for the next.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import msgspec

from cosession.errors import Closed, CosessionError, TimedOut
from cosession.messages import Request
from cosession.messages.base import R
from cosession.messages.mail import Inbox, Read, Send, SendReply
from cosession.model import Change, Importance, Letter

from .io import Startable, launch, now
from .watch import Watch

_SPACE = "$mail"


class Caller(Protocol):
    """What mail needs of its client."""

    def call(self, request: Request[R], *, timeout_s: float | None = None) -> R:
        """See `Verbs.call`."""
        ...

    def watch(self, prefix: str = "", *, project: str | None = None, space: str = "context") -> Watch:
        """See `Client.watch`."""
        ...


class Correspondent(Startable):
    """The verbs of mail of a session, by its `id`; see `Session`."""

    client: Caller

    @property
    def id(self) -> str:
        """The session's id."""
        raise NotImplementedError

    def send(
        self,
        to: str,
        text: str,
        *,
        thread: str = "",
        importance: Importance = "normal",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> SendReply:
        """Write a letter `to` a session, by its id, or by its name where it is the only one that has it.

        `text` has up to 8,192 bytes; put what is larger into the context and write which key to read. `thread` is that
        of the letter it answers, `importance` one of low, normal, high; `timeout_s` and `request_id` as for all writes.
        `waiting` of the reply names a session that has died: the letter waits for whoever goes on in its place. Raises
        CosessionError `not_found` (with `nearest` names in `data`), `session_ended` (it was closed), `quota_exceeded`
        (its box is full, or a quota), and what all writes may raise, see `Client`.

            with client.session(agent="example", name="wren", heartbeat_s=0) as session:
                sent = session.send("wren", "remember the tests")
                [letter.text for letter in session.inbox()]  # -> ['remember the tests']
                session.read(sent.id)  # -> 0
        """
        request = Send(to=to, text=text, thread=thread, importance=importance, session=self.id, request_id=request_id)
        return self.client.call(request, timeout_s=timeout_s)

    def send_to_all(
        self,
        text: str,
        *,
        project: str | None = None,
        thread: str = "",
        importance: Importance = "normal",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> SendReply:
        """Write a letter to all other sessions that live in `project` (None: the one of this session), a copy each.

        `full` of the reply names those whose box has no room. `text`, `thread`, `importance`, `request_id`, `timeout_s`
        and errors as for `send`; `not_found` when nobody else is there, TooLarge with over 100.
        """
        request = Send(
            all=True,
            text=text,
            thread=thread,
            importance=importance,
            project=self._own_project() if project is None else project,
            session=self.id,
            request_id=request_id,
        )
        return self.client.call(request, timeout_s=timeout_s)

    def inbox(
        self, *, kept: bool = False, new: bool = False, limit: int = 50, timeout_s: float | None = None
    ) -> list[Letter]:
        """The first `limit` letters that this session has not read, the oldest first; with `kept` those as well that it
        has, the newest of which are kept; with `new` only those that were never handed over, which they are with this
        call. `timeout_s` as for all calls.
        """
        request = Inbox(all=kept, new=new, limit=limit, session=self.id)
        reply = self.client.call(request, timeout_s=timeout_s)
        return reply.letters

    def read(self, *letters: Letter | str, timeout_s: float | None = None) -> int:
        """Say that these `letters` (or ids) were read, all without any; returns how many are left. They no longer count
        for the box. `timeout_s` as for all calls.
        """
        ids = [letter if isinstance(letter, str) else letter.id for letter in letters]
        reply = self.client.call(Read(ids=ids, all=not ids, session=self.id), timeout_s=timeout_s)
        return reply.unread

    def letters(self, *, timeout_s: float | None = None) -> Letters:
        """The letters of this session as they come, those that it has not read first; `timeout_s` is here how long one
        may be waited for (None: without end). See `Letters`.

            with client.session(agent="example", name="ibis", heartbeat_s=0) as session:
                session.send("ibis", "first")
                with session.letters(timeout_s=10) as letters:
                    letter = letters.next()
                (letter.text, letter.sender_name, letter.state)  # -> ('first', 'ibis', 'queued')
        """
        return launch(Letters(self, timeout_s=timeout_s))

    def _own_project(self) -> str:
        """The project of this session, as the daemon knows it."""
        raise NotImplementedError


class Letters(Startable):
    """An iterator over the letters of a session, in order, each once, that waits for more.

    A letter counts as read when the program comes back for the next one; who leaves before that finds the last one
    unread, and says `Session.read` if it was not. Iterating raises TimedOut after the `timeout_s` of `letters` without
    one, what a watch raises, see `Watch`, and stops after `close()`. One consumer at a time.
    """

    def __init__(self, session: Correspondent, *, timeout_s: float | None) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._watch: Watch | None = None
        self._given: set[str] = set()  # ids of letters that are not known to be read yet
        self._last = ""
        self._closed = False

    def next(self, timeout_s: float | None = None) -> Letter:
        """The next letter, waited for at most `timeout_s` seconds (None: as `letters` was told).

        Raises TimedOut, Closed after `close()`, and what iterating raises.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = None if timeout_s is None else now() + timeout_s
        if self._last:
            self._session.read(self._last)
            self._last = ""
        while True:
            watch = self._started()
            left_s = None if deadline is None else deadline - now()
            if left_s is not None and left_s <= 0:
                raise TimedOut("cannot wait longer: no letter came in time")
            item = watch.next(left_s)
            letter = self._unseen(item) if isinstance(item, Change) else None
            if letter is not None:
                self._last = letter.id
                return letter

    def close(self) -> None:
        """End it; a consumer that waits stops. Harmless when done before."""
        self._closed = True
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def __iter__(self) -> Self:
        """Itself: one consumer at a time."""
        return self

    def __next__(self) -> Letter:
        """The next letter; stops after `close()`."""
        try:
            return self.next()
        except Closed:
            if not self._closed:
                raise
            raise StopIteration from None

    def _start(self) -> None:
        if not self._closed:
            self._started()

    def _started(self) -> Watch:
        if self._closed:
            raise Closed("cannot read letters: this was closed")
        if self._watch is None:
            session = self._session
            project = session._own_project()  # noqa: SLF001 - of this module
            self._watch = session.client.watch(f"{session.id}/", project=project, space=_SPACE)
        return self._watch

    def _unseen(self, change: Change) -> Letter | None:
        """The letter in a change, unless it is gone, read, or was given already."""
        id = change.key.rpartition("/")[2]
        letter = _letter(change.value) if change.kind == "put" else None
        if letter is None or letter.state == "read":
            self._given.discard(id)
            return None
        if id in self._given:
            return None
        self._given.add(id)
        return letter


def _letter(value: Any) -> Letter:
    try:
        return msgspec.convert(value, Letter)
    except msgspec.ValidationError as error:
        raise CosessionError(f"cannot read a letter: {error}; run: cosession doctor", code="damaged") from None
