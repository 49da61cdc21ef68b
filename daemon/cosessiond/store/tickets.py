"""What goes into the queue of the store's thread, and who is told what became of it.

Rule: plain data and signatures only; `store.commit` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from cosessiond.store.engine import Batch, Engine, Outcome, Position, StoreBroken, Surplus
from cosessiond.store.record import AuditSpan, Record
from cosessiond.store.room import Report

Done = Callable[[Outcome], None]


class Ticket(Struct, frozen=True, gc=False):
    """A batch waiting for its outcome, and the audit records that are written with it.

    `asks`: it writes nothing, and only asks what became of its request id.
    """

    batch: Batch
    done: Done
    size: int  # about what it will leave behind, in bytes
    records: tuple[Record, ...] = ()
    asks: bool = False

    @property
    def writes(self) -> int:
        """Of the branch that has more."""
        return max(len(self.batch.then), len(self.batch.otherwise))


class Slice(Struct, frozen=True, gc=False):
    """A bounded piece of other work (a page of a read, a part of a purge): `run` runs on the thread, `done` on the loop
    with its result or the exception.
    """

    run: Callable[[Engine], Any]
    done: Callable[[Any], None]


class SliceFailed(Struct, frozen=True):
    """A slice met a bug of ours."""

    error: Exception


class Took(Struct, frozen=True, gc=False):
    """One group on the thread, by its clock: when it was taken, written, durable (0.0: it wrote nothing) and done; and
    of how many batches it was.
    """

    taken_s: float
    written_s: float
    synced_s: float
    done_s: float
    batches: int


class Subscriber(Protocol):
    """Who is told, on the loop."""

    def publish(self, tickets: Sequence[Ticket], outcomes: Sequence[Outcome], took: Took | None = None) -> None:
        """One group is durable; `took` says when, where a clock was given."""
        ...

    def tended(self, position: Position, surplus: Surplus, stored_bytes: int) -> None:
        """Upkeep was done: the lower end of the log window may have moved, so much is still to be trimmed, and so
        much is in use.
        """
        ...

    def stalled(self, stall_s: float) -> None:
        """What is committed next has waited so long for upkeep."""
        ...

    def audited(self, span: AuditSpan, settled: int, dropped: int, records: Sequence[Record]) -> None:
        """The audit has moved. Of `settled` records that went alone, `dropped` found no room on the disk. All that are
        new are among `records`.
        """
        ...

    def roomed(self, report: Report) -> None:
        """There is room on the disk again or no more, or another part of the reserve is held."""
        ...

    def broken(self, error: StoreBroken) -> None:
        """The engine failed; nothing more will be committed or answered."""
        ...


class CommitPath(Protocol):
    """Where batches and slices go in; the thread here, an inline one in the simulation."""

    def submit(self, ticket: Ticket) -> None:
        """Queue a batch, behind all earlier ones."""
        ...

    def note(self, record: Record) -> None:
        """Queue an audit record that goes alone."""
        ...

    def run(self, job: Slice) -> None:
        """Queue a slice; it sees every batch submitted and committed before it runs."""
        ...
