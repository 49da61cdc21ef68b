"""What claims need from the rest of the daemon: the store, and what the sessions know.

Rule: signatures only; claims and sessions never import one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from cosession.errors import CosessionError
from cosessiond.store.engine import Batch, Committed, Compare, Entry, EntryId, Origin, Write

Proposed = Committed | CosessionError | None
#: Calls an action in a later tick of the loop, after those that wait already, under a name.
Later = Callable[[object, Callable[[], None]], None]


class Store(Protocol):
    """The store as domain code sees it (`store.revisions`): durable memory, and batches decided from it."""

    @property
    def revision(self) -> int:
        """The last durable revision."""
        ...

    @property
    def index(self) -> Iterable[Entry]:
        """All live entries."""
        ...

    def get(self, id: EntryId, /) -> Entry | None:
        """The entry as it is durable now."""
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


class Holder(NamedTuple):
    """What is known of a session that holds something or asks; `state` is "" when there is none."""

    name: str = ""
    agent: str = ""
    state: str = ""
    replaced_by: str = ""
    recovered_by: str = ""


class Sessions(Protocol):
    """The sessions, as far as claims go by them."""

    def is_live(self, id: str, /) -> bool:
        """Whether the session has not ended."""
        ...

    def guard(self, id: str, /) -> Compare:
        """The compare that the session lives as it does now. Raises not_found and session_ended."""
        ...

    def holder(self, id: str, /) -> Holder:
        """What is known of a session."""
        ...
