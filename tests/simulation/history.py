"""What a run leaves behind for the oracles: every call and its answer, every committed batch, every event of a watch.

Rule: recorded by the world and the clients, read by the oracles, seen by nobody in the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from cosession.errors import CosessionError
from cosession.messages import Reply, Request
from cosession.messages.watches import WatchEvent
from cosessiond.store.engine import Batch, Committed, Entry, EntryId, VersionRow
from simulation.knobs import Knobs


class Trim(NamedTuple):
    """The log window moved to `compact`, when the durable revision was this."""

    revision: int
    compact: int


class Moment(NamedTuple):
    """When something happened in the daemon; `order` sorts what happened at the same time."""

    s: float
    order: int


@dataclass(slots=True, eq=False)
class Call:
    """One call of a client. `floor` and `opened`: the highest revision anybody had been shown when it was sent, and the
    lower end of the window then; `ceiling` and `compact`: the durable revision and that end when its answer came.

    `first` is the number of the first call with the same request id (its own, when it is none). The daemon has `taken`
    it and `told` its `outcome` at moments of its own, whatever the client heard.
    """

    number: int
    client: str
    connection: int
    request: Request[Any]
    sent_s: float
    floor: int
    first: int
    opened: int = 0
    status: Literal["pending", "replied", "failed", "cut"] = "pending"
    reply: Reply | None = None
    error: CosessionError | None = None
    revision: int = 0
    answered_s: float = 0.0
    ceiling: int = 0
    compact: int = 0
    taken: Moment | None = None
    told: Moment | None = None
    outcome: Reply | CosessionError | None = None


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
    arrived_s: list[float] = field(default_factory=list)
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
class Connection:
    """One connection, of one life of the daemon, and when that noticed its end."""

    life: int
    closed: Moment | None = None


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
    versions: dict[EntryId, list[VersionRow]] = field(default_factory=dict)
    pending: list[Call] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    late_entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class History:
    """One run."""

    knobs: Knobs
    calls: list[Call] = field(default_factory=list)
    by_wire: dict[tuple[int, int], Call] = field(default_factory=dict)
    connections: dict[int, Connection] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    trims: list[Trim] = field(default_factory=list)
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
    moments: int = 0

    @property
    def revision(self) -> int:
        """The durable revision."""
        return self.rows[-1].revision if self.rows else 0

    def moment(self, now_s: float) -> Moment:
        """Now, behind all that happened before."""
        self.moments += 1
        return Moment(now_s, self.moments)

    def saw(self, revision: int) -> None:
        """Somebody was shown this revision."""
        self.seen = max(self.seen, revision)
