"""What mail needs from the rest of the daemon: the store, and who the sessions are.

Rule: signatures only; mail and sessions never import one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from cosession.errors import CosessionError
from cosessiond.store.engine import Batch, Committed, Compare, Entry, EntryId, Origin, Outcome, Write

Proposed = Committed | CosessionError | None


class Store(Protocol):
    """The store as domain code sees it (`store.revisions`): durable memory, and batches decided from it."""

    @property
    def index(self) -> Iterable[Entry]:
        """All live entries."""
        ...

    def get(self, id: EntryId, /) -> Entry | None:
        """The entry as it is durable now."""
        ...

    def submit(self, batch: Batch, done: Callable[[Outcome], None], /) -> None:
        """Queue a batch; `done` gets its outcome. Raises CosessionError."""
        ...

    def propose(self, decide: Callable[[], Batch | None], done: Callable[[Proposed], None], /) -> None:
        """Submit what `decide` returns; when it conflicts decide again; see `store.revisions.Store.propose`."""
        ...

    def origin(self, operation: str, session: str = "") -> Origin:
        """Who proposes, for a batch of the daemon's own."""
        ...

    def batch(self, origin: Origin, compares: Sequence[Compare], then: Sequence[Write], /) -> Batch:
        """A batch of the current format, with the wall clock filled in."""
        ...


class Addressee(NamedTuple):
    """What is known of a session that writes or is written to."""

    id: str
    name: str
    project: str
    state: str


class Sessions(Protocol):
    """The sessions, as far as mail goes by them."""

    def find(self, text: str, near: str, /) -> Addressee:
        """The session with this id, or the only one with this name, in project `near` if there it is the only one.

        Raises not_found, which names those that are called nearly so, and InvalidRequest.
        """
        ...

    def get(self, id: str, /) -> Addressee | None:
        """The session with this id, None when nothing is known of it."""
        ...

    def live_in(self, project: str, /) -> list[Addressee]:
        """The live sessions of a project."""
        ...

    def successor(self, id: str, /) -> Addressee | None:
        """The live session that goes on in the place of one that has ended, None when there is none."""
        ...
