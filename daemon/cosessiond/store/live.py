"""The live entries in the engine's memory: by id, in the order of their revisions, and in key order per project.

Two orders, because a range compare may ask either way: few entries are newer than a claim's last look, and few lie
under a claim's prefix. Each compare walks whichever is shorter, so it costs at most twice the smaller of the two.

Rule: it changes only in `adopt`, once a group is durable; what the group itself has written so far is the overlay of
`store.writes.Group`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from sortedcontainers import SortedList

from cosessiond.store.engine import Entry, EntryId, RangeCompare
from cosessiond.store.keys import end_of

if TYPE_CHECKING:
    Keys = SortedList[str]


class Live:
    """Entries as the last durable group left them."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        found = list(entries)
        self._keys: dict[tuple[str, str], Keys] = {}
        for place, ids in groupby((entry.id for entry in found), key=itemgetter(0, 1)):
            self._keys.setdefault(place, SortedList()).update([id[2] for id in ids])
        found.sort(key=attrgetter("mod_revision"))
        self._entries: dict[EntryId, Entry] = {entry.id: entry for entry in found}

    def get(self, id: EntryId) -> Entry | None:
        """The entry, None when absent."""
        return self._entries.get(id)

    def in_order(self) -> Iterator[Entry]:
        """All of them, in the order of their ids."""
        for (space, project), keys in sorted(self._keys.items(), key=itemgetter(0)):
            for key in keys:
                yield self._entries[(space, project, key)]

    def behind(self, id: EntryId, limit: int) -> list[Entry]:
        """At most `limit` entries behind `id`, in the order of their ids."""
        found: list[Entry] = []
        for place in sorted(place for place in self._keys if place >= id[:2]):
            keys = self._keys[place]
            first = keys.bisect_right(id[2]) if place == id[:2] else 0
            found += [self._entries[(*place, key)] for key in keys.islice(first, first + limit - len(found))]
            if len(found) >= limit:
                break
        return found

    def under(self, place: tuple[str, str], prefix: str, *, after: str, until: str) -> Iterator[Entry]:
        """The entries of one space and project under `prefix` and behind `after`, up to `until` (empty: all)."""
        keys = self._keys.get(place)
        if keys is None:
            return
        end = end_of(prefix)
        start = keys.bisect_right(after) if after >= prefix else keys.bisect_left(prefix)
        stop = keys.bisect_right(until) if until else keys.bisect_left(end) if end else len(keys)
        for key in keys.islice(start, stop):
            yield self._entries[(*place, key)]

    def adopt(self, written: Mapping[EntryId, Entry | None]) -> None:
        """A group is durable. `written` is in the order of mod_revision; None: the entry is gone."""
        for id, entry in written.items():
            before = self._entries.pop(id, None)  # so that what was written last stands last
            if entry is not None:
                self._entries[id] = entry
            if (before is None) != (entry is None):
                self._key(id, present=entry is not None)

    def _key(self, id: EntryId, *, present: bool) -> None:
        place = id[:2]
        keys = self._keys.get(place)
        if keys is None:
            keys = self._keys[place] = SortedList()
        if present:
            keys.add(id[2])
        else:
            keys.remove(id[2])
            if not keys:
                del self._keys[place]

    def first_newer(self, compare: RangeCompare, hidden: Container[EntryId]) -> Entry | None:
        """The first entry in key order that makes `compare` fail, without those whose id is `hidden`."""
        keys = self._keys.get((compare.space, compare.project))
        if keys is None:
            return None
        start = keys.bisect_left(compare.prefix)
        end = end_of(compare.prefix)
        stop = keys.bisect_left(end) if end else len(keys)
        found: Entry | None = None
        looks = stop - start
        for entry in reversed(self._entries.values()):
            if entry.mod_revision <= compare.max_mod_revision:
                return found
            if looks == 0:
                break
            looks -= 1
            if compare.selects(entry.id) and entry.id not in hidden and (found is None or entry.id[2] < found.id[2]):
                found = entry
        for key in keys.islice(start, stop):
            id = (compare.space, compare.project, key)
            if self._entries[id].mod_revision > compare.max_mod_revision and id not in hidden:
                return self._entries[id]
        return None
