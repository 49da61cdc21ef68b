"""What checkpoints need from the rest of the daemon: the store, and what the sessions know.

Rule: signatures only; checkpoints and sessions never import one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from cosession.errors import CosessionError
from cosessiond.store.engine import Batch, Committed, Compare, Entry, EntryId, Origin, Outcome, Write

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
        """Submit what `decide` returns; when it conflicts decide again; see `store.revisions.Store.propose`."""
        ...

    def submit(self, batch: Batch, done: Callable[[Outcome], None], /, *, asks: bool = False) -> None:
        """Queue a batch; see `store.revisions.Store.submit`."""
        ...

    def origin(self, operation: str, session: str = "") -> Origin:
        """Who proposes, for a batch of the daemon's own."""
        ...

    def batch(self, origin: Origin, compares: Sequence[Compare], then: Sequence[Write], /) -> Batch:
        """A batch of the current format, with the wall clock filled in."""
        ...


class Author(NamedTuple):
    """Who saves: the compare that the session lives as it does now, its project, and the checkpoint it took over."""

    guard: Compare
    project: str
    inherited: str


class Sessions(Protocol):
    """The sessions, as far as checkpoints go by them."""

    def is_live(self, id: str, /) -> bool:
        """Whether the session has not ended."""
        ...

    def is_known(self, id: str, /) -> bool:
        """Whether its record is kept."""
        ...

    def author(self, id: str, /) -> Author:
        """Of a live session. Raises not_found and session_ended."""
        ...
