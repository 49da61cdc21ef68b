"""The contract between the store and whatever keeps it: batch format 1, its outcomes, and the `Engine` protocol.

Batch format 1: `compares` are evaluated once, in order, against the state that all earlier batches left; when all
hold, `then` is written, else `otherwise`. All or nothing. A batch that changes something takes the next revision; one
that changes nothing takes none. Applying is deterministic: the same batches in the same order give the same entries,
revisions, chain hash and state hash in every engine. Nothing local is consulted: no clock, path, pid, randomness,
quota or configuration. The meaning of a format never changes once released.

Rule: plain data and signatures only; no engine is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from cosessiond.store.record import Attached, AuditSpan, KeptRecord

BATCH_FORMAT: Final = 1

#: What one read of the past looks at: keys, and bytes of values, when one of them does not have more already.
PAST_KEYS: Final = 1_024
PAST_BYTES: Final = 256 * 1024

#: What the name of a space of ours begins with, and how many versions its entries keep.
OWN_SPACE: Final = "$"
OWN_VERSIONS: Final = 1

#: Operations of many writes, whose answer shows no value: a repeat of one looks none up, so that it stays cheap.
WIDE_OPERATIONS: Final = frozenset({"txn", "revert"})

#: Where an entry lives: (space, project, key).
EntryId = tuple[str, str, str]

CompareField = Literal["create_revision", "mod_revision", "version"]
ChangeKind = Literal["put", "delete", "expire"]


class Origin(Struct, frozen=True, array_like=True, gc=False):
    """Who proposed a batch. `request_hash` (16 bytes) is of the client's request, to tell a repeat from a reuse."""

    host: str = ""
    session: str = ""
    instance: str = ""
    operation: str = ""
    request_id: str = ""
    request_hash: bytes = b""


class EntryCompare(Struct, frozen=True, array_like=True, tag="entry", gc=False):
    """Holds when `field` of the entry equals `value`; an absent entry has 0 in every field."""

    id: EntryId
    field: CompareField
    value: int


class RangeCompare(Struct, frozen=True, array_like=True, tag="range", gc=False):
    """Holds when no present entry of (space, project) whose key starts with `prefix` has a newer mod_revision."""

    space: str
    project: str
    prefix: str
    max_mod_revision: int

    def selects(self, id: EntryId) -> bool:
        """Whether `id` is one of those looked at."""
        return id[0] == self.space and id[1] == self.project and id[2].startswith(self.prefix)


class Put(Struct, frozen=True, array_like=True, tag="put", gc=False):
    """Write `value` (canonical MessagePack). `ttl_ms` > 0: the entry's own lease; `owner`: the session it ends with."""

    id: EntryId
    value: bytes
    ttl_ms: int = 0
    owner: str = ""


class Delete(Struct, frozen=True, array_like=True, tag="delete", gc=False):
    """Remove the entry if present (else this write does nothing). `kind` tells a user's delete from an expiry."""

    id: EntryId
    kind: Literal["delete", "expire"] = "delete"


class Merge(Struct, frozen=True, array_like=True, tag="merge", gc=False):
    """JSON Merge Patch, RFC 7396: `patch` applied to the entry's value (absent: to an empty object when the patch is
    an object). Keeps `ttl_ms` and `owner` of the entry. A result over VALUE_BYTES_MAX refuses the whole batch, and
    so do results of over BATCH_BYTES_MAX together.
    """

    id: EntryId
    patch: bytes


class Add(Struct, frozen=True, array_like=True, tag="add", gc=False):
    """Add `number` (canonical MessagePack of an integer or float) to the entry's value, absent counts as 0. Keeps
    `ttl_ms` and `owner`. Two integers make an integer, a float makes a float. A value that is no number (a boolean is
    none) refuses the batch as wrong_type, a result beyond 64 bits or that is not finite as too_large.
    """

    id: EntryId
    number: bytes


class Append(Struct, frozen=True, array_like=True, tag="append", gc=False):
    """Append the elements of `values` (canonical MessagePack of a list) to the entry's list, absent counts as empty.
    Keeps `ttl_ms` and `owner`. A value that is no list refuses the batch as wrong_type; sizes and depth as for a merge.
    """

    id: EntryId
    values: bytes


Compare = EntryCompare | RangeCompare
Write = Put | Delete | Merge | Add | Append


class Batch(Struct, frozen=True, array_like=True, gc=False):
    """The one write primitive. Each id is written at most once per branch. `time_ms`: the proposer's wall clock."""

    format: int
    time_ms: int
    origin: Origin
    compares: tuple[Compare, ...]
    then: tuple[Write, ...]
    otherwise: tuple[Write, ...] = ()


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """A present entry as stored. `session` wrote it last. `hash` is `store.hash.row_hash` of all the rest."""

    id: EntryId
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    time_ms: int
    session: str
    ttl_ms: int
    owner: str
    hash: bytes


class Applied(Struct, frozen=True, array_like=True, gc=False):
    """What one write did. For all but a deletion `kind` is "put" and `value` the whole new value; for a deletion or
    expiry `value` is empty, `version` 0 and `create_revision` that of the life that ended.

    `replaced_revision`, `replaced_session`: the version that stood before (0 and "" when none).
    """

    id: EntryId
    kind: ChangeKind
    value: bytes
    version: int
    create_revision: int
    ttl_ms: int
    owner: str
    replaced_revision: int
    replaced_session: str


class Committed(Struct, frozen=True, gc=False):
    """The batch is durable. `changes` in the order of the writes, without those that did nothing.

    `revision` is the batch's own, or the store's current one when it changed nothing (`changes` is empty then).
    `repeated`: this request id had been committed before; these are its original revision and changes, nothing was
    written now, and a value whose version is no longer kept is b"", as are all of an operation in WIDE_OPERATIONS.
    """

    revision: int
    succeeded: bool
    time_ms: int
    origin: Origin
    changes: tuple[Applied, ...]
    repeated: bool = False


class Conflicted(Struct, frozen=True, gc=False):
    """A compare failed and there was nothing to do otherwise: no effect. `compare` is the index of the first failing
    one, `current` the entry in its way (None: absent), `revision` the store's at that moment.
    """

    revision: int
    compare: int
    current: Entry | None


class Refused(Struct, frozen=True, gc=False):
    """The batch certainly had no effect; `code` is of the error catalogue (request_id_reused, too_large, wrong_type,
    disk_full; damaged: its request id was committed before, and the record of that is not whole).
    """

    revision: int
    code: str
    message: str


Outcome = Committed | Conflicted | Refused


class VersionRow(Struct, frozen=True, array_like=True, gc=False):
    """One kept version of an entry; a deletion is one (`kind`, empty value, version 0). `value` may be the trace of a
    purged one, see `Engine.purge`.
    """

    id: EntryId
    kind: ChangeKind
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    time_ms: int
    origin: Origin


class Position(Struct, frozen=True, gc=False):
    """Where a store stands. `chain_hash` (32 bytes) is the head of the batch chain, `state_hash` (16 bytes) the sum
    of all live row hashes. Watches and reads at a revision are exact from `compact_revision` on.
    """

    epoch: str
    revision: int
    compact_revision: int
    chain_hash: bytes
    state_hash: bytes


class Page(Struct, frozen=True, gc=False):
    """Entries in key order. `more`: there may be others behind the key `reached`; else that is ""."""

    entries: tuple[Entry, ...]
    more: bool
    reached: str = ""


class Surplus(NamedTuple):
    """What `Engine.trim` is to drop. Of the log: batches beyond the window, bytes beyond it, batches asked to go; and
    about how many keys are over in history and not in the store, see `Engine.trim`.
    """

    batches: int = 0
    bytes: int = 0
    asked: int = 0
    ended: int = 0

    @property
    def of_the_log(self) -> bool:
        """Whether there is a batch to drop."""
        return bool(self.batches or self.bytes or self.asked)


class Window(Struct, frozen=True, gc=False):
    """How much an engine keeps: batches in the log window, versions per entry, request ids, audit records.

    The newest `request_ids_min` ids and `audit_min` records are kept whatever their age: one step of the wall clock
    must not forget them. `versions` are those in the space of users; in one of ours it is the newest alone.
    """

    log_revisions: int = 100_000
    log_bytes: int = 256 * 1024 * 1024
    versions: int = 50
    request_ids: int = 1_000_000
    request_id_ms: int = 24 * 3600 * 1000
    request_ids_min: int = 0
    audit_bytes: int = 256 * 1024 * 1024
    audit_ms: int = 30 * 24 * 3600 * 1000
    audit_min: int = 0

    def versions_in(self, space: str) -> int:
        """How many versions an entry of `space` keeps."""
        return OWN_VERSIONS if space.startswith(OWN_SPACE) else self.versions


class BelowWindow(Exception):
    """The revision asked for is below `compact_revision`; carries that as its argument."""


class ValuePurged(Exception):
    """What was asked for was purged; carries the id and the revision of that version as its arguments."""


class Purged(Struct, frozen=True, gc=False):
    """One slice of a purge: `values` were taken out, everything up to revision `reached` is done; `more` is left."""

    reached: int
    values: int
    more: bool


class StoreBroken(Exception):
    """An I/O error or damage while committing or reading: the outcome of the group is unknown. Stop at once."""


class StoreDamaged(StoreBroken):
    """What the store keeps is not what was committed. `lost`: the first and last revision that are known to be gone."""

    def __init__(self, message: str, *, lost: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.lost = lost
        self.while_writing = False  # a transaction is open: nothing can go on


#: What one step of a copy came to: there is more; not now, what it wrote is being synced; it is whole.
Stepped = Literal["more", "syncing", "whole"]


class Copy(Protocol):
    """A copy of the store in the making. Its steps are taken on the thread that owns the engine, with commits between
    them; when it is whole it holds the store as it stands then.
    """

    pages: int
    """As many as it will have, as far as it can be seen."""
    pages_left: int
    """Of those, how many are still to be copied."""

    def step(self) -> Stepped:
        """A bounded piece of it, of about 256 KiB. Raises CopyFailed; the store is as it was."""
        ...

    def abandon(self) -> bool:
        """End it unfinished; whether it has ended. It cannot while it is syncing: ask again, as for a step."""
        ...

    def finish(self) -> None:
        """The rest, once it is whole, on any thread: it is one plain file then, and synced. Raises CopyFailed."""
        ...


class CopyFailed(Exception):
    """A copy cannot be made; the store is as it was. `is_full`: the disk has no room for it."""

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        super().__init__(message)
        self.is_full = is_full


class Scrubbed(Struct, frozen=True, gc=False):
    """How far a scrub is: the next slice goes on in `table` ("": it is done) behind `number` or `id`. `rows` were
    looked at in this slice, and `wrong` is what did not match, in words.
    """

    table: str
    number: int
    id: EntryId
    rows: int
    wrong: tuple[str, ...]


class Moments:
    """When the last group was written, and when the disk had it, by the clock `now_s`; 0.0 where it wrote nothing."""

    __slots__ = ("now_s", "synced_s", "written_s")

    def __init__(self) -> None:
        self.now_s: Callable[[], float] = lambda: 0.0
        self.written_s = 0.0
        self.synced_s = 0.0


class Engine(Protocol):
    """Whatever keeps the store. Not thread-safe: one thread owns it. Revisions below 1 do not exist."""

    name: str

    def position(self) -> Position:
        """Where the store stands now; cheap."""
        ...

    def entries(self) -> Iterable[Entry]:
        """Every live entry, ordered by id. Raises StoreBroken when a row does not match its hash."""
        ...

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """Apply one group in order, each batch seeing the earlier ones; durable when this returns.

        `records` take the next ids of the audit in their order, in the same transaction: one that goes with a batch
        if and only if that batch was committed now and changed something, one that goes alone in any case, unless the
        group is refused.

        A batch whose origin has a request id that is already kept does nothing: same request hash gives the original
        outcome with `repeated`, another hash gives Refused(request_id_reused). Only outcomes that changed something
        are kept. When the disk is full nothing of the group is written, and every batch of it is Refused(disk_full),
        except the repeats of what was committed before.
        Raises StoreBroken when the outcome cannot be known.
        """
        ...

    def changes(self, after: int, rows_max: int, bytes_max: int) -> list[Committed]:
        """The batches with revision > `after` in order, at least one if there is any, then up to the two bounds.

        `succeeded` is as it was; `changes` carry their values, or the traces of purged ones. Raises BelowWindow when
        `after` + 1 < `compact_revision`.
        """
        ...

    def entry_at(self, id: EntryId, revision: int) -> Entry | None:
        """The entry as it was at `revision`. Raises BelowWindow when that is below `compact_revision`, ValuePurged."""
        ...

    def range_at(self, space: str, project: str, *, prefix: str, after: str, limit: int, revision: int) -> Page:
        """Entries under `prefix` with key > `after` as they were at `revision`. Raises BelowWindow, and
        ValuePurged when one of those to be shown is purged.

        At most `limit`, and fewer, even none, once PAST_BYTES of values were found or PAST_KEYS keys looked at, of
        those that did not exist then as well: `Page.reached` is where to go on.
        """
        ...

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """Versions of `id` newest first, with mod_revision < `before` when that is above 0, at most `limit`.

        Only the newest `Window.versions_in` versions of an entry are ever shown, whatever else is still kept, and
        nothing of one that has ended, see `trim`. Fewer than
        `limit` once they have about PAST_BYTES, but none only when there are none: go on with the last as `before`.
        """
        ...

    @property
    def surplus(self) -> Surplus:
        """What is beyond `Window` or was asked to go; cheap. The newest batch never is."""
        ...

    def compact(self, revision: int) -> None:
        """The batches below `revision` are surplus from now on, for as long as this engine is open."""
        ...

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:
        """Take the values of at most about `rows_max` versions of `id` out of history and log: those with `after` <
        mod_revision < `before`. None when the disk is full, and nothing was changed.

        In the place of each stays its trace (`hash.trace_of`), so that the chain holds as it is. The live entry keeps
        its value whatever `before` says. Doing it again does nothing. Until `erase`, bytes may be left where the store
        is kept. Raises StoreBroken.
        """
        ...

    def erase(self) -> bool:
        """Leave no byte of what was purged, replaced or deleted where the store is kept; False when the disk is full.

        Costs a copy of the whole store. Raises StoreBroken.
        """
        ...

    def trim(self, rows_max: int, *, settle_rows: int = 0) -> int:
        """Drop some of the surplus in about as much work as `rows_max` small rows are; returns how much work it was
        (0: nothing to do, or no room on the disk to do it). In the same transaction about `settle_rows` are settled.

        The oldest batches go first and `compact_revision` rises to the oldest one kept. A version is dropped when it
        is neither among the newest `Window.versions_in` of its entry nor needed to read at `compact_revision` or above.
        A key whose newest version is a deletion has ended when `compact_revision` rises above that: from then on all
        versions that it had are over, also when it is put again, and they are dropped in their time.
        """
        ...

    def scrub(self, at: Scrubbed, rows_max: int) -> Scrubbed:
        """Hold about `rows_max` rows of what is kept against their hashes, whatever table they are in, and change
        nothing. Begin with the table "log" behind nothing.
        """
        ...

    def cut(self, rows_max: int) -> int:
        """Drop at most `rows_max` of the oldest audit records that `Window` no longer asks for; returns how many (0:
        nothing to do, or no room on the disk to do it).

        One goes while all together are over `Window.audit_bytes`, or when it is more than `Window.audit_ms` older than
        the newest and not among the newest `Window.audit_min`. The newest one stays.
        """
        ...

    def audit_span(self) -> AuditSpan:
        """Which audit records are kept; cheap."""
        ...

    def audited(self, *, after: int, before: int, limit: int, newest_first: bool) -> list[KeptRecord]:
        """At most `limit` records with `after` < id, and id < `before` when that is above 0: the oldest of them first,
        or the newest. Raises StoreBroken when one is missing or does not match its hash.
        """
        ...

    def audit_since(self, time_ms: int) -> int:
        """An id below which no kept record is of `time_ms` or later; found without reading all, and in a store that
        has never cut one the largest there is. The wall clock may step, so that younger records can be older.
        """
        ...

    @property
    def moments(self) -> Moments:
        """When what happened to the last group; whoever wants to know gives it a clock."""
        ...

    @property
    def stored_bytes(self) -> int:
        """Bytes in use where the store is kept, its log and history included; 0 for one that is in memory."""
        ...

    @property
    def unsettled_rows(self) -> int:
        """About how many rows follow from what is committed and are not written yet, until `settle`; cheap. Nothing
        shows it but the time that the next start takes.
        """
        ...

    def settle(self, rows_max: int) -> bool:
        """Write what follows from the oldest batches, about `rows_max` rows of it; False when the disk is full.

        Raises StoreBroken.
        """
        ...

    @property
    def unmoved_bytes(self) -> int:
        """Bytes committed that the next start would have to read again, until `move`; cheap."""
        ...

    def move(self) -> None:
        """Bring what is committed to its place, so that `unmoved_bytes` begins anew. Raises StoreBroken."""
        ...

    def copy_to(self, path: Path, descriptor: int) -> Copy | None:
        """Begin to copy the store into the empty file at `path`, open as `descriptor`, which is the copy's to close.

        None for a store that is kept nowhere. Raises StoreBroken.
        """
        ...

    def close(self) -> None:
        """Release the file; the position stays readable by the next open."""
        ...
