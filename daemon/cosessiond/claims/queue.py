"""Who asks for what in one project, in the order of arrival, and what stands in each one's way.

Everyone who asks is here until the claim is durable or refused. What stands in its way is found once, when it arrives:
the claims that stand and those who ask ahead of it. That stays true: whoever comes later is behind it, one ahead that
is granted keeps its id as the claim's, and an adopted claim takes the place of the one it was. So a request is ready
when the last of its obstacles has gone, and nothing is compared twice.

Finding the obstacles can take long, where both sides have many long globs. So it goes in steps of bounded work.

Rule: decides only; no store, no clock, no answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final

from cosession.model import Claim
from cosessiond.claims.records import Held
from cosessiond.claims.targets import Pair, Targets, compared

#: Work of one step: about so many microseconds at most, and one comparison of two globs at least.
STEP_COST: Final = 4_096

#: The claim with an id, None when it no longer stands.
Standing = Callable[[str], Held | None]


class Ask:
    """One request: the `claim` it would become, its `targets` read, and the connection it came on (`by`).

    `obstacles` are ids of claims and of requests ahead, each with the first pair of targets that was found to overlap;
    `unseen` those it was not compared with yet, and `comparing` what is left of comparing it with the last of those.
    """

    __slots__ = ("by", "claim", "comparing", "obstacles", "targets", "unseen")

    def __init__(self, claim: Claim, targets: Targets, by: Hashable) -> None:
        self.claim = claim
        self.targets = targets
        self.by = by
        self.obstacles: dict[str, Pair] = {}  # in the order in which they were met
        self.unseen: list[str] = []
        self.comparing: Iterator[tuple[int, Pair | None]] | None = None

    @property
    def id(self) -> str:
        """The id of the claim it would become."""
        return self.claim.id

    @property
    def is_ready(self) -> bool:
        """Whether all was compared and nothing is in its way."""
        return not self.unseen and not self.obstacles


class Queue:
    """All who ask in one project."""

    def __init__(self) -> None:
        self._asks: dict[str, Ask] = {}

    def __len__(self) -> int:
        return len(self._asks)

    def __iter__(self) -> Iterator[Ask]:
        return iter(list(self._asks.values()))

    def get(self, id: str) -> Ask | None:
        """The request with this id."""
        return self._asks.get(id)

    def add(self, ask: Ask, standing: Iterable[Held]) -> None:
        """One more, behind all others; `standing` are the claims of the project. `step` must follow."""
        ask.unseen = [*self._asks, *(held.id for held in standing)]
        self._asks[ask.id] = ask

    def step(self, ask: Ask, standing: Standing) -> bool:
        """Compare it with some of what it was not compared with; False while more is left."""
        left = STEP_COST
        while ask.unseen and left > 0:
            id = ask.unseen[-1]
            other = self._asks.get(id) or standing(id)
            pair: Pair | None = None
            if other is not None and _matters(other.claim, ask.claim):
                if ask.comparing is None:
                    ask.comparing = compared(ask.targets, other.targets)
                for steps, pair in ask.comparing:
                    left -= steps
                    if pair is not None or left <= 0:
                        break
                else:
                    left -= 1
                if pair is None and left <= 0:
                    break  # it goes on with the same one
            ask.unseen.pop()
            ask.comparing = None
            if pair is not None:
                ask.obstacles[id] = pair
        return not ask.unseen

    def leave(self, id: str) -> list[Ask]:
        """A request is refused or given up; those that are ready now that it is gone."""
        self._asks.pop(id, None)
        return self.gone(id)

    def granted(self, id: str) -> None:
        """A request has become a claim, which is in the way of those behind it as the request was."""
        self._asks.pop(id, None)

    def gone(self, id: str) -> list[Ask]:
        """A claim no longer stands; the requests that are ready now."""
        ready = []
        for ask in self._asks.values():
            if id in ask.obstacles:
                del ask.obstacles[id]
                if ask.is_ready:
                    ready.append(ask)
        return ready

    def adopted(self, old: str, new: str) -> None:
        """A claim stands under a new id."""
        for ask in self._asks.values():
            if old in ask.obstacles:
                ask.obstacles[new] = ask.obstacles.pop(old)
            if old in ask.unseen:
                ask.unseen[ask.unseen.index(old)] = new

    def passed_on(self, id: str, session: str) -> list[Ask]:
        """A claim has another holder, which it is not in the way of; the requests that are ready now."""
        ready = []
        for ask in self._asks.values():
            if ask.claim.session == session and id in ask.obstacles:
                del ask.obstacles[id]
                if ask.is_ready:
                    ready.append(ask)
        return ready

    def behind(self, id: str) -> list[Ask]:
        """The requests that wait for this claim or request, in their order."""
        return [ask for ask in self._asks.values() if id in ask.obstacles]


def _matters(other: Claim, wanted: Claim) -> bool:
    """Whether a claim or request would be in the way of another that overlaps it: not when both are shared, nor when
    they are of one session, unless that one crashed and left it, so that somebody else may adopt it.
    """
    if other.session == wanted.session and other.state == "held":
        return False
    return not (other.shared and wanted.shared)
