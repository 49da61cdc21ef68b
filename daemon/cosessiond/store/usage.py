"""How much of the context and of letters there is of each project and each session, and by whom and where.

An entry counts for the project it is in, and for the session that wrote it last; what no session wrote counts for none.
So a letter counts for the project of its box, and for its sender until it is handed over. Other spaces of ours count
for nobody.

Rule: plain counters; whoever adds and takes away says what, and nobody who has nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from itertools import islice
from typing import Final, NamedTuple

#: The spaces whose entries count.
COUNTED_SPACES: Final = frozenset({"context", "$mail"})
#: How many names are looked at for the largest: those beyond came last, and a refusal must not take long.
LOOKED_MAX: Final = 16_384


class Used(NamedTuple):
    """What somebody has: the bytes of keys and values, and the entries."""

    bytes: int
    entries: int


_NOTHING: Final = Used(0, 0)


class Tally:
    """What each of many has, by name. Counted in place: this is done with every write."""

    def __init__(self) -> None:
        self._used: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._used)

    def __iter__(self) -> Iterator[tuple[str, Used]]:
        return ((name, Used(*used)) for name, used in self._used.items())

    def of(self, name: str) -> Used:
        """What one has."""
        used = self._used.get(name)
        return Used(*used) if used is not None else _NOTHING

    def add(self, name: str, size: int, entries: int) -> None:
        """One has so much more, or less where it is negative."""
        used = self._used.get(name)
        if used is None:
            used = self._used[name] = [0, 0]
        used[0] += size
        used[1] += entries
        if not used[1] and not used[0]:
            del self._used[name]

    def largest(self, count: int) -> list[tuple[str, Used]]:
        """Those `count` that have most bytes, of the first LOOKED_MAX, the largest first."""
        return nlargest(count, islice(iter(self), LOOKED_MAX), key=lambda each: each[1])


class Usage:
    """The live entries, summed up."""

    def __init__(self) -> None:
        self.projects = Tally()
        self.sessions = Tally()
        self._shares: dict[str, Tally] = {}

    def add(self, project: str, session: str, size: int, entries: int) -> None:
        """So much more of one project, written by one session ("": by none); less where it is negative."""
        self.projects.add(project, size, entries)
        if session:
            self.sessions.add(session, size, entries)
        shares = self._shares.get(project)
        if shares is None:
            shares = self._shares[project] = Tally()
        shares.add(session, size, entries)
        if not shares:
            del self._shares[project]

    def largest_in(self, project: str, count: int) -> list[tuple[str, Used]]:
        """The sessions that have most of a project; "" is whoever is none."""
        shares = self._shares.get(project)
        return shares.largest(count) if shares is not None else []

    def largest_of(self, session: str, count: int) -> list[tuple[str, Used]]:
        """The projects in which a session has most, of the first LOOKED_MAX."""
        found = ((name, shares.of(session)) for name, shares in islice(self._shares.items(), LOOKED_MAX))
        return nlargest(count, (each for each in found if each[1] != _NOTHING), key=lambda each: each[1])
