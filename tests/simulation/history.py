"""What a run leaves behind for the oracles: every call and its answer, every committed batch, every event of a watch.

Rule: recorded by the world and the clients, read by the oracles, seen by nobody in the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from cosession.errors import CosessionError
from cosession.messages import Reply, Request
from cosession.messages.watches import WatchEvent
from cosessiond.store.engine import Batch, Committed, Entry
from simulation.knobs import Knobs


@dataclass(slots=True, eq=False)
class Call:
    """One call of a client. `floor`: the highest revision anybody had been shown when it was sent; `ceiling` and
    `compact`: the durable revision and the lower end of the window when its answer came.

    `first` is the number of the first call with the same request id (its own, when it is none).
    """

    number: int
    client: str
    connection: int
    request: Request[Any]
    sent_s: float
    floor: int
    first: int
    status: Literal["pending", "replied", "failed", "cut"] = "pending"
    reply: Reply | None = None
    error: CosessionError | None = None
    revision: int = 0
    answered_s: float = 0.0
    ceiling: int = 0
    compact: int = 0


@dataclass(slots=True, eq=False)
class Row:
    """One batch that took a revision. `published_s` None: the daemon died before."""

    revision: int
    batch: Batch
    outcome: Committed
    life: int
    submitted_s: float
    applied_s: float
    published_s: float | None = None


@dataclass(slots=True, eq=False)
class Segment:
    """One watch on one connection. `start` 0: with a snapshot. `over`: how it ended, "" while it stands."""

    start: int
    floor: int
    call: Call
    ceilings: list[int] = field(default_factory=list)
    compacts: list[int] = field(default_factory=list)
    events: list[WatchEvent] = field(default_factory=list)
    over: str = ""


@dataclass(slots=True, eq=False)
class Watching:
    """One watch of a client, through all its resumptions."""

    client: str
    space: str
    project: str
    prefix: str
    exact: bool
    segments: list[Segment] = field(default_factory=list)

    def selects(self, id: tuple[str, str, str]) -> bool:
        """Whether a change of `id` is for it."""
        if id[:2] != (self.space, self.project):
            return False
        return id[2] == self.prefix if self.exact else id[2].startswith(self.prefix)


@dataclass(slots=True, eq=False)
class Life:
    """One run of the daemon; what it found when it started."""

    number: int
    started_s: float
    revision: int
    entries: list[Entry]
    log: list[Committed]
    ended_s: float | None = None


@dataclass(slots=True, eq=False)
class Quiet:
    """What was there when everything had come to rest; `leaks` after every client was gone and time had passed.

    `pending` are the calls without an answer then: the end of their clients cuts them.
    """

    revision: int
    memory_revision: int
    memory: list[Entry]
    engine: list[Entry]
    log: list[Committed]
    pending: list[Call] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    late_entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class History:
    """One run."""

    knobs: Knobs
    calls: list[Call] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    watches: list[Watching] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    died_s: dict[tuple[int, int], float | None] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    unsound: list[str] = field(default_factory=list)
    seen: int = 0
    compact: int = 1
    quiet: Quiet | None = None
    quiet_from_s: float = 0.0
    digest: str = ""
    steps: int = 0

    @property
    def revision(self) -> int:
        """The durable revision."""
        return self.rows[-1].revision if self.rows else 0

    def saw(self, revision: int) -> None:
        """Somebody was shown this revision."""
        self.seen = max(self.seen, revision)
