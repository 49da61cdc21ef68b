"""The verbs of mail: send, inbox, read.

Rule: who sends is never said in a request; it is the session that the caller acts for.
"""

from __future__ import annotations

from typing import ClassVar

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Importance, Letter


class SendReply(Reply, frozen=True, kw_only=True):
    """The `id` of the letter, and the sessions `to` which it went: where one had gone on as another, that one.

    Of those, `waiting` have died: it waits there for who recovers them. `full` had no room and got none. `repeated`: it
    had been sent before, under this request id.
    """

    id: str
    to: list[str] = []
    waiting: list[str] = []
    full: list[str] = []
    repeated: bool = False


class Send(Request[SendReply], frozen=True, kw_only=True):
    """Write a letter `to` a session, by id or by name where one only has it, or to `all` other sessions that live in
    `project`. `thread` is that of the letter it answers.

    Errors: not_allowed (nobody cannot send), not_found, which names sessions that are called nearly so, session_ended
    (it was closed), quota_exceeded (its box is full), too_large.
    """

    method: ClassVar[str] = "mail.send"
    to: str = ""
    all: bool = False
    text: str
    thread: str = ""
    importance: Importance = "normal"
    project: str = GLOBAL
    session: str = ""
    request_id: str = ""


class InboxReply(Reply, frozen=True, kw_only=True):
    """The `letters` of session `box`, the oldest first; `unread` counts those it has not read, `more` says that some
    did not fit.
    """

    box: str
    letters: list[Letter] = []
    unread: int = 0
    more: bool = False


class Inbox(Request[InboxReply], frozen=True, kw_only=True):
    """The letters that a session has not read, or `all` that are kept: the caller's own, or those in the `box` of
    another, by its id or name.

    `new`: only those that were never handed over, which they are with this answer, so that no two get the same; it
    needs a session of one's own. Without it nothing changes.
    """

    method: ClassVar[str] = "mail.inbox"
    box: str = ""
    all: bool = False
    new: bool = False
    limit: int = 50
    session: str = ""


class ReadReply(Reply, frozen=True, kw_only=True):
    """`absent` are ids of letters that are not in the box; `unread` is what is left to read."""

    absent: list[str] = []
    unread: int = 0


class Read(Request[ReadReply], frozen=True, kw_only=True):
    """Say that the caller's session has read letters: those with these `ids`, or `all`. They no longer count for its
    box; the newest few are kept.
    """

    method: ClassVar[str] = "mail.read"
    ids: list[str] = []
    all: bool = False
    session: str = ""
