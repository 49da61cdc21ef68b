"""Snapshots for watches: the entries under a prefix as they were at one revision, taken a page at a time.

Beginning one costs a copy of a list of keys. The entries stay in the index and are looked up page by page; when one of
them changes meanwhile, each open snapshot that has not come to it yet keeps what it was. So a snapshot holds keys, and
of the values only what has been replaced since it began.

Rule: bounded. All open snapshots together hold at most SNAPSHOT_KEYS_MAX keys and SNAPSHOT_OLD_BYTES_MAX bytes of
replaced values; a new one that does not fit is refused, and those that keep most end when that is outgrown.
"""

from __future__ import annotations

from cosession.messages.limits import SNAPSHOT_KEYS_MAX, SNAPSHOT_OLD_BYTES_MAX
from cosessiond.store.engine import Entry, EntryId
from cosessiond.store.index import Index


class Snapshot:
    """Where one snapshot stands; made by `Snapshots.begin`."""

    __slots__ = ("_at", "_keys", "_old", "old_bytes", "place", "revision")

    def __init__(self, place: tuple[str, str], keys: list[str], revision: int) -> None:
        self.place = place
        self.revision = revision
        self._keys = keys
        self._at = 0
        self._old: dict[str, Entry] = {}
        self.old_bytes = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def done(self) -> bool:
        """Whether every page has been taken."""
        return self._at >= len(self._keys)

    def page(self, index: Index, bytes_max: int) -> list[Entry]:
        """The next entries in key order, at least one unless it is done, until they have `bytes_max` bytes."""
        found: list[Entry] = []
        size = 0
        while size < bytes_max and self._at < len(self._keys):
            key = self._keys[self._at]
            self._at += 1
            entry = self._old.get(key) or index.get((*self.place, key))
            assert entry is not None, "what is removed is kept here"
            found.append(entry)
            size += len(entry.value) + 200
        return found

    def clear(self) -> None:
        """Hold nothing any more, whoever still holds this."""
        self._keys = []
        self._old = {}
        self.old_bytes = 0

    def keeps(self, key: str) -> bool:
        """Whether it holds what `key` was."""
        return key in self._old

    def keep(self, before: Entry) -> int:
        """An entry is replaced or removed: keep what it was if it is still to be sent. Returns the bytes held more."""
        key = before.id[2]
        if self.done or before.mod_revision > self.revision or key < self._keys[self._at] or key in self._old:
            return 0
        if key > self._keys[-1]:
            return 0
        self._old[key] = before
        self.old_bytes += len(before.value)
        return len(before.value)


class Snapshots:
    """The open ones, oldest first."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._open: dict[Snapshot, None] = {}
        self._keys = 0
        self._old_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, place: tuple[str, str], prefix: str, revision: int, *, exact: bool) -> Snapshot | None:
        """A snapshot of what the index shows now, at `revision`; None when too much is held already."""
        keys = self._index.keys(*place, prefix) if not exact else [prefix] if self._index.get((*place, prefix)) else []
        if self._open and self._keys + len(keys) > SNAPSHOT_KEYS_MAX:
            return None
        snapshot = Snapshot(place, keys, revision)
        self._open[snapshot] = None
        self._keys += len(keys)
        return snapshot

    def end(self, snapshot: Snapshot) -> None:
        """It was sent whole, or nobody wants it any more; harmless when done before."""
        if snapshot in self._open:
            del self._open[snapshot]
            self._keys -= len(snapshot)
            self._old_bytes -= snapshot.old_bytes
            snapshot.clear()

    def is_open(self, snapshot: Snapshot) -> bool:
        """False when it ended, also when it did so to make room."""
        return snapshot in self._open

    def forget(self, id: EntryId) -> None:
        """What `id` was must not be sent any more: those that keep it end."""
        for snapshot in [each for each in self._open if each.place == id[:2] and each.keeps(id[2])]:
            self.end(snapshot)

    def keep(self, id: EntryId, before: Entry) -> None:
        """The index is about to lose `before`."""
        for snapshot in self._open:
            if snapshot.place == id[:2]:
                self._old_bytes += snapshot.keep(before)
        while self._old_bytes > SNAPSHOT_OLD_BYTES_MAX:
            self.end(max(self._open, key=lambda each: each.old_bytes))
