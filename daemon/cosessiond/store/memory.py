"""The specification of the store, executable: the `Engine` protocol over plain dicts and lists, and the tests' oracle.

What the contract in `store.engine` leaves open is decided here, in a comment where it is decided, and every other
engine does the same. The data are four: all kept versions of each entry, the log of whole batches, the request ids, and
the records of the audit, on which nothing else depends; what can be computed from them (the live entries, the state
hash) is computed each time it is asked for.

Rule: obvious before fast, and independent: nothing of another engine is imported here, only the contract, the hashes
and MessagePack, so that the same mistake is not made twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from math import isinf
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, msgpack
from msgspec.structs import replace

from cosession.messages.limits import BATCH_BYTES_MAX, VALUE_BYTES_MAX
from cosessiond.store import hash
from cosessiond.store.engine import (
    BATCH_FORMAT,
    WIDE_OPERATIONS,
    Add,
    Append,
    Applied,
    Batch,
    BelowWindow,
    Committed,
    Compare,
    Conflicted,
    Delete,
    Entry,
    EntryCompare,
    EntryId,
    Merge,
    Moments,
    Outcome,
    Page,
    Position,
    Purged,
    Put,
    Refused,
    Scrubbed,
    Surplus,
    ValuePurged,
    VersionRow,
    Window,
    Write,
)
from cosessiond.store.record import Attached, AuditSpan, KeptRecord

#: How many lists and maps may stand around any part of a value that a merge leaves behind.
_DEPTH_MAX: Final = 32


class _Version(Struct, frozen=True):
    """One kept version: the change that made it and the batch it came with."""

    change: Applied
    batch: Committed


class _Unfit(Exception):
    """A write would leave a value behind that format 1 does not allow, or meets one of the wrong kind: (code, why)."""


class MemoryEngine:
    """A store that lives and dies with this object. `window` says how much it keeps."""

    name = "memory"

    def __init__(self, epoch: str, window: Window = Window()) -> None:  # noqa: B008 - a frozen struct
        self.moments = Moments()  # nothing here takes long
        self._epoch = epoch
        self._window = window
        self._revision = 0
        # A store that never wrote stands at compact revision 1: the oldest revision there can ever be.
        self._compact_revision = 1
        self._floor = 0  # batches below it were asked to go
        self._chain = hash.ZERO_CHAIN
        self._log: list[Committed] = []
        self._versions: dict[EntryId, list[_Version]] = {}
        self._requests: dict[str, Committed] = {}  # in the order of their revisions
        self._audit: list[KeptRecord] = []

    # ---------------------------------------------------------------------------------------------------- the present

    def position(self) -> Position:
        """See `Engine.position`."""
        rows = (entry.hash for entry in self.entries())
        state = reduce(hash.state_add, rows, hash.ZERO_STATE)
        return Position(self._epoch, self._revision, self._compact_revision, self._chain, state)

    def entries(self) -> Iterable[Entry]:
        """See `Engine.entries`. Keys are ordered by code points, which is the order of their UTF-8 bytes."""
        found = (self._entry(id, self._revision) for id in sorted(self._versions))
        return [entry for entry in found if entry is not None]

    def _entry(self, id: EntryId, revision: int) -> Entry | None:
        """What stood at `revision`: the newest kept version up to it, unless that is a deletion."""
        versions = [each for each in self._versions.get(id, []) if each.batch.revision <= revision]
        if not versions or versions[-1].change.kind != "put":
            return None
        change, batch = versions[-1].change, versions[-1].batch
        facts: dict[str, Any] = {
            "version": change.version,
            "create_revision": change.create_revision,
            "mod_revision": batch.revision,
            "time_ms": batch.time_ms,
            "session": batch.origin.session,
            "ttl_ms": change.ttl_ms,
            "owner": change.owner,
        }
        return Entry(id=id, value=change.value, hash=hash.row_hash(id, change.value, **facts), **facts)

    # ----------------------------------------------------------------------------------------------------- applying

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """See `Engine.apply`. What admission guarantees is asserted for the whole group before any of it applies."""
        for batch in batches:
            assert batch.format == BATCH_FORMAT, f"batch format {batch.format} is not known here"
            for branch in (batch.then, batch.otherwise):
                assert len({write.id for write in branch}) == len(branch), "an id is written twice in one branch"
        outcomes = [self._apply(batch) for batch in batches]
        for index, record in records:
            outcome = None if index is None else outcomes[index]
            if outcome is None or (isinstance(outcome, Committed) and outcome.changes and not outcome.repeated):
                self._audit.append(KeptRecord(self.audit_span().last + 1, record))
        return outcomes

    def _apply(self, batch: Batch) -> Outcome:
        # The request id comes first (a repeat is answered even when its compares fail by now), then the compares, then
        # the sizes of what the chosen branch would leave behind.
        kept = self._requests.get(batch.origin.request_id)
        if kept is not None:
            return self._repeat(kept, batch.origin.request_hash)
        conflict = self._conflict(batch.compares)
        if conflict is not None and not batch.otherwise:
            return conflict
        try:
            made = [self._write(write) for write in (batch.then if conflict is None else batch.otherwise)]
        except _Unfit as error:
            return Refused(self._revision, *error.args)
        changes = tuple(change for change in made if change is not None)
        if (size := sum(len(change.value) for change in changes)) > BATCH_BYTES_MAX:
            why = f"its values would have {size} bytes together, the limit is {BATCH_BYTES_MAX}"
            return Refused(self._revision, "too_large", f"cannot write: {why}; do: use several transactions")
        revision = self._revision + 1 if changes else self._revision
        committed = Committed(revision, conflict is None, batch.time_ms, batch.origin, changes)
        if changes:
            self._keep(committed)
        return committed

    def _repeat(self, kept: Committed, request_hash: bytes) -> Outcome:
        if request_hash != kept.origin.request_hash:
            why = "its content differs from the request that this id was first sent with"
            return Refused(self._revision, "request_id_reused", f"cannot commit: {why}; do: use a new request id")
        gone = {(id, version.batch.revision) for id, version in self._surplus_versions()}  # dropped already or soon
        changes = []
        for change in kept.changes:
            there = any(each.batch.revision == kept.revision for each in self._versions.get(change.id, []))
            shown = there and (change.id, kept.revision) not in gone and not hash.is_trace(change.value)
            shown = shown and kept.origin.operation not in WIDE_OPERATIONS
            changes.append(change if shown else replace(change, value=b""))
        return replace(kept, changes=tuple(changes), repeated=True)

    def _conflict(self, compares: Sequence[Compare]) -> Conflicted | None:
        for index, compare in enumerate(compares):
            if isinstance(compare, EntryCompare):
                entry = self._entry(compare.id, self._revision)
                holds = compare.value == (0 if entry is None else getattr(entry, compare.field))
            else:
                # Of several entries in the way, the one with the smallest key is shown.
                newer = (
                    each
                    for each in self._range(compare.space, compare.project, compare.prefix, self._revision)
                    if each.mod_revision > compare.max_mod_revision
                )
                entry = next(newer, None)
                holds = entry is None
            if not holds:
                return Conflicted(self._revision, index, entry)
        return None

    def _write(self, write: Write) -> Applied | None:
        """What `write` does in the next revision; None when that is nothing: only the deletion of what is absent.

        All but a deletion always make a version, also of the value that stood before.
        """
        old = self._entry(write.id, self._revision)
        revision = self._revision + 1
        if isinstance(write, Delete):
            if old is None:
                return None
            # Nothing is left of the entry's lease: ttl_ms 0 and no owner.
            return Applied(write.id, write.kind, b"", 0, old.create_revision, 0, "", old.mod_revision, old.session)
        if isinstance(write, Put):
            value, ttl_ms, owner = write.value, write.ttl_ms, write.owner
        else:
            value = _result(write, _ABSENT[type(write)] if old is None else msgpack.decode(old.value))
            ttl_ms, owner = (0, "") if old is None else (old.ttl_ms, old.owner)
        if len(value) > VALUE_BYTES_MAX:  # of a put as well, although admission lets none through
            why = f"its value would have {len(value)} bytes, the limit is {VALUE_BYTES_MAX}"
            raise _Unfit("too_large", f"cannot write {write.id[2]}: {why}; do: split it over several keys")
        if old is None:  # a new life; a deletion before it is not "the version that stood before"
            return Applied(write.id, "put", value, 1, revision, ttl_ms, owner, 0, "")
        life = (old.version + 1, old.create_revision)
        return Applied(write.id, "put", value, *life, ttl_ms, owner, old.mod_revision, old.session)

    def _keep(self, committed: Committed) -> None:
        self._revision = committed.revision
        what = (committed.revision, committed.time_ms, committed.origin, committed.changes)
        self._chain = hash.chain_hash(self._chain, *what)
        self._log.append(committed)
        for change in committed.changes:
            self._versions.setdefault(change.id, []).append(_Version(change, committed))
        if committed.origin.request_id:
            self._requests[committed.origin.request_id] = committed
        self._forget_requests(committed.time_ms)

    def _forget_requests(self, now_ms: int) -> None:
        # Each commit forgets at most its two oldest ids, while they are beyond Window.request_ids or, at the time of
        # this batch, Window.request_id_ms; but the newest Window.request_ids_min stay, whatever the time. So what is
        # kept depends on the batches alone, never on when somebody trimmed; it shrinks, since a commit adds one at
        # most; and no commit pays for a day's worth of ids at once.
        for id, kept in list(self._requests.items())[:2]:
            surplus = len(self._requests) > self._window.request_ids
            old = now_ms - kept.time_ms > self._window.request_id_ms
            if not surplus and not (old and len(self._requests) > self._window.request_ids_min):
                break
            del self._requests[id]

    # ------------------------------------------------------------------------------------------------------ the past

    def scrub(self, at: Scrubbed, rows_max: int) -> Scrubbed:
        """See `Engine.scrub`: nothing is kept but in memory."""
        assert rows_max > 0, "a slice of something"
        return Scrubbed("", 0, at.id, 0, ())

    def changes(self, after: int, rows_max: int, bytes_max: int) -> list[Committed]:
        """See `Engine.changes`. A row is a batch; see `_batch_bytes`."""
        if after + 1 < self._compact_revision:
            raise BelowWindow(self._compact_revision)
        found: list[Committed] = []
        size = 0
        for batch in self._log:
            if batch.revision <= after:
                continue
            size += _batch_bytes(batch)
            if found and (len(found) >= rows_max or size > bytes_max):
                break
            found.append(batch)
        return found

    def entry_at(self, id: EntryId, revision: int) -> Entry | None:
        """See `Engine.entry_at`. A revision that is not there yet reads as the present."""
        self._check_window(revision)
        entry = self._entry(id, revision)
        return None if entry is None else _whole(entry)

    def range_at(self, space: str, project: str, *, prefix: str, after: str, limit: int, revision: int) -> Page:
        """See `Engine.range_at`. A page of this engine is bounded by `limit` alone."""
        self._check_window(revision)
        found = [each for each in self._range(space, project, prefix, revision) if each.id[2] > after]
        page, more = tuple(map(_whole, found[:limit])), len(found) > limit
        return Page(page, more, (page[-1].id[2] if page else after) if more else "")

    def _range(self, space: str, project: str, prefix: str, revision: int) -> Iterator[Entry]:
        for id in sorted(self._versions):
            if id[:2] == (space, project) and id[2].startswith(prefix):
                entry = self._entry(id, revision)
                if entry is not None:
                    yield entry

    def _check_window(self, revision: int) -> None:
        if revision < self._compact_revision:
            raise BelowWindow(self._compact_revision)

    def history(self, id: EntryId, limit: int, before: int) -> list[VersionRow]:
        """See `Engine.history`. How many are shown counts deletions, and counts before `before` does. What is
        shown is bounded by `limit` alone.
        """
        shown = list(reversed(self._versions.get(id, [])))[: self._window.versions_in(id[0])]
        rows = [_version_row(each) for each in shown if before <= 0 or each.batch.revision < before]
        return rows[:limit]

    # ---------------------------------------------------------------------------------------------------- forgetting

    @property
    def surplus(self) -> Surplus:
        """See `Engine.surplus`."""
        if len(self._log) <= 1:
            return Surplus(0, 0, 0)
        asked = sum(batch.revision < self._floor for batch in self._log[:-1])
        beyond = len(self._log) - self._window.log_revisions
        size = sum(_batch_bytes(batch) for batch in self._log)
        return Surplus(max(0, beyond), max(0, size - self._window.log_bytes), asked)  # what has ended is gone at once

    def compact(self, revision: int) -> None:
        """See `Engine.compact`."""
        self._floor = max(self._floor, revision)

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:
        """See `Engine.purge`. Versions without a value count as done and not as rows."""
        before = min(before, next((each.mod_revision for each in self.entries() if each.id == id), before))
        found = [
            version.batch.revision
            for version in self._versions.get(id, [])
            if after < version.batch.revision < before
            and version.change.kind == "put"
            and not hash.is_trace(version.change.value)
        ]
        for revision in found[:rows_max]:
            self._take_out(id, revision)
        more = len(found) > rows_max
        return Purged(found[rows_max - 1] if more else before - 1, len(found[:rows_max]), more)

    def _take_out(self, id: EntryId, revision: int) -> None:
        def bare(change: Applied) -> Applied:
            return replace(change, value=hash.trace_of(change.value)) if change.id == id else change

        def without(batch: Committed) -> Committed:
            return replace(batch, changes=tuple(map(bare, batch.changes))) if batch.revision == revision else batch

        self._log = [without(batch) for batch in self._log]
        self._requests = {request: without(batch) for request, batch in self._requests.items()}
        for versions in self._versions.values():
            versions[:] = [
                _Version(bare(each.change), without(each.batch)) if each.batch.revision == revision else each
                for each in versions
            ]

    def erase(self) -> bool:
        """See `Engine.erase`. Memory is not where anything is kept."""
        return True

    def trim(self, rows_max: int, *, settle_rows: int = 0) -> int:  # noqa: ARG002  # nothing is ever behind
        """See `Engine.trim`. What counts as a row: a batch of the log, a version beyond those that are kept. The newest
        batch always stays.
        """
        surplus = self._surplus_batches()[:rows_max]
        if surplus:
            del self._log[: len(surplus)]
            self._compact_revision = self._log[0].revision
            self._drop_ended()
        versions = self._surplus_versions()[: rows_max - len(surplus)]
        for id, version in versions:
            self._versions[id].remove(version)
        return len(surplus) + len(versions)

    def _drop_ended(self) -> None:
        """All of each entry that is absent and whose deletion is below the window now."""
        for id, versions in list(self._versions.items()):
            if versions[-1].change.kind != "put" and versions[-1].batch.revision < self._compact_revision:
                del self._versions[id]

    def _surplus_batches(self) -> list[Committed]:
        """The oldest batches beyond `Window.log_revisions`, or that make the log larger than `Window.log_bytes`, or
        that were asked to go.
        """
        kept = size = 0
        for batch in reversed(self._log):
            size += _batch_bytes(batch)
            beyond = kept >= self._window.log_revisions or size > self._window.log_bytes
            if kept and (beyond or batch.revision < self._floor):
                break
            kept += 1
        return self._log[: len(self._log) - kept]

    def _surplus_versions(self) -> list[tuple[EntryId, _Version]]:
        """The versions nobody can ask for any more, oldest revision first."""
        found = []
        for id, versions in self._versions.items():
            # To read at compact_revision: the last version up to it, also when that is a deletion.
            needed = max((v.batch.revision for v in versions if v.batch.revision <= self._compact_revision), default=0)
            old = versions[: max(0, len(versions) - self._window.versions_in(id[0]))]
            found += [(id, each) for each in old if each.batch.revision < needed]
        return sorted(found, key=lambda each: (each[1].batch.revision, each[0]))

    def cut(self, rows_max: int) -> int:
        """See `Engine.cut`. The newest record always stays."""
        records = self._surplus_records()[:rows_max]
        del self._audit[: len(records)]
        return len(records)

    def _surplus_records(self) -> list[KeptRecord]:
        """The oldest records that go: each as long as those before it go."""
        found: list[KeptRecord] = []
        for index, kept in enumerate(self._audit[:-1]):
            younger = len(self._audit) - index - 1
            too_many = sum(each.record.size for each in self._audit[index:]) > self._window.audit_bytes
            too_old = self._audit[-1].record.time_ms - kept.record.time_ms > self._window.audit_ms
            if not too_many and not (too_old and younger >= self._window.audit_min):
                break
            found.append(kept)
        return found

    # ------------------------------------------------------------------------------------------------------ the audit

    def audit_span(self) -> AuditSpan:
        """See `Engine.audit_span`. Something is always kept once there was something, so ids never begin anew."""
        if not self._audit:
            return AuditSpan()
        first, last = self._audit[0], self._audit[-1]
        return AuditSpan(first.id, last.id, sum(each.record.size for each in self._audit), first.record.time_ms)

    def audited(self, *, after: int, before: int, limit: int, newest_first: bool) -> list[KeptRecord]:
        """See `Engine.audited`."""
        found = [each for each in self._audit if each.id > after and (before <= 0 or each.id < before)]
        return (found[::-1] if newest_first else found)[: max(0, limit)]

    def audit_since(self, time_ms: int) -> int:
        """See `Engine.audit_since`. Here it is the largest such id, whatever was cut."""
        young = (each.id for each in self._audit if each.record.time_ms >= time_ms)
        return next(young, self.audit_span().last + 1)

    @property
    def stored_bytes(self) -> int:
        """See `Engine.stored_bytes`."""
        return 0

    @property
    def unsettled_rows(self) -> int:
        """See `Engine.unsettled_rows`. Nothing is derived here."""
        return 0

    def settle(self, rows_max: int) -> bool:  # noqa: ARG002 - of the protocol
        """See `Engine.settle`."""
        return True

    @property
    def unmoved_bytes(self) -> int:
        """See `Engine.unmoved_bytes`. What is in memory is in its place."""
        return 0

    def move(self) -> None:
        """See `Engine.move`. There is nothing to move."""

    def copy_to(self, path: Path, descriptor: int) -> None:
        """See `Engine`: there is nothing to lose that a copy would keep."""

    def close(self) -> None:
        """See `Engine.close`. There is no file: this engine goes on."""


def _whole(entry: Entry) -> Entry:
    """An entry that may be shown; raises ValuePurged for one of which the trace is left."""
    if hash.is_trace(entry.value):
        raise ValuePurged(entry.id, entry.mod_revision)
    return entry


def _batch_bytes(batch: Committed) -> int:
    """What a batch counts in `changes` and in the log: the size of what is recorded of it besides its revision."""
    return len(msgpack.encode((batch.succeeded, batch.time_ms, batch.origin, batch.changes)))


def _version_row(version: _Version) -> VersionRow:
    change, batch = version.change, version.batch
    what = (change.id, change.kind, change.value, change.version, change.create_revision)
    return VersionRow(*what, batch.revision, batch.time_ms, batch.origin)


#: What an absent entry counts as.
_ABSENT: Final[dict[type, Any]] = {Merge: {}, Add: 0, Append: []}


def _result(write: Merge | Add | Append, value: Any) -> bytes:
    """What a write makes of `value`, encoded. Raises _Unfit."""
    key = write.id[2]
    if isinstance(write, Merge):
        result = _merge(value, msgpack.decode(write.patch))
    elif isinstance(write, Add):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _Unfit("wrong_type", f"cannot add to {key}: its value is no number; do: put one first")
        result = value + msgpack.decode(write.number)
        if isinstance(result, int) and not -(2**63) <= result < 2**63:
            raise _Unfit("too_large", f"cannot add to {key}: the sum has no place in 64 bits; do: use a float")
        if isinf(result):
            raise _Unfit("too_large", f"cannot add to {key}: the sum is infinite; do: put it anew")
    else:
        if not isinstance(value, list):
            raise _Unfit("wrong_type", f"cannot append to {key}: its value is no list; do: put one first")
        result = value + msgpack.decode(write.values)
    if _depth(result) > _DEPTH_MAX:
        raise _Unfit("too_large", f"cannot write {key}: the result is nested deeper than {_DEPTH_MAX} levels")
    return msgpack.encode(result)


def _merge(target: Any, patch: Any) -> Any:
    """MergePatch of RFC 7396, section 2. Names keep the order of the target, new ones follow in that of the patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _depth(value: Any) -> int:
    """How many lists and maps stand around the innermost part of `value`; 0 for a scalar or an empty list."""
    if isinstance(value, dict):
        value = list(value.values())
    return max((1 + _depth(each) for each in value), default=0) if isinstance(value, list) else 0
