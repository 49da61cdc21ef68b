"""The verbs about what was: history, compact, revision_at, revert, purge.

Rule: names and meaning are those of `client/PROTOCOL.md`.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Version, Written


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

    The newest 50 versions of each entry stay, for `history`, but of one that was deleted below. Watches that have not
    come so far end with `compacted`. What is below the log window already is nothing to do. What goes is in a backup
    first. Errors: future_revision, damaged, io_error.
    """

    method: ClassVar[str] = "compact"
    revision: int


class RevisionAtReply(Reply, frozen=True, kw_only=True):
    """`at_revision` is what to read at, `time` when it was written."""

    at_revision: int
    time: float


class RevisionAt(Request[RevisionAtReply], frozen=True, kw_only=True):
    """The newest revision written at `time` (seconds since the epoch) or before it, by the daemon's wall clock.

    Where that clock was set back, several may fit: it is one that was written by then, and the next one after it was
    not. Errors: compacted.
    """

    method: ClassVar[str] = "revision_at"
    time: float


class RevertReply(Reply, frozen=True, kw_only=True):
    """`written` is what it did to go back to `to_revision`, or would do in a dry run (then without versions, revisions
    and times); `unchanged` entries were as they had been. `repeated` is True when this request id had been committed
    before.
    """

    to_revision: int
    written: list[Written] = []
    unchanged: int = 0
    repeated: bool = False


class Revert(Request[RevertReply], frozen=True, kw_only=True):
    """Put back what stood at `to_revision`: one entry, or all under a prefix, as one batch; what was absent is deleted.

    A reverted entry keeps the lease it has now. Nobody's later write is lost unseen: what the daemon decided on still
    stands when the batch is written, else it decides again. Errors as for `put`, and compacted, future_revision.
    """

    method: ClassVar[str] = "revert"
    to_revision: int
    key: str = ""
    prefix: str | UnsetType = UNSET
    expect_revision: int | UnsetType = UNSET
    dry_run: bool = False
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"


class PurgeReply(Reply, frozen=True, kw_only=True):
    """`written` is the deletion (None: the entry was absent, or stays), `purged` how many versions lost their value
    now. A new backup was made then, and those that still held one of them were dropped (`backups_dropped`); `backups`
    hold one still, since that failed. `repeated` is True when this request id had been committed before.
    """

    written: Written | None = None
    purged: int = 0
    backups: list[str] = []
    backups_dropped: list[str] = []
    repeated: bool = False


class Purge(Request[PurgeReply], frozen=True, kw_only=True):
    """Take the values of an entry out of the store, its history, log and files: the entry is deleted, then every
    version of it loses its value and keeps the rest. With `before_revision` only versions below it, and the entry stays
    when it is newer.

    It may be repeated, also after a crash. Errors as for `delete`, and future_revision.
    """

    method: ClassVar[str] = "purge"
    key: str
    before_revision: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"
