"""All checkpoints in memory, as far as is needed to choose among them: by session, oldest first, and the heads.

Rule: it follows the store's published batches and is never ahead of them. Each is held against its hash once, when it
comes in; the content stays where it is, in the store's memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from cosessiond.checkpoints.records import Head, Seen, is_head, read_head, seen, session_in
from cosessiond.store.engine import Entry


class Shelf:
    """What is kept. `bytes` is what all of them take."""

    def __init__(self) -> None:
        self._all: dict[str, Seen] = {}  # in the order in which they were saved
        self._sessions: dict[str, dict[str, Seen]] = {}
        self._heads: dict[str, Head | None] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._all.values())

    def newest_first(self) -> Iterator[Seen]:
        """All of them."""
        return reversed(self._all.values())

    def put(self, entry: Entry) -> Seen | None:
        """An entry of the space as it is durable now; the checkpoint in it, None for a head."""
        key = entry.id[2]
        if is_head(key):
            self._heads[session_in(key)] = read_head(entry.value)
            return None
        self.remove(key)
        found = seen(entry)
        self._all[key] = found
        self._sessions.setdefault(session_in(key), {})[key] = found
        self.bytes += found.summary.size_bytes
        return found

    def remove(self, key: str) -> None:
        """The entry is no more."""
        session = session_in(key)
        if is_head(key):
            self._heads.pop(session, None)
            return
        found = self._all.pop(key, None)
        if found is None:
            return
        self.bytes -= found.summary.size_bytes
        mine = self._sessions[session]
        del mine[key]
        if not mine:
            del self._sessions[session]

    def get(self, id: str) -> Seen | None:
        """The checkpoint with this id."""
        return self._all.get(id)

    def of(self, session: str) -> list[Seen]:
        """The checkpoints of a session, oldest first."""
        return list(self._sessions.get(session, {}).values())

    def head(self, session: str) -> Head | None:
        """What its newest one is, or was."""
        return self._heads.get(session)

    def newest(self, session: str) -> str:
        """The id of its newest one, "" without any."""
        return next(reversed(self._sessions.get(session, {})), "")

    def sessions(self) -> list[str]:
        """The sessions that have any, or had."""
        return list({**dict.fromkeys(self._sessions), **dict.fromkeys(self._heads)})
