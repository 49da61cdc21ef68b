"""How much the store takes: what may wait to be committed, and what may be kept, of all and of each.

A project and a session may have quotas, of the context and of letters, below the limits of the store. A write is held
against them by what there is more of afterwards: whatever shrinks passes, also above a quota that was lowered.

Rule: judged on the loop, before the queue, from what is published and what is on its way; never at apply. Deletions
pass while the queue has room, and so do the end of a session and the reading of letters, so that a full store can
always be emptied.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from cosession.errors import CosessionError, Overloaded
from cosession.messages.limits import COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MAX, Limits
from cosessiond.metrics import Metrics
from cosessiond.store.apply import left_bytes
from cosessiond.store.engine import Add, Append, Batch, Delete, Merge, Put, Write
from cosessiond.store.index import Index, entry_bytes
from cosessiond.store.queued import Queued, demand_of
from cosessiond.store.usage import COUNTED_SPACES, Usage, Used

#: Operations that pass while the queue has room: the end of a session, and what empties a box. Each is bounded by what
#: there is already.
ALWAYS: Final = ("session.", "mail.deliver", "mail.read", "mail.pass_on")
#: What a sum has at most: a type byte and 64 bits.
ADDED_BYTES: Final = 9
#: How many of those who have most a refusal names.
MOST_NAMED: Final = 3


class Holder(NamedTuple):
    """Whose quota it is."""

    kind: Literal["project", "session"]
    name: str


def batch_bytes(batch: Batch, index: Index) -> int:
    """What a batch counts for while it waits, in bytes: about the values that it will leave behind."""
    size = 0
    for write in (*batch.then, *batch.otherwise):
        if isinstance(write, Put):
            size += len(write.value)
        elif isinstance(write, Add):
            size += ADDED_BYTES
        elif isinstance(write, Merge | Append):
            before = index.get(write.id)
            given = write.patch if isinstance(write, Merge) else write.values
            size += len(given) + (len(before.value) if before else 0)
    return size


class _Quota(NamedTuple):
    """One limit of what each project or session may have."""

    kind: Literal["project", "session"]
    unit: Literal["bytes", "entries"]

    @property
    def limit(self) -> str:
        """Its name."""
        return f"{self.kind}_{self.unit}_max"

    @property
    def of_all(self) -> str:
        """The name of the limit of all together: a quota that is not below it says nothing."""
        return f"live_{self.unit}_max"

    def bound(self, limits: Limits) -> int:
        """How much it is."""
        bound: int = getattr(limits, self.limit)
        return bound

    def part(self, used: Used) -> int:
        """What counts of what is used."""
        return used.bytes if self.unit == "bytes" else used.entries


_QUOTAS: Final = (
    _Quota("project", "bytes"),
    _Quota("project", "entries"),
    _Quota("session", "bytes"),
    _Quota("session", "entries"),
)


def growth(batch: Batch, holder: Holder, index: Index) -> Used:
    """How much more a holder has after a batch, the larger of what its two branches make of the entries of now."""
    grown = [_growth(branch, batch.origin.session, holder, index) for branch in (batch.then, batch.otherwise)]
    return Used(max(each.bytes for each in grown), max(each.entries for each in grown))


def _growth(writes: tuple[Write, ...], session: str, holder: Holder, index: Index) -> Used:
    size = entries = 0
    for write in writes:
        if write.id[0] not in COUNTED_SPACES:
            continue
        before = index.get(write.id)
        if before is not None and holder.name == (write.id[1] if holder.kind == "project" else before.session):
            size -= entry_bytes(write.id, before.value)
            entries -= 1
        if not isinstance(write, Delete) and holder.name == (write.id[1] if holder.kind == "project" else session):
            size += entry_bytes(write.id, b"") + left_bytes(write, before)
            entries += 1
    return Used(size, entries)


def _taken(holder: Holder, index: Index, queued: Queued) -> Used:
    """What a holder has, and may get by what is on its way."""
    if holder.kind == "project":
        has, gets = index.usage.projects.of(holder.name), queued.projects.of(holder.name)
    else:
        has, gets = index.usage.sessions.of(holder.name), queued.sessions.of(holder.name)
    return Used(has.bytes + gets.bytes, has.entries + gets.entries)


def _exceeded(
    quota: _Quota, holder: Holder, taken: Used, grown: Used, *, limits: Limits, usage: Usage
) -> CosessionError:
    """The error for a batch by which a holder would come above a quota."""
    used, limit = quota.part(taken), quota.bound(limits)
    if holder.kind == "project":
        other, most = "session", usage.largest_in(holder.name, MOST_NAMED)
    else:
        other, most = "project", usage.largest_of(holder.name, MOST_NAMED)
    largest = ""
    if most:
        name, has = most[0]
        largest = f", most is of {f'{other} {name!r}' if name else 'no session'}"
        largest += f" ({has.bytes} bytes, {has.entries} entries)"
    return CosessionError(
        f"cannot put: {holder.kind} {holder.name!r} has {used} {quota.unit}{largest}; with this it would have "
        f"{used + quota.part(grown)}, its quota is {limit}; delete what is no longer needed, or raise "
        f"limits.{quota.limit}",
        code="quota_exceeded",
        data={
            "quota": quota.limit,
            holder.kind: holder.name,
            "used": used,
            "limit": limit,
            "most": [{other: name, **has._asdict()} for name, has in most],
        },
    )


class Quota:
    """The limits of one store."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._metrics = metrics
        self.limits = limits

    @property
    def limits(self) -> Limits:
        """Those that hold; whoever sets others has them hold for the next batch."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._quotas = [quota for quota in _QUOTAS if getattr(limits, quota.limit) < getattr(limits, quota.of_all)]

    def admit(self, batch: Batch, size: int, index: Index, queued: Queued, database_bytes: int) -> None:
        """Whether a batch of `size` bytes may be queued.

        Raises Overloaded, or CosessionError store_full or quota_exceeded.
        """
        if queued.batches >= COMMIT_QUEUE_MAX:
            self._metrics.hit("commit_queue")
            raise Overloaded(f"cannot write: {COMMIT_QUEUE_MAX} batches wait to be committed; try again in a moment")
        if queued.bytes + size > COMMIT_QUEUE_BYTES_MAX:
            self._metrics.hit("commit_queue_bytes")
            raise Overloaded(
                f"cannot write: {COMMIT_QUEUE_BYTES_MAX} bytes wait to be committed; try again in a moment"
            )
        writes = (*batch.then, *batch.otherwise)
        if batch.origin.operation.startswith(ALWAYS) or all(isinstance(write, Delete) for write in writes):
            return
        limits = self.limits
        if database_bytes >= limits.database_bytes_max:
            self._metrics.hit("database_bytes")
            raise CosessionError(
                f"cannot write: the database holds {limits.database_bytes_max} bytes with its log and history; "
                "compact the log, purge keys whose history is large (also deleted ones), lower "
                "limits.log_window_revisions, or raise limits.database_bytes_max to its default",
                code="store_full",
            )
        if index.live_bytes + queued.bytes >= limits.live_bytes_max:
            self._refuse_full("live_bytes", f"{limits.live_bytes_max} bytes of live data")
        fresh = sum(not isinstance(write, Delete) and index.get(write.id) is None for write in writes)
        if fresh and len(index) + queued.writes + fresh > limits.live_entries_max:
            self._refuse_full("live_entries", f"{limits.live_entries_max} entries")
        if self._quotas:
            self._admit_holders(batch, size, index, queued)

    def _admit_holders(self, batch: Batch, size: int, index: Index, queued: Queued) -> None:
        projects, most = demand_of(batch, size)
        if not projects:
            return
        holders = [Holder("project", project) for project in projects]
        if batch.origin.session:
            holders.append(Holder("session", batch.origin.session))
        for holder in holders:
            quotas = [quota for quota in self._quotas if quota.kind == holder.kind]
            taken = _taken(holder, index, queued)
            over = [quota for quota in quotas if quota.part(taken) + quota.part(most) > quota.bound(self.limits)]
            if not over:
                continue
            grown = growth(batch, holder, index)
            for quota in over:
                more = quota.part(grown)
                if more > 0 and quota.part(taken) + more > quota.bound(self.limits):
                    self._metrics.hit(f"{quota.kind}_{quota.unit}")
                    raise _exceeded(quota, holder, taken, grown, limits=self.limits, usage=index.usage)

    def _refuse_full(self, name: str, limit: str) -> None:
        self._metrics.hit(name)
        raise CosessionError(
            f"cannot write: the store holds {limit}; delete what is no longer needed", code="store_full"
        )
