"""What the client methods of both flavours share: Python arguments to requests, replies to what the caller gets.

Rule: pure; a method is one of these, a call, and one of these again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType, msgpack

from cosession.errors import Compacted, CosessionError, InvalidRequest
from cosession.exchange.plain import require_plain
from cosession.messages.audit import Audit, AuditReply
from cosession.messages.limits import AUDIT_RECORDS_MAX
from cosession.messages.store import Add, Append, Compare, Merge, Put, Range, RangeReply, Txn, TxnWrite
from cosession.model import AuditRecord, Entry, Written
from cosession.wire import TXN_SHAPES

#: How often a listing may begin again because its revision left the log window while it was read.
LISTINGS_MAX: Final = 3
PAGE_ENTRIES: Final = 1_000

_encode = msgpack.Encoder().encode
_txn_parts = msgpack.Decoder(tuple[list[Compare], list[TxnWrite], list[TxnWrite]])


def encoded(value: Any, what: str = "value") -> Raw:
    """JSON data as it travels; raises InvalidRequest for what is none. The daemon checks the rest."""
    try:
        raw = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # UnicodeError is a ValueError
        raise InvalidRequest(f"cannot send {what}: {error}; it must be JSON data") from None
    require_plain(value, what)
    return Raw(raw)


def expected(revision: int | None) -> int | UnsetType:
    """`expect_revision` as it travels: None expects nothing."""
    return UNSET if revision is None else revision


def entry_of(written: Written, value: Any, *, ttl_s: float = 0.0, ephemeral: str = "") -> Entry:
    """The entry that a write left behind; `value` is what the writer gave."""
    return Entry(
        key=written.key,
        value=value,
        version=written.version,
        create_revision=written.create_revision,
        mod_revision=written.mod_revision,
        session=written.session,
        time=written.time,
        ttl_s=ttl_s,
        ephemeral=ephemeral,
    )


def entry_put(request: Put, written: Written, value: Any) -> Entry:
    """The entry that `request` left behind."""
    owner = (request.session or written.session) if request.ephemeral else ""
    return entry_of(written, value, ttl_s=request.ttl_s, ephemeral=owner)


Part = Mapping[str, Any] | msgspec.Struct


def txn_of(compares: Sequence[Part], then: Sequence[Part], otherwise: Sequence[Part], **names: Any) -> Txn:
    """A transaction from structs of `messages.store` or maps of the same shape; raises InvalidRequest."""
    try:
        parts = _txn_parts.decode(_encode((compares, then, otherwise)))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"cannot send the transaction: {error}; {TXN_SHAPES}") from None
    for part in (*compares, *then, *otherwise):
        if isinstance(part, dict):
            require_plain(part, "the transaction")
    return Txn(compares=parts[0], then=parts[1], otherwise=parts[2], **names)


class Listing:
    """All pages of a range as one list, at one revision; at most `limit` entries when that is given."""

    def __init__(self, first: Range, limit: int | None) -> None:
        self._first = first
        self._limit = limit
        self._begun = 1
        self._restart()

    def _restart(self) -> None:
        self.entries: list[Entry] = []
        self._revision = self._first.at_revision
        self.done = self._limit is not None and self._limit <= 0

    def request(self) -> Range:
        """The next page to ask for."""
        missing = PAGE_ENTRIES if self._limit is None else self._limit - len(self.entries)
        return msgspec.structs.replace(
            self._first,
            after=self.entries[-1].key if self.entries else "",
            limit=min(PAGE_ENTRIES, missing),
            at_revision=self._revision,
        )

    def take(self, reply: RangeReply) -> None:
        """A page came; `done` says whether it was the last."""
        self.entries += reply.entries
        self._revision = reply.read_revision
        self.done = not reply.more or not reply.entries or len(self.entries) == self._limit

    def refused(self, error: CosessionError) -> None:
        """A page was refused. Begins again when the revision of the listing left the window; else raises the error."""
        moved = isinstance(error, Compacted) and self.entries and not self._first.at_revision
        if not moved or self._begun >= LISTINGS_MAX:
            raise error
        self._begun += 1
        self._restart()


class AuditListing:
    """The newest records that fit, or with `after` the oldest behind it, as one list of at most `limit`."""

    def __init__(self, first: Audit, limit: int) -> None:
        self._request = first
        self._limit = limit
        self.records: list[AuditRecord] = []
        self.done = limit <= 0

    def request(self) -> Audit:
        """The next page to ask for."""
        missing = self._limit - len(self.records)
        return msgspec.structs.replace(self._request, limit=min(AUDIT_RECORDS_MAX, missing))

    def take(self, reply: AuditReply) -> None:
        """A page came, perhaps an empty one: a filter may pass over more records than one call looks at."""
        self.records += reply.records
        where = {"before": reply.next} if self._request.after is UNSET else {"after": reply.next}
        self._request = msgspec.structs.replace(self._request, epoch=reply.epoch, **where)
        self.done = not reply.more or len(self.records) >= self._limit


def merge_of(key: str, patch: Any, expect_revision: int | None, **names: Any) -> Merge:
    """A merge patch from Python arguments."""
    return Merge(key=key, patch=encoded(patch, "patch"), expect_revision=expected(expect_revision), **names)


def add_of(key: str, number: float, expect_revision: int | None, **names: Any) -> Add:
    """An addition from Python arguments. Raises InvalidRequest for what is no number."""
    if type(number) not in (int, float):
        raise InvalidRequest(f"cannot add {type(number).__name__}: it must be an int or a float")
    return Add(key=key, number=number, expect_revision=expected(expect_revision), **names)


def append_of(key: str, values: Sequence[Any], expect_revision: int | None, **names: Any) -> Append:
    """An append from Python arguments."""
    return Append(key=key, values=encoded(values), expect_revision=expected(expect_revision), **names)
