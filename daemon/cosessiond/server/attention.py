"""What each session has been told through its hooks, and what has changed since: in memory, bounded.

Rule: it follows what is durable. A daemon that has just started knows of no change before its start, and says nothing
rather than everything.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from cosessiond.store.engine import Committed

#: Changes of the context that are remembered, of all projects.
CHANGES_MAX: Final = 1_024
#: Sessions of which it is remembered how far they were told; the one that was told longest ago goes.
SESSIONS_MAX: Final = 4_096


class Changed(NamedTuple):
    """One entry that was written, by its key; a later change of it stands behind."""

    revision: int
    project: str
    key: str
    session: str


class Attention:
    """Of each session the revision up to which it was told."""

    def __init__(self) -> None:
        self._changes: deque[Changed] = deque(maxlen=CHANGES_MAX)
        self._told: dict[str, int] = {}

    def published(self, committed: Committed) -> None:
        """A listener of the store."""
        for change in committed.changes:
            space, project, key = change.id
            if space == "context":
                self._changes.append(Changed(committed.revision, project, key, committed.origin.session))

    def told(self, session: str, revision: int) -> None:
        """A session knows now what stands at `revision`."""
        self._told.pop(session, None)
        self._told[session] = revision
        if len(self._told) > SESSIONS_MAX:
            del self._told[next(iter(self._told))]

    def news(self, session: str, project: str) -> list[Changed]:
        """What others changed in a project since the session was told last, newest first, each entry once."""
        since = self._told.get(session)
        if since is None:
            return []
        found: dict[str, Changed] = {}
        for change in reversed(self._changes):
            if change.revision <= since:
                break
            if change.project == project and change.session != session:
                found.setdefault(change.key, change)
        return list(found.values())
