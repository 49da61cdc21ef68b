"""What one copy of a store holds, read from end to end in a fixed order: entries, and their kept versions.

The copy is read as it is, of whatever schema. What its log has above its tables is laid over them, as a start would
derive it; that is at most what was behind when it was made.

Rule: read-only, and in pieces: nothing but what the log has above the tables is held in memory.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from msgspec import DecodeError

from cosessiond.store import logged, reads, schema
from cosessiond.store.engine import Applied, Committed, Entry, EntryId, StoreBroken, VersionRow
from cosessiond.store.writes import entry_of

_NO_BOUND: Final = 2**62


class Difference(NamedTuple):
    """How many entries one copy has that another has not, has with other content, and has not."""

    added: int
    changed: int
    missing: int


class Contents:
    """One copy, open. Every row is checked when it is read: StoreBroken when it does not match its hash.

    Raises ConfigError for a foreign file or a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = schema.open_copy(path)
        except sqlite3.Error as error:
            raise StoreBroken(f"cannot read {path}: {error}") from error
        try:
            self._above: dict[EntryId, list[tuple[Applied, Committed]]] = {}
            meta = reads.read_meta(self._db)
            self.epoch: Final = meta.epoch
            revision = meta.revision
            for outcome, _, _ in logged.log_after(self._db, meta.revision, meta.chain_hash, _NO_BOUND):
                revision = outcome.revision
                for change in outcome.changes:
                    self._above.setdefault(change.id, []).append((change, outcome))
            self.revision: Final = revision
        except (sqlite3.Error, DecodeError) as error:
            self._db.close()
            raise StoreBroken(f"cannot read {path}: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def entries(self) -> Iterator[Entry]:
        """Every live entry, in the order of space, project and key."""
        try:
            below = (entry for entry in reads.entries(self._db) if entry.id not in self._above)
            above = (entry_of(*self._above[id][-1]) for id in sorted(self._above))
            yield from heapq.merge(below, (entry for entry in above if entry), key=lambda entry: entry.id)
        except (sqlite3.Error, DecodeError) as error:
            raise StoreBroken(f"cannot read {self._path}: {error}") from error

    def versions(self) -> Iterator[VersionRow]:
        """Every kept version, deletions among them, by entry in the same order, oldest first."""
        try:
            above = (
                VersionRow(
                    id,
                    change.kind,
                    change.value,
                    change.version,
                    change.create_revision,
                    outcome.revision,
                    outcome.time_ms,
                    outcome.origin,
                )
                for id in sorted(self._above)
                for change, outcome in self._above[id]
            )
            below = reads.versions_in_order(self._db)
            yield from heapq.merge(below, above, key=lambda version: (version.id, version.mod_revision))
        except (sqlite3.Error, DecodeError) as error:
            raise StoreBroken(f"cannot read {self._path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def difference(one: Contents, other: Contents) -> Difference:
    """What `one` has beside `other`, entry by entry, in one walk through both."""
    added = changed = missing = 0
    mine, theirs = one.entries(), other.entries()
    left, right = next(mine, None), next(theirs, None)
    while left or right:
        if right is None or (left is not None and left.id < right.id):
            added, left = added + 1, next(mine, None)
        elif left is None or right.id < left.id:
            missing, right = missing + 1, next(theirs, None)
        else:
            changed += left.hash != right.hash
            left, right = next(mine, None), next(theirs, None)
    return Difference(added, changed, missing)
