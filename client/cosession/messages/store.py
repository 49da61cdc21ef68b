"""The verbs of the context store as it stands: get, range, put, delete, merge, add, append, txn.

Rule: names and meaning are those of `client/PROTOCOL.md`; `value` and `patch` are JSON data. In the daemon they
stay raw MessagePack bytes from admission to delivery.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from msgspec import UNSET, Raw, Struct, UnsetType, field

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Entry, Written

CompareField = Literal["create_revision", "mod_revision", "version"]


class GetReply(Reply, frozen=True, kw_only=True):
    """`entry` is None when absent."""

    entry: Entry | None = None


class Get(Request[GetReply], frozen=True, kw_only=True):
    """One entry, now or as it was `at_revision`. Errors: compacted, future_revision."""

    method: ClassVar[str] = "get"
    key: str
    project: str = GLOBAL
    space: str = "context"
    at_revision: int = 0


class RangeReply(Reply, frozen=True, kw_only=True):
    """A page in key order; `more` says that keys follow. For the next page pass `after` = the last key and
    `at_revision` = `read_revision`, so that all pages show one revision.
    """

    entries: list[Entry] = []
    more: bool = False
    read_revision: int = 0


class Range(Request[RangeReply], frozen=True, kw_only=True):
    """Entries whose key starts with `prefix`, at most `limit` (1 to 1,000) or 960 KiB, in key order."""

    method: ClassVar[str] = "range"
    prefix: str = ""
    after: str = ""
    limit: int = 1_000
    keys_only: bool = False
    project: str = GLOBAL
    space: str = "context"
    at_revision: int = 0


class PutReply(Reply, frozen=True, kw_only=True):
    """`repeated` is True when this request id had been committed before and nothing was written now."""

    written: Written
    repeated: bool = False


class Put(Request[PutReply], frozen=True, kw_only=True):
    """Write one entry. `expect_revision`: the mod_revision that must stand (0 = must not exist; absent = any).

    At most one of `ttl_s` (the entry's own lease, restarted by each put) and `ephemeral` (it ends with the
    caller's session, named by `session` when the caller has several). A put with neither detaches the entry.
    `fence`: the fencing token of a claim of that session, which must still stand (0: none).
    Errors: conflict, fenced, too_large, store_full, quota_exceeded, disk_full, request_id_reused, session_ended.
    """

    method: ClassVar[str] = "put"
    key: str
    value: Raw
    expect_revision: int | UnsetType = UNSET
    ttl_s: float = 0.0
    ephemeral: bool = False
    fence: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"


class DeleteReply(Reply, frozen=True, kw_only=True):
    """`written` is None when there was nothing to delete (and nothing was expected)."""

    written: Written | None = None
    repeated: bool = False


class Delete(Request[DeleteReply], frozen=True, kw_only=True):
    """Delete one entry; its history stays. Errors: conflict, request_id_reused."""

    method: ClassVar[str] = "delete"
    key: str
    expect_revision: int | UnsetType = UNSET
    fence: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"


class MergeReply(Reply, frozen=True, kw_only=True):
    """`value` is the merged value (null on a repeat whose version is no longer kept)."""

    written: Written
    value: Any = None
    repeated: bool = False


class Merge(Request[MergeReply], frozen=True, kw_only=True):
    """JSON Merge Patch (RFC 7396) applied in the daemon's commit order: never a conflict without `expect_revision`.

    An absent entry counts as an empty object. A lease of the entry stays as it is. Errors as for `put`.
    """

    method: ClassVar[str] = "merge"
    key: str
    patch: Raw
    expect_revision: int | UnsetType = UNSET
    fence: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"


class AddReply(Reply, frozen=True, kw_only=True):
    """`value` is the new number (null on a repeat whose version is no longer kept)."""

    written: Written
    value: int | float | None = None
    repeated: bool = False


class Add(Request[AddReply], frozen=True, kw_only=True):
    """Add a number in the daemon's commit order: never a conflict without `expect_revision`. An absent entry counts as
    0. Two integers make an integer (`too_large` beyond 64 bits), a float makes a float.

    A lease of the entry stays as it is. Errors as for `put`, and wrong_type.
    """

    method: ClassVar[str] = "add"
    key: str
    number: int | float
    expect_revision: int | UnsetType = UNSET
    fence: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"


class AppendReply(Reply, frozen=True, kw_only=True):
    """`written` is what it did, `length` that of the list now (null on a repeat whose version is no longer kept).

    `repeated` is True when this request id had been committed before and nothing was written now.
    """

    written: Written
    length: int | None = None
    repeated: bool = False


class Append(Request[AppendReply], frozen=True, kw_only=True):
    """Append the elements of `values`, a list, in the daemon's commit order: never a conflict without
    `expect_revision`. An absent entry counts as an empty list.

    A lease of the entry stays as it is. Errors as for `merge`, and wrong_type.
    """

    method: ClassVar[str] = "append"
    key: str
    values: Raw
    expect_revision: int | UnsetType = UNSET
    fence: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"


class CompareEntry(Struct, frozen=True, kw_only=True, tag_field="kind", tag="entry", forbid_unknown_fields=True):
    """True when `field` of the entry equals `value`; an absent entry has 0 in every field."""

    key: str
    field: CompareField = "mod_revision"
    value: int


class CompareRange(Struct, frozen=True, kw_only=True, tag_field="kind", tag="range", forbid_unknown_fields=True):
    """True when no present entry under `prefix` has a mod_revision above `max_mod_revision`."""

    prefix: str
    max_mod_revision: int


class TxnPut(Struct, frozen=True, kw_only=True, tag_field="op", tag="put", forbid_unknown_fields=True):
    """A put inside a transaction."""

    key: str
    value: Raw
    ttl_s: float = 0.0
    ephemeral: bool = False


class TxnDelete(Struct, frozen=True, kw_only=True, tag_field="op", tag="delete", forbid_unknown_fields=True):
    """A delete inside a transaction; of an absent key it writes nothing."""

    key: str


class TxnMerge(Struct, frozen=True, kw_only=True, tag_field="op", tag="merge", forbid_unknown_fields=True):
    """A merge patch inside a transaction."""

    key: str
    patch: Raw


class TxnAdd(Struct, frozen=True, kw_only=True, tag_field="op", tag="add", forbid_unknown_fields=True):
    """An addition inside a transaction."""

    key: str
    number: int | float


class TxnAppend(Struct, frozen=True, kw_only=True, tag_field="op", tag="append", forbid_unknown_fields=True):
    """An append inside a transaction; `values` is a list."""

    key: str
    values: Raw


Compare = CompareEntry | CompareRange
TxnWrite = TxnPut | TxnDelete | TxnMerge | TxnAdd | TxnAppend


class TxnReply(Reply, frozen=True, kw_only=True):
    """`succeeded`: the compares held and `then` was written; else `else` was. `written` follows the writes that changed
    something. `txn_revision` is the revision of the batch (0 when it wrote nothing). `repeated` is True when this
    request id had been committed before and nothing was written now.
    """

    succeeded: bool
    txn_revision: int = 0
    written: list[Written] = []
    repeated: bool = False


class Txn(Request[TxnReply], frozen=True, kw_only=True):
    """Compares and writes as one batch: all or nothing, at one revision, each key written at most once.

    When a compare fails and `else` is empty the answer is the error `conflict` with the entry that stood in the way.
    """

    method: ClassVar[str] = "txn"
    compares: list[Compare] = []
    then: list[TxnWrite] = []
    otherwise: list[TxnWrite] = field(default_factory=list, name="else")
    fence: int = 0
    session: str = ""
    request_id: str = ""
    project: str = GLOBAL
    space: str = "context"
