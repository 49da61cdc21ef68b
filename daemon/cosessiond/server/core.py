"""The core: everything one daemon owns in memory, in one place for handlers to reach.

Rule: no sockets, no event loop, no process state. The app builds it around asyncio, the simulation around its own loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Protocol

from msgspec import Struct

from cosession.config import Config
from cosession.errors import CosessionError
from cosessiond.audit.journal import Journal
from cosessiond.audit.records import Caller
from cosessiond.backups.schedule import Backups
from cosessiond.checkpoints.keeper import Keeper
from cosessiond.claims.referee import Referee
from cosessiond.clock import Clock, Entropy
from cosessiond.mail.postroom import PostRoom
from cosessiond.metrics import Metrics
from cosessiond.process.configuration import Configuration
from cosessiond.process.resolver import in_place
from cosessiond.recovery.recoverer import Recoverer
from cosessiond.server.addresses import Addresses
from cosessiond.server.attention import Attention
from cosessiond.server.conflicts import Conflicts
from cosessiond.server.damage import Damage
from cosessiond.server.holders import Holders
from cosessiond.server.loglevel import LogLevel
from cosessiond.server.runqueue import RunQueue
from cosessiond.server.scrubs import Scrubs
from cosessiond.server.tails import Tails
from cosessiond.server.tracing import Tracer
from cosessiond.server.turns import Turns
from cosessiond.server.waiting import Waiting
from cosessiond.sessions.registry import Registry
from cosessiond.spool.intake import Aboard
from cosessiond.store.expiry import Expiry
from cosessiond.store.leases import Deadlines
from cosessiond.store.marking import Marking
from cosessiond.store.revisions import Store
from cosessiond.store.room import Report
from cosessiond.store.watch import WatchHub


class Connected(Protocol):
    """A connection as the core sees it (`conversation.Conversation`)."""

    calls: int
    opened_s: float
    leaving: bool

    @property
    def in_flight(self) -> int:
        """Calls not answered yet."""
        ...

    def flush(self) -> None:
        """Send what is queued."""
        ...

    def leave(self, error: CosessionError) -> None:
        """Say goodbye and close."""
        ...

    def refuse(self, error: CosessionError) -> None:
        """Say why and close."""
        ...


class Identity(Struct, frozen=True, kw_only=True):
    """Who this daemon is; what `hello`, `ping` and `status` tell."""

    daemon_id: str
    pid: int
    version: str
    socket: str
    state_directory: str
    started_s: float


class Core:
    """Store, watches, sessions and the connections that use them."""

    def __init__(
        self,
        *,
        identity: Identity,
        store: Store,
        watches: WatchHub,
        expiry: Expiry,
        registry: Registry,
        journal: Journal,
        backups: Backups,
        deadlines: Deadlines,
        clock: Clock,
        entropy: Entropy,
        configuration: Configuration,
        metrics: Metrics,
        damage: Damage,
        marking: Marking | None,
        scrubs: Scrubs,
        stop: Callable[[], None],
        on_bug: Callable[[Exception], None],
    ) -> None:
        self.identity = identity
        self.store = store
        self.watches = watches
        self.expiry = expiry
        self.registry = registry
        self.journal = journal
        self.backups = backups
        self.deadlines = deadlines
        self.runqueue = RunQueue(deadlines)
        self.turns = Turns(deadlines, metrics, flush=self.flush)
        self.conflicts = Conflicts()
        self.holders = Holders(registry)
        self.referee = Referee(
            store,
            clock=clock,
            entropy=entropy,
            deadlines=deadlines,
            sessions=self.holders,
            metrics=metrics,
            later=self.runqueue.wait,
            flush=self.flush,
        )
        self.attention = Attention()
        self.resolve = in_place  # of paths that hooks name
        self.checkpoints = _keeper(store, clock, entropy, self.holders, damage)
        self.post = _post_room(store, clock, entropy, deadlines, self)
        self.clock = clock
        self.recoverer = _recoverer(self)
        self.waiting = Waiting(deadlines, metrics)
        self.configuration = configuration
        self.limits = configuration.in_force.limits
        configuration.listeners.append(self.configure)
        self.metrics = metrics
        self.damage = damage
        self.marking = marking
        self.scrubs = scrubs
        self.stop, self.on_bug = stop, on_bug
        self.spool = Aboard()  # how it stands with what clients left there
        self.look_at_room: Callable[[], Report] = Report  # on the disk
        self.draining = False
        self.purges = 0  # under way
        self.running = ""  # what commits wait for, for longer than a slice; for people
        self.conversations: dict[Connected, None] = {}  # a set whose order is that of arrival
        self.numbers = count(1)  # of connections, for people
        self._dirty: list[Connected] = []
        self._let_look_inside(deadlines)

    def _let_look_inside(self, deadlines: Deadlines) -> None:
        """For `debug.*`, of the clock, configuration and metrics above."""
        self.tails = Tails(self.clock, deadlines, self.metrics, everybody=lambda: list(self.conversations))
        self.tracer = Tracer(self.clock, deadlines)
        self.loglevel = LogLevel(self.configuration, self.tracer, self.clock, deadlines)

    def start(self) -> None:
        """Give every lease its full time, and judge every session again; the audit says that a daemon has begun."""
        self.journal.acted("start", subject=self.identity.version, caller=self._myself())
        self.expiry.start(list(self.store.index))
        self.checkpoints.load()
        self.registry.start()
        self.referee.start()
        self.post.start()
        self.checkpoints.start()
        self.backups.start()

    def configure(self, config: Config) -> None:
        """Go by another configuration from now on; each connection keeps what `hello` has told it."""
        self.limits = config.limits
        self.store.configure(config.limits)
        self.journal.acted("configure", caller=self._myself())

    def drain(self) -> None:
        """Begin the orderly end: no more writes, and nobody waits for what may come."""
        self.draining = True
        self.journal.acted("stop", subject=self.identity.version, caller=self._myself())
        leaving = CosessionError("cannot wait: the daemon is shutting down; connect again", code="shutting_down")
        self.waiting.end_all(leaving)
        self.tails.drain()
        self.turns.drain(leaving)
        self.referee.granting.refuse_all(leaving)
        self.flush()

    @property
    def read_only(self) -> str:
        """Why nothing is written, "" when all may be."""
        return self.store.read_only

    def activity(self, session: str) -> None:
        """A request or hook event of a session: a sign of life, and what it holds lasts longer."""
        self.registry.activity(session)
        self.referee.activity(session)

    def _myself(self) -> Caller:
        return Caller(instance=str(self.identity.pid))

    @property
    def in_flight(self) -> bool:
        """Whether anything is waiting for an answer or a commit."""
        return self.store.queued > 0 or any(conversation.in_flight for conversation in self.conversations)

    def soil(self, conversation: Connected) -> None:
        """Remember that a conversation has something to send; it is sent once per tick, in `flush`."""
        self._dirty.append(conversation)

    def flush(self) -> None:
        """Send what has gathered, one write per connection, and let those read on that waited."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for conversation in dirty:
                conversation.flush()


def _keeper(store: Store, clock: Clock, entropy: Entropy, sessions: Holders, damage: Damage) -> Keeper:
    on_damage = partial(damage.met, "checkpoint")
    return Keeper(store, clock=clock, entropy=entropy, sessions=sessions, on_damage=on_damage)


def _post_room(store: Store, clock: Clock, entropy: Entropy, deadlines: Deadlines, core: Core) -> PostRoom:
    sessions = Addresses(core.registry)
    return PostRoom(store, clock=clock, entropy=entropy, deadlines=deadlines, sessions=sessions, flush=core.flush)


def _recoverer(core: Core) -> Recoverer:
    return Recoverer(
        core.store,
        core.clock,
        registry=core.registry,
        keeper=core.checkpoints,
        referee=core.referee,
        post=core.post,
    )
