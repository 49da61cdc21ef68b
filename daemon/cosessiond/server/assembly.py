"""How the parts of the core are joined: the same wiring for the real daemon and for the deterministic simulation.

Rule: everything that differs between the two arrives as a parameter; nothing here starts a thread or opens a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from cosession.model import Session
from cosessiond.audit.journal import Journal
from cosessiond.backups.schedule import Backups
from cosessiond.backups.vault import Vault
from cosessiond.clock import Clock, Entropy, Timers
from cosessiond.metrics import Metrics
from cosessiond.process.configuration import Configuration
from cosessiond.server.core import Core, Identity
from cosessiond.server.damage import Damage
from cosessiond.server.handlers import (
    admin,
    audit,
    backup,
    checkpoints,
    claims,
    debug,
    denials,
    hooks,
    mail,
    purge,
    reads,
    recovery,
    retention,
    revert,
    sessions,
    tail,
    turns,
    watch,
    writes,
)
from cosessiond.server.holders import checkpoint_signal
from cosessiond.server.scrubs import Scrubs
from cosessiond.server.table import Operation, table_of
from cosessiond.sessions.ports import Processes
from cosessiond.sessions.registry import Registry
from cosessiond.sessions.verdict import CheckpointSignal, DiskSignal
from cosessiond.store.engine import Compare, Engine, StoreBroken, Write
from cosessiond.store.expiry import Expiry
from cosessiond.store.leases import Deadlines
from cosessiond.store.marking import Marking
from cosessiond.store.marks import Marker
from cosessiond.store.revisions import Store
from cosessiond.store.watch import WatchHub

TABLE: Final[dict[str, Operation]] = table_of(
    (
        *admin.ROWS,
        *reads.ROWS,
        *writes.ROWS,
        *revert.ROWS,
        *purge.ROWS,
        *turns.ROWS,
        *watch.ROWS,
        *retention.ROWS,
        *sessions.ROWS,
        *claims.ROWS,
        *hooks.ROWS,
        *mail.ROWS,
        *denials.ROWS,
        *checkpoints.ROWS,
        *recovery.ROWS,
        *audit.ROWS,
        *backup.ROWS,
        *debug.ROWS,
        *tail.ROWS,
    )
)


class World(Struct, frozen=True, kw_only=True):
    """What the core sees of the world outside. `secret` keys the session tokens, `marker` writes marks of the store;
    without a `vault` there are no backups.
    """

    clock: Clock
    entropy: Entropy
    timers: Timers
    processes: Callable[[Deadlines], Processes]
    disk: Callable[[], DiskSignal]
    host: str
    secret: bytes
    marker: Marker | None = None
    vault: Vault | None = None


class Consequences(Struct, frozen=True, kw_only=True):
    """What the core may ask of the process around it. `on_damage`: it met some (where, what); `on_unmarked`: the store
    could not be marked.
    """

    stop: Callable[[], None]
    on_bug: Callable[[Exception], None]
    on_broken: Callable[[StoreBroken], None]
    on_damage: Callable[[str, str], None] = lambda *_: None
    on_unmarked: Callable[[str], None] = lambda _: None


def assemble(
    engine: Engine,
    identity: Identity,
    world: World,
    consequences: Consequences,
    *,
    configuration: Configuration,
    metrics: Metrics,
) -> Core:
    """A core over an open engine. Attach a commit path to `core.store`, then call `start`."""
    limits = configuration.in_force.limits
    store = Store(
        engine,
        clock=world.clock,
        limits=limits,
        metrics=metrics,
        host=world.host,
        on_broken=consequences.on_broken,
        on_bug=consequences.on_bug,
    )
    deadlines = Deadlines(world.clock, world.timers)

    expiry = Expiry(store, deadlines)
    registry = _registry(store, world, deadlines, lambda: core)
    journal = Journal(store, world.clock, metrics)
    store.records_of = journal.records_of
    backups = Backups(
        store,
        world.vault,
        deadlines,
        world.clock,
        metrics=metrics,
        journal=journal,
        configuration=configuration,
    )
    watches = WatchHub(store, metrics, limits)
    damage = Damage(journal, metrics, consequences.on_damage)
    store.on_damage = damage.met
    marking = None
    if world.marker:
        marking = Marking(store, world.marker, deadlines, metrics, consequences.on_unmarked)
    core = Core(
        identity=identity,
        store=store,
        watches=watches,
        expiry=expiry,
        registry=registry,
        journal=journal,
        backups=backups,
        deadlines=deadlines,
        clock=world.clock,
        entropy=world.entropy,
        configuration=configuration,
        metrics=metrics,
        damage=damage,
        marking=marking,
        scrubs=Scrubs(store, damage, deadlines, world.clock, configuration),
        stop=consequences.stop,
        on_bug=consequences.on_bug,
    )
    # In this order: what ends because of a batch is decided before anyone outside hears of the batch.
    domain = [registry.published, core.referee.published, core.checkpoints.published, core.post.published]
    store.listeners += [expiry.published, *domain, core.attention.published, watches.published]
    if marking is not None:
        store.listeners.append(marking.published)
    store.flush = core.flush
    store.on_audit = core.waiting.recorded
    backups.on_end = core.waiting.backed_up
    return core


def _registry(store: Store, world: World, deadlines: Deadlines, core: Callable[[], Core]) -> Registry:
    """The sessions; `core`, which is made later, has what else ends with one and what it can be recovered from."""

    def belongings(session: Session, writes_max: int) -> tuple[list[Compare], list[Write]]:
        return core().referee.aftermath.belongings(session, writes_max)

    def checkpoint(session: Session) -> CheckpointSignal:
        return checkpoint_signal(core().checkpoints, session, world.clock)

    return Registry(
        store,
        clock=world.clock,
        entropy=world.entropy,
        deadlines=deadlines,
        process_watch=world.processes(deadlines),
        host=world.host,
        disk=world.disk,
        checkpoint=checkpoint,
        secret=world.secret,
        belongings=belongings,
    )
