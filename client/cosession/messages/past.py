"""The verbs about what was: history.

Rule: names and meaning are those of `client/PROTOCOL.md`.
"""

from __future__ import annotations

from typing import ClassVar

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Version


class HistoryReply(Reply, frozen=True, kw_only=True):
    """`versions` newest first; `more` says that older ones are kept below the last one shown."""

    versions: list[Version] = []
    more: bool = False


class History(Request[HistoryReply], frozen=True, kw_only=True):
    """The newest versions of one entry (at most 50 are kept for ever), below `before_revision` when given."""

    method: ClassVar[str] = "history"
    key: str
    limit: int = 50
    before_revision: int = 0
    project: str = GLOBAL
    space: str = "context"
