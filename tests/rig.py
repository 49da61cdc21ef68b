"""Sessions in a virtual world: the real store and commit worker, invented processes, one seed.

The store is the real one over an engine that keeps nothing on disk where there is one; its commit worker takes its
steps from the world's loop. `Rig.restart` begins the daemon anew over the same engine, as after kill -9: whatever was
not committed is gone, and so is everything that only memory knew.
"""

from __future__ import annotations

from functools import partial

from msgspec import msgpack
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosession.messages.limits import LIMITS
from cosession.messages.sessions import Register
from cosession.model import LIVE_STATES, Instance
from cosessiond.metrics import Metrics
from cosessiond.sessions.records import SPACE, decode
from cosessiond.sessions.registry import Registry
from cosessiond.sessions.verdict import DiskSignal, ProcessSignal
from cosessiond.sessions.watching import DeathNotice
from cosessiond.store.commit import Worker
from cosessiond.store.engine import EntryCompare, Put
from cosessiond.store.leases import Deadlines
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.revisions import Store
from virtual import World

BOOT = "boot-1"
SECRET = b"0123456789abcdef"


class Watching:
    def __init__(self, processes, instance, on_death):
        self.instance = instance
        self.on_death = on_death
        self.processes = processes

    def cancel(self):
        self.processes.watching.pop(self, None)
        self.on_death = None


class Processes:
    """Invented processes: `start` one, `kill` it. `deaf`: the kernel does not tell, only a look shows it."""

    def __init__(self, world):
        self.world = world
        self.living = {}
        self.watching = {}  # a set in the order of its making, so that runs repeat
        self.boot = BOOT
        self.deaf = False
        self.looks = 0

    def start(self, pid, start_time=1, *, judgeable=True):
        self.living[pid] = start_time
        return Instance(boot_id=self.boot, pid=pid, start_time=start_time, judgeable=judgeable)

    def kill(self, pid):
        self.living.pop(pid, None)
        if self.deaf:
            return
        for watching in list(self.watching):
            if watching.instance.pid == pid and watching.instance.judgeable:
                self.world.call_soon(partial(self._notice, watching))

    def look(self, instance):
        self.looks += 1
        name = f"pid {instance.pid} (start {instance.start_time})"
        if not instance.judgeable:
            return ProcessSignal("not_judgeable", f"{name} is elsewhere")
        if instance.boot_id != self.boot:
            return ProcessSignal("rebooted", f"{name} ran in another boot")
        started = self.living.get(instance.pid)
        kind = "gone" if started is None else "alive" if started == instance.start_time else "reused"
        return ProcessSignal(kind, f"{name} is {kind}", 0.02)

    def watch(self, instance, on_death):
        watching = Watching(self, instance, on_death)
        self.watching[watching] = None
        if self.look(instance).kind not in ("alive", "not_judgeable"):
            self.world.call_soon(partial(self._notice, watching))
        return watching

    def _notice(self, watching):
        on_death, watching.on_death = watching.on_death, None
        self.watching.pop(watching, None)
        if on_death:
            now_s = self.world.clock.monotonic()
            on_death(DeathNotice(watching.instance, now_s, replace(self.look(watching.instance), kind="gone")))


class Commits:
    """`store.tickets.CommitPath`, its worker on a lane of the world. `hold` keeps batches in the queue."""

    def __init__(self, world, engine, store):
        self.world = world
        self.hold = False
        self.dead = False
        self.worker = Worker(engine, store, self.deliver)

    def submit(self, ticket):
        self.worker.take(ticket)
        self.world.call_soon(self.step, lane=self)

    run = note = submit

    def release(self):
        self.hold = False
        self.world.call_soon(self.step, lane=self)

    def step(self):
        if not self.dead and not self.hold and self.worker.has_work:
            self.worker.step()

    def deliver(self, function, *arguments):
        self.world.call_soon(partial(self.arrive, function, arguments), lane=("deliver", self))

    def arrive(self, function, arguments):
        if not self.dead:
            function(*arguments)


class Rig:
    """The daemon's half that matters here. Operations wait for their answer and return it or raise it."""

    def __init__(self, seed=1, **options):
        self.world = World(seed)
        self.processes = Processes(self.world)
        self.engine = MemoryEngine("epoch-1")
        self.options = options
        self.free = DiskSignal(10**9, enough=True, evidence="954 MiB free")
        self.timers = None
        self.history = []
        self.begin()

    def begin(self):
        world = self.world
        self.timers = Timers(world)
        self.deadlines = Deadlines(world.clock, self.timers)
        self.store = Store(
            self.engine,
            clock=world.clock,
            limits=LIMITS,
            metrics=Metrics(),
            host="box",
            on_broken=lambda _: None,
            on_bug=lambda _: None,
        )
        self.commits = Commits(world, self.engine, self.store)
        self.store.attach(self.commits)
        self.registry = Registry(
            self.store,
            clock=world.clock,
            entropy=world.entropy,
            deadlines=self.deadlines,
            process_watch=self.processes,
            host="box",
            disk=lambda: self.free,
            secret=SECRET,
            boot=self.processes.boot,
            **self.options,
        )
        self.store.listeners += [self.registry.published, *self.others(), self.remember]
        self.registry.start()
        self.started()
        world.run_until_idle()

    def others(self):
        """Listeners beside the registry, of whatever else a rig is made of."""
        return []

    def started(self):
        """The sessions are known."""

    def restart(self):
        """Kill -9 and a new start."""
        self.commits.dead = True
        self.timers.dead = True
        for watching in list(self.processes.watching):
            watching.cancel()
        self.begin()

    def remember(self, committed):
        self.history.append(committed)

    # Asking and waiting.

    def ask(self, operation, *arguments, **options):
        """Start an operation; the list returned gets its answer."""
        answer = []
        try:
            operation(*arguments, answer.append, **options)
        except CosessionError as error:
            answer.append(error)
        return answer

    def wait(self, answer):
        self.world.run_until_idle()
        assert len(answer) == 1, "not answered exactly once"
        found = answer[0]
        if isinstance(found, CosessionError):
            raise found
        return found

    def register(self, instance, *, may_replace=None, **fields):
        return self.wait(self.begin_register(instance, may_replace=may_replace, **fields))

    def begin_register(self, instance, *, may_replace=None, **fields):
        """Without waiting: the list that gets the answer."""
        return self.ask(self.registry.register, Register(**fields), instance, may_replace=may_replace)

    def heartbeat(self, id):
        return self.wait(self.ask(self.registry.heartbeat, id)).state

    def close(self, id, why=""):
        return self.wait(self.ask(self.registry.close, id, why))

    def put(self, key, *, owner="", value=1):
        """A user's write, without the checks of the server."""
        write = Put(("context", "global", key), msgpack.encode(value), 0, owner)
        self.store.submit(self.store.batch(self.store.origin("put", owner), [], [write]), lambda _: None)

    def write(self, id, value):
        self.store.submit(self.store.batch(self.store.origin("test"), [], [Put(id, value)]), lambda _: None)
        self.world.run_until_idle()

    def compete(self, id):
        """Another writer touches a record, so that whoever decided before meets a conflict."""
        entry = self.store.get((SPACE, "global", id))
        unchanged = EntryCompare(entry.id, "mod_revision", entry.mod_revision)
        batch = self.store.batch(self.store.origin("test"), [unchanged], [Put(entry.id, entry.value)])
        self.store.submit(batch, lambda _: None)

    def state(self, id):
        """The durable state of a session."""
        entry = self.store.get((SPACE, "global", id))
        return decode(entry.id, entry.value).state if entry else None

    def record(self, id):
        entry = self.store.get((SPACE, "global", id))
        return decode(entry.id, entry.value)

    def states(self, id):
        """Every state the record of a session had, in order, without repetitions."""
        found = []
        for committed in self.history:
            for change in committed.changes:
                if change.id == (SPACE, "global", id) and change.kind == "put":
                    state = decode(change.id, change.value).state
                    if not found or found[-1] != state:
                        found.append(state)
        return found

    def keys(self):
        return [entry.id[2] for entry in self.store.scan("context", "global", "")]

    def check(self):
        """What holds whenever nothing is under way: memory follows the store, and nobody waits for the dead."""
        view = self.registry.view
        stored = {entry.id[2]: entry for entry in self.store.scan(SPACE, "global", "")}
        live = {id for id, entry in stored.items() if decode(entry.id, entry.value).state in LIVE_STATES}
        assert {session.id for session in view.live_sessions()} == live
        assert set(view.ended_ids()) == set(stored) - live
        watched = sorted(w.instance.pid for w in self.processes.watching)
        assert watched == sorted(i.pid for id in live for i in view.live(id).session.instances)
        for id, entry in stored.items():
            held = view.get(id)
            assert (held.session, held.mod_revision) == (decode(entry.id, entry.value), entry.mod_revision)
        for entry in self.store.index:
            assert not entry.owner or entry.owner in live, f"{entry.id} outlives session {entry.owner}"
        assert not self.registry._opening
        assert not self.registry._sweeping


class Timers:
    """The world's timers, until this daemon is dead."""

    def __init__(self, world):
        self.world = world
        self.dead = False

    def call_at(self, when_s, action):
        return self.world.call_at(when_s, lambda: None if self.dead else action())
