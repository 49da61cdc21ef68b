"""What the sessions need from the rest of the daemon: the store, and someone who watches processes.

Rule: signatures only, so that the deterministic simulation can stand in for either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cosession.errors import CosessionError
from cosession.model import Instance
from cosessiond.sessions.verdict import ProcessSignal
from cosessiond.sessions.watching import OnDeath, Watching
from cosessiond.store.engine import Batch, Committed, Compare, Entry, EntryId, Origin, Write

Proposed = Committed | CosessionError | None


class Store(Protocol):
    """The store as domain code sees it (`store.revisions`): durable memory, and batches decided from it."""

    @property
    def revision(self) -> int:
        """The last durable revision."""
        ...

    def get(self, id: EntryId, /) -> Entry | None:
        """The entry as it is durable now."""
        ...

    def scan(self, space: str, project: str, prefix: str, /) -> Iterator[Entry]:
        """The entries under a prefix, in key order."""
        ...

    def propose(self, decide: Callable[[], Batch | None], done: Callable[[Proposed], None], /) -> None:
        """Submit what `decide` returns; when it conflicts decide again, at most DECIDE_ATTEMPTS_MAX times.

        `done` gets the outcome: Committed, None when there was nothing to write, or the error that `decide` raised or
        the store answered. `Registry.published` has been called for a committed batch before; it may propose, too.
        """
        ...

    def origin(self, operation: str, session: str = "") -> Origin:
        """Who proposes, for a batch of the daemon's own."""
        ...

    def batch(self, origin: Origin, compares: Sequence[Compare], then: Sequence[Write], /) -> Batch:
        """A batch of the current format, with the wall clock filled in."""
        ...

    def owned(self, session_id: str, /) -> Sequence[EntryId]:
        """The ephemeral entries of a session."""
        ...

    def may_own(self, session_id: str, /) -> Sequence[EntryId]:
        """The entries that become ephemeral of a session if what is queued succeeds."""
        ...


class Processes(Protocol):
    """Whoever looks at processes and notices their end (`watching.ProcessWatch`)."""

    def look(self, instance: Instance) -> ProcessSignal:
        """Look now."""
        ...

    def watch(self, instance: Instance, on_death: OnDeath) -> Watching:
        """Call `on_death` once, later, when the process ends or has ended already."""
        ...
