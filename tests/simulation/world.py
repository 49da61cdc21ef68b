"""One run from one seed: daemon, disk, machine, connections, clients and faults under one scheduler.

It has three parts. Work: clients act, faults happen. Rest: no faults, no new work; clients come back, repeat what is
unknown, and read everything. Empty: the clients are killed and time passes, until nothing should be left.

Rule: a run judges nothing; it returns the history for the oracles.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from msgspec.structs import replace as replace_struct

from cosession.messages.past import Purge
from cosessiond.sessions.records import SPACE, decode
from cosessiond.store.engine import Entry, EntryId
from simulation import workload
from simulation.client import Client
from simulation.daemon import Daemon
from simulation.disk import Disk, Wrap
from simulation.history import History, Quiet
from simulation.invariants import leaks, unsound
from simulation.knobs import Knobs, applied
from simulation.machine import Machine, Process
from simulation.network import Link
from simulation.scheduler import Scheduler

SeedBug = Callable[[Daemon], None]

HOUR_MS = 3_600_000.0
#: The wall clock is never further from the truth than this; see `Window.request_id_ms`, which counts by it.
WALL_OFF_MS = 11 * HOUR_MS
#: How often the invariants of memory are looked at, and how many breaches are kept.
LOOK_S = 0.05
UNSOUND_MAX = 5
#: What may arrive at once at rest, so that all that is on its way does: in chunks of a few bytes it would take minutes.
REST_CHUNK_BYTES = 65_536
REST_S = 12.0
EMPTY_S = 16.0


class Simulation:
    """One run. `seed_bug` changes each daemon, `wrap` the engine below all of them."""

    def __init__(
        self,
        knobs: Knobs,
        *,
        keep: bool = False,
        seed_bug: SeedBug = lambda _: None,
        wrap: Wrap = lambda engine: engine,
        directory: Path | None = None,
    ) -> None:
        self.knobs = knobs
        self.history = History(knobs)
        self.world = Scheduler(knobs.seed, keep=keep)
        self.machine = Machine(self.world)
        self.disk = Disk(self.world, knobs, self.history, directory)
        self.disk.wrap = wrap
        self.disk.on_applied = self._applied
        self.daemon: Daemon | None = None
        self.clients: list[Client] = []
        self._seed_bug = seed_bug
        self._working = True
        self._faults = self.world.stream("faults")
        self._wall_off_ms = 0.0
        self._links = 0

    def run(self) -> History:
        """The whole run."""
        world, history = self.world, self.history
        with applied(self.knobs, self.machine.facts):
            self._start_daemon()
            for number in range(self.knobs.clients):
                foreign = number > 0 and self._faults.random() < 0.15
                client = Client(f"c{number}", world, self, self.machine, history, foreign=foreign)
                self.clients.append(client)
                client.connect()
                self._think(client)
            if self.knobs.faults:
                self._fault()
            self._advance(self.knobs.duration_s)
            self._rest()
            if not history.wrong:
                self._empty()
        self.disk.close()
        history.died_s = {(each.pid, each.start_time): each.died_s for each in self.machine.everyone}
        history.digest, history.steps = world.digest, world.steps
        return history

    # -- clients ---------------------------------------------------------------------------------------------------

    def dial(self, client: Client, process: Process | None) -> Link | None:
        """See `client.Dialler`."""
        daemon = self.daemon
        if daemon is None or not daemon.accepting:
            return None
        self._links += 1
        link = Link(
            self.world,
            self._links,
            client,
            kernel_bytes=self.knobs.kernel_bytes,
            chunk_max=self.knobs.chunk_max if self._working else REST_CHUNK_BYTES,
        )
        self.world.note(f"{client.name} connects by link {link.number}")
        daemon.enter("accept", lambda: daemon.accept(link, process))
        return link

    def _think(self, client: Client) -> None:
        def step() -> None:
            if self._working:
                workload.act(client)
                self._think(client)

        self.world.call_after(client.random.expovariate(1 / self.knobs.think_s), step)

    # -- the daemon ------------------------------------------------------------------------------------------------

    def _start_daemon(self) -> None:
        if self.daemon is None:
            self.daemon = Daemon(
                self.world, self.disk, self.machine, self.history, on_end=self._ended, seed_bug=self._seed_bug
            )

    def _ended(self) -> None:
        self.daemon = None
        self.world.call_after(self._faults.uniform(0.001, 0.2), self._start_daemon)

    # -- faults ----------------------------------------------------------------------------------------------------

    def _fault(self) -> None:
        """One fault now and then."""

        def happen() -> None:
            if self._working:
                fault = self._faults.choice(sorted(self.knobs.faults))
                self._FAULTS.get(fault, lambda _: None)(self)
                self._fault()

        self.world.call_after(self._faults.expovariate(1 / 0.12), happen)

    def _crash(self) -> None:
        if self.daemon is not None and self._faults.random() < 0.4:
            self.daemon.kill("SIGKILL")

    def _stop(self) -> None:
        if self.daemon is not None and self._faults.random() < 0.3:
            daemon = self.daemon
            daemon.enter("SIGTERM", daemon.stop)

    def _cut(self) -> None:
        self._faults.choice(self.clients).cut()

    def _kill(self) -> None:
        self._faults.choice(self.clients).die()

    def _slow(self) -> None:
        self._faults.choice(self.clients).slow_until_s = self.world.now_s + self._faults.uniform(0.1, 1.5)

    def _disk_full(self) -> None:
        if self._faults.random() < 0.3:
            self.disk.full_until_s = self.world.now_s + self._faults.uniform(0.0, 0.5)

    def _wall(self) -> None:
        target_ms = self._faults.uniform(-WALL_OFF_MS, WALL_OFF_MS)
        self.world.note(f"wall clock off by {target_ms / HOUR_MS:.1f} h")
        self.world.clock.step_wall(target_ms - self._wall_off_ms)
        self._wall_off_ms = target_ms

    def _applied(self) -> None:
        """A commit is durable and not published yet: a good moment to die."""
        if "after_apply" in self.knobs.faults and self._working and self._faults.random() < 0.004:
            daemon = self.daemon
            if daemon is not None:
                self.world.call_soon(lambda: daemon.kill("SIGKILL after a commit"))

    _FAULTS = {
        "crash": _crash,
        "stop": _stop,
        "cut": _cut,
        "kill": _kill,
        "slow": _slow,
        "disk_full": _disk_full,
        "wall": _wall,
    }

    # -- coming to rest --------------------------------------------------------------------------------------------

    def _advance(self, seconds: float) -> None:
        """In steps, so that a run that went wrong ends soon."""
        end_s = self.world.now_s + seconds
        while self.world.now_s < end_s and not self.history.wrong:
            self.world.advance(min(LOOK_S, end_s - self.world.now_s))
            if self.daemon is not None and self.daemon.alive:
                self.history.unsound += islice(unsound(self.daemon), UNSOUND_MAX - len(self.history.unsound))

    def _rest(self) -> None:
        self._working = False
        self.history.quiet_from_s = self.world.now_s
        self.disk.full_until_s = 0.0
        self.world.note("rest")
        for client in self.clients:
            client.slow_until_s = 0.0
            if client.link is not None:
                client.link.chunk_max = REST_CHUNK_BYTES
        self._advance(REST_S)
        daemon = self.daemon
        if self.history.wrong:
            return
        if daemon is None:
            self.history.wrong.append("the daemon did not come back")
            return
        while daemon.store.queued and daemon.alive:
            self._advance(0.01)
        self.history.quiet = Quiet(
            revision=self.history.revision,
            memory_revision=daemon.store.revision,
            memory=sorted((_bare(entry) for entry in daemon.store.index), key=lambda entry: entry.id),
            engine=[_bare(entry) for entry in self.disk.engine.entries()],
            log=self.disk.engine.changes(self.history.compact - 1, 1 << 30, 1 << 30),
            versions={id: self.disk.engine.history(id, 1 << 30, 0) for id in self._purged()},
            pending=[call for call in self.history.calls if call.status == "pending"],
        )

    def _purged(self) -> set[EntryId]:
        requests = [call.request for call in self.history.calls]
        return {(each.space, each.project, each.key) for each in requests if isinstance(each, Purge)}

    def _empty(self) -> None:
        self.world.note("empty")
        for client in self.clients:
            client.gone = True
            client.die()
            self.machine.kill(client.agent)
        self._advance(EMPTY_S)
        quiet, daemon = self.history.quiet, self.daemon
        if quiet is None or daemon is None:
            return
        quiet.leaks = leaks(daemon)
        quiet.late_entries = [
            entry
            for entry in daemon.store.index
            if entry.ttl_ms or entry.owner or (entry.id[0] == SPACE and _is_live(entry))
        ]


def _bare(entry: Entry) -> Entry:
    """Without the hash, which memory does not keep."""
    return replace_struct(entry, hash=b"")


def _is_live(entry: Entry) -> bool:
    return decode(entry.id, entry.value).state in ("active", "idle", "suspect")


def run_knobs(
    knobs: Knobs,
    *,
    seed_bug: SeedBug = lambda _: None,
    wrap: Wrap = lambda engine: engine,
    lines: list[str] | None = None,
) -> History:
    """One run, with SQLite in a temporary directory when the knobs say so; its trace goes to `lines`."""
    with ExitStack() as stack:
        directory = None
        if knobs.engine == "sqlite":
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cosession-simulation-")))
        simulation = Simulation(knobs, keep=lines is not None, seed_bug=seed_bug, wrap=wrap, directory=directory)
        history = simulation.run()
    if lines is not None:
        lines += simulation.world.lines or []
    return history
