"""The verbs about what was: history, compact.

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


class CompactReply(Reply, frozen=True, kw_only=True):
    """`compact_revision` is the oldest revision that can be read at or watched from now; `dropped` batches went."""

    compact_revision: int
    dropped: int


class Compact(Request[CompactReply], frozen=True, kw_only=True):
    """Drop the batches of the log below `revision`, at most the present one; answered when they are gone.

    The newest 50 versions of each entry stay, for `history`. Watches that have not come so far end with `compacted`.
    What is below the log window already is nothing to do. Errors: future_revision.
    """

    method: ClassVar[str] = "compact"
    revision: int
