"""The live entries in the loop's memory: by id, in key order, by owner, and how much there is of them and of whom.

Rule: it changes only when a committed batch is published, so whatever it shows is durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from sortedcontainers import SortedList

from cosessiond.store.engine import Entry, EntryId
from cosessiond.store.keys import end_of
from cosessiond.store.usage import COUNTED_SPACES, Usage

if TYPE_CHECKING:
    Keys = SortedList[str]


def entry_bytes(id: EntryId, value: bytes) -> int:
    """What an entry counts for against the live-data limit, in bytes."""
    key = id[2]
    return (len(key) if key.isascii() else len(key.encode())) + len(value)


class Index:
    """Live entries. Lookups are dict reads; scans walk one sorted key list per (space, project)."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[EntryId, Entry] = {}
        self._keys: dict[tuple[str, str], Keys] = {}
        self._owned: dict[str, set[EntryId]] = {}
        self.live_bytes = 0
        self.usage = Usage()
        self._entries.update((entry.id, entry) for entry in entries)
        for place, ids in groupby(self._entries, key=itemgetter(0, 1)):
            self._keys.setdefault(place, SortedList()).update([id[2] for id in ids])
        shares: dict[tuple[str, str], list[int]] = {}
        for id, entry in self._entries.items():
            size = entry_bytes(id, entry.value)
            self.live_bytes += size
            if id[0] in COUNTED_SPACES:
                share = shares.setdefault((id[1], entry.session), [0, 0])
                share[0] += size
                share[1] += 1
            if entry.owner:
                self._owned.setdefault(entry.owner, set()).add(id)
        for (project, session), (size, count) in shares.items():
            self.usage.add(project, session, size, count)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, id: EntryId) -> Entry | None:
        """The live entry, None when absent."""
        return self._entries.get(id)

    def scan(self, space: str, project: str, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """Entries under `prefix` with key > `after`, in key order. Do not change the index while iterating."""
        keys = self._keys.get((space, project))
        if keys is None:
            return
        start = keys.bisect_right(after) if after and after >= prefix else keys.bisect_left(prefix)
        for key in keys.islice(start):
            if not key.startswith(prefix):
                return
            yield self._entries[(space, project, key)]

    def keys(self, space: str, project: str, prefix: str) -> list[str]:
        """The keys under `prefix`, in order: a copy, made without looking at each."""
        keys = self._keys.get((space, project))
        if keys is None:
            return []
        end = end_of(prefix)
        return keys[keys.bisect_left(prefix) : keys.bisect_left(end) if end else len(keys)]

    def owned(self, session: str) -> list[EntryId]:
        """The ephemeral entries of a session, sorted."""
        return sorted(self._owned.get(session, ()))

    def put(self, entry: Entry) -> None:
        """An entry as it stands now."""
        before = self._entries.get(entry.id)
        if before is None:
            place = entry.id[:2]
            keys = self._keys.get(place)
            if keys is None:
                keys = self._keys[place] = SortedList()
            keys.add(entry.id[2])
        elif before.session == entry.session and before.owner == entry.owner:
            self._entries[entry.id] = entry
            self._grow(entry, len(entry.value) - len(before.value), 0)
            return
        else:
            self._count(before, -1)
        self._entries[entry.id] = entry
        self._count(entry, +1)

    def remove(self, id: EntryId) -> None:
        """An entry that is gone."""
        before = self._entries.pop(id, None)
        if before is None:
            return
        self._count(before, -1)
        keys = self._keys[id[:2]]
        keys.remove(id[2])
        if not keys:
            del self._keys[id[:2]]

    def _count(self, entry: Entry, sign: int) -> None:
        self._grow(entry, sign * entry_bytes(entry.id, entry.value), sign)
        if entry.owner:
            owned = self._owned.setdefault(entry.owner, set())
            if sign > 0:
                owned.add(entry.id)
            else:
                owned.discard(entry.id)
                if not owned:
                    del self._owned[entry.owner]

    def _grow(self, entry: Entry, size: int, entries: int) -> None:
        self.live_bytes += size
        if entry.id[0] in COUNTED_SPACES:
            self.usage.add(entry.id[1], entry.session, size, entries)
