"""Which request ids are kept: for how long an outcome answers its own repetition (P2).

Each commit forgets at most its two oldest ids, while there are more than `Window.request_ids` or, by the time of the
batch, they are older than `Window.request_id_ms` and more than `Window.request_ids_min`. So what is kept depends on the
batches alone and never on when somebody trimmed; it shrinks, since a commit adds one at most; and no commit pays for a
day's worth of ids at once. The minimum is there because the time of a batch is the wall clock's, which may jump.

Rule: ids are forgotten in the order of their revisions, so one number says it all: `meta.forgotten_revision`.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Final

from cosessiond.store import reads
from cosessiond.store.engine import Window

FORGOTTEN_PER_COMMIT: Final = 2
#: Oldest ids read ahead at a time.
_AHEAD: Final = 256

#: The revision of a kept id, and the time of its batch in milliseconds.
Kept = tuple[int, int]


class RequestIds:
    """The oldest kept ids, read ahead from the table; those behind it; and those of the group that is being written."""

    def __init__(self, db: sqlite3.Connection, window: Window) -> None:
        self._db = db
        self._window = window
        self._oldest: deque[Kept] = deque()  # in the table
        self._behind: deque[Kept] = deque()  # in the log, not in the table
        self._fresh: deque[Kept] = deque()  # of this group
        self._forgotten: list[tuple[deque[Kept], Kept]] = []  # by this group

    def committed(self, meta: reads.Meta, revision: int, time_ms: int, *, with_id: bool) -> None:
        """A batch of the group has changed something: keep its id, if it has one, and forget what is over."""
        if with_id:
            meta.request_count += 1
            self._fresh.append((revision, time_ms))
        for _ in range(FORGOTTEN_PER_COMMIT):
            source = self._front(meta)
            if not source:
                return
            oldest, kept_ms = source[0]
            if not self._is_over(meta.request_count, time_ms - kept_ms):
                return
            self._forgotten.append((source, source.popleft()))
            meta.request_count -= 1
            meta.forgotten_revision = oldest

    def _is_over(self, kept: int, age_ms: int) -> bool:
        """Whether the oldest of `kept` ids goes."""
        window = self._window
        return kept > window.request_ids or (age_ms > window.request_id_ms and kept > window.request_ids_min)

    def logged(self) -> None:
        """The group is in the log."""
        self._behind.extend(self._fresh)
        self._fresh.clear()
        self._forgotten.clear()

    def written(self, revision: int) -> None:
        """The ids of all batches up to `revision` are in the table."""
        while self._behind and self._behind[0][0] <= revision:
            self._behind.popleft()

    def rolled_back(self) -> None:
        """The group never was."""
        for source, kept in reversed(self._forgotten):
            source.appendleft(kept)
        self._forgotten.clear()
        self._fresh.clear()

    def _front(self, meta: reads.Meta) -> deque[Kept]:
        if not self._oldest and meta.request_count > len(self._behind) + len(self._fresh):
            self._oldest.extend(reads.requests_after(self._db, meta.forgotten_revision, _AHEAD))
        return self._oldest or self._behind or self._fresh
