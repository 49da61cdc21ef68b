"""The wiring: one boring function that builds the daemon, serves, and takes it apart in reverse.

Rule: read `serve` top to bottom as the architecture. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from cosession import paths
from cosession._version import __version__
from cosession.errors import CosessionError
from cosession.messages.limits import Limits
from cosessiond.backups.vault import Vault
from cosessiond.clock import Clock, LoopTimers, SystemClock, SystemEntropy, pause, ulid
from cosessiond.maintenance import swap, upgrade
from cosessiond.maintenance.task import Task
from cosessiond.metrics import Metrics
from cosessiond.opening import opened
from cosessiond.process import secret
from cosessiond.process.activation import Activation
from cosessiond.process.configuration import Configuration
from cosessiond.process.directories import private_directory, refuse_network_file_system
from cosessiond.process.filewatch import FileWatch
from cosessiond.process.latch import FailStop, Latch
from cosessiond.process.lock import Holder, InstanceLock
from cosessiond.process.neighbour import refuse_neighbour
from cosessiond.process.reserve import Reserve
from cosessiond.process.resolver import Resolver
from cosessiond.process.sd_notify import Notices
from cosessiond.server.assembly import TABLE, Consequences, World, assemble
from cosessiond.server.core import Core, Identity
from cosessiond.server.listener import Listener, bind
from cosessiond.server.roomwatch import RoomWatch
from cosessiond.server.selfcheck import SelfCheck, serving
from cosessiond.sessions import identity, probes, watching
from cosessiond.spooling import Spooling, taking_in
from cosessiond.store.commit import CommitThread
from cosessiond.store.engine import StoreBroken, StoreDamaged
from cosessiond.store.leases import Deadlines
from cosessiond.store.marks import Marker
from cosessiond.store.room import Room

DRAIN_S: Final = 5.0
#: Of that, what is left to end a backup for which there is no time.
BACKUP_ENDS_S: Final = 0.5
#: How often the daemon looks whether its lock and socket are still its own; the only timer of an idle daemon. The
#: kernel would tell at once (inotify, kqueue), but only through a thread or a foreign library, for what happens when
#: somebody cleans up by hand. Until then nothing is at risk: whoever starts another daemon is told whose process to
#: end (`process.lock`, `process.neighbour`), and SQLite's own lock keeps it out of the database.
GUARD_S: Final = 60.0
EXIT_IO: Final = 70
#: How long a daemon that stops at once tries to leave a note of it.
NOTING_S: Final = 1.0
#: The default collects every few hundred new lists: a value of many small parts would be walked again and again.
GC_THRESHOLDS: Final = (50_000, 10, 10)


async def serve(
    configuration: Configuration,
    log: Any,
    ready: Callable[[], None],
    *,
    is_forced: bool = False,
    activation: Activation,
    notices: Notices,
) -> None:
    """Run one daemon until it is asked to stop. `ready` is called once the socket answers. `is_forced`: a user says
    that the disk is well again. `activation`, `notices`: to and from a service manager.

    Raises CosessionError (already_running, config) before anything was touched, StoreBroken when the store cannot be
    trusted.
    """
    gc.disable()  # until everything is loaded: that makes many objects and no garbage
    loop = asyncio.get_running_loop()
    clock, entropy, stopping = SystemClock(), SystemEntropy(), asyncio.Event()
    started_s = clock.monotonic()
    async with AsyncExitStack() as stack:
        daemon_id = ulid(clock, entropy)
        state, state_fd, socket_path, lock, passed = _claim(stack, daemon_id, activation)
        latch = Latch(state, state_fd, socket_path.parent)
        loop.set_exception_handler(lambda _, context: _on_loop_error(log, latch, context))

        was_latched, read_only = is_forced and latch.clear(), latch.reason()
        _make_ready(state, state_fd, log)
        metrics = Metrics(lambda name, used, limit: log.warning("near a limit", limit=name, used=used, max=limit))
        marker = Marker(state_fd)
        task = Task(state, state_fd, words=[], options={})
        store = opened(task, marker, config=configuration.in_force, log=log, is_idle=bool(read_only))
        engine, wrong, known = stack.enter_context(store)
        me = _myself(daemon_id, socket_path, state, started_s)
        vault = stack.enter_context(_open_vault(state, loop, log))
        world = World(
            clock=clock,
            entropy=entropy,
            timers=LoopTimers(loop),
            processes=lambda deadlines: _watch_processes(loop, clock, deadlines),
            disk=probes.DiskProbe(state_fd, clock),
            host=socket.gethostname(),
            secret=secret.read_or_make(state, state_fd, entropy.random_bytes),
            marker=marker,
            vault=vault,
        )
        consequences = _consequences(stopping, marker, latch, log)
        _follow_descriptor_limit(configuration)
        core = assemble(engine, me, world, consequences, configuration=configuration, metrics=metrics)
        room = _watch_room(stack, core, state, state_fd, log)
        core.store.read_only = read_only
        deliver, idle = loop.call_soon_threadsafe, bool(read_only)
        _begin_commits(stack, core, CommitThread(engine, core.store, deliver, room, clock.monotonic, is_idle=idle))
        core.start()
        _tell_of(core, wrong, known, was_latched=was_latched)
        _collect_rarely()

        _handle_signals(loop, stopping, lambda: _reload(core, notices))  # before anyone can know whom to signal
        listener = _listen(stack, core, passed, socket_path, log)
        lock.publish(_holder(daemon_id, socket_path=str(socket_path)))
        watched = _watch_files(stack, core, loop, log)
        _guard(core, lock, socket_path, log, lambda: [look() for look in (*watched.looks, core.look_at_room)])

        log.info("ready", socket=str(socket_path), epoch=core.store.epoch, revision=core.store.revision)
        ready()
        _announce(core, listener, notices, log)
        watched.begin()
        await stopping.wait()
        await _leave(core, listener, notices, log)
    log.info("stopped", revision=core.store.revision)


def _listen(stack: AsyncExitStack, core: Core, passed: socket.socket | None, socket_path: Path, log: Any) -> Listener:
    """On the socket that was passed, which is the service manager's and goes on listening without us, else on one of
    our own.
    """
    core.resolve = Resolver(asyncio.get_running_loop()).resolve
    listener = Listener(core, TABLE, passed or bind(socket_path), asyncio.get_running_loop(), log)
    if passed is None:
        stack.callback(_unlink_own, socket_path, os.lstat(socket_path).st_ino)
    stack.callback(listener.close)
    return listener


def _tell_of(core: Core, wrong: list[str], known: list[str], *, was_latched: bool) -> None:
    """What was found, and that it may write again; more damage is looked for now and then."""
    if was_latched:
        core.journal.acted("unlatch", subject=__version__)
    for what in wrong:
        core.damage.met("start", what)
    core.damage.knew(known)
    core.scrubs.begin()


def _consequences(stopping: asyncio.Event, marker: Marker, latch: Latch, log: Any) -> Consequences:
    return Consequences(
        stop=stopping.set,
        on_bug=lambda error: log.error("a bug in a handler", exc_info=error),
        on_broken=lambda error: _fail_stop(log, error, marker, latch),
        on_damage=lambda where, what: log.error("damage", where=where, what=what),
        on_unmarked=lambda why: log.warning("cannot mark the store; the last mark stays", reason=why),
    )


def _claim(
    stack: AsyncExitStack, daemon_id: str, activation: Activation
) -> tuple[Path, int, Path, InstanceLock, socket.socket | None]:
    """Make sure that the places are ours and that this is the only daemon in them, before anything is touched.

    The state directory and its descriptor, the path of the socket, the lock, and the socket when there is one already.
    """
    state = Path(paths.state_directory())
    socket_path = Path(paths.socket_path())
    stack.callback(os.close, state_fd := private_directory(state))
    stack.callback(os.close, private_directory(socket_path.parent))
    refuse_network_file_system(state, state_fd)
    lock = InstanceLock(Path(paths.lock_file()), pause)
    stack.callback(lock.release)
    lock.publish(_holder(daemon_id, socket_path=""))
    passed = activation.listening_at(socket_path)
    if passed is None:
        refuse_neighbour(socket_path)  # when daemon.lock was removed by hand, a second daemon comes this far
    return state, state_fd, socket_path, lock, passed


def _make_ready(state: Path, state_fd: int, log: Any) -> None:
    """What comes before the store is opened: a restore that was broken off is finished or undone, and one of an older
    version is backed up before it is brought up to ours.
    """
    journal = swap.settle(state, state_fd)
    if journal is not None:
        log.warning("finished what was begun", act=journal.reason, epoch=journal.epoch, quarantine=journal.quarantine)
    kept = upgrade.back_up_older(Task(state, state_fd, words=[], options={}))
    if kept is not None:
        log.info("backed up before the upgrade", backup=kept.name, schema=kept.manifest.schema)


def _watch_room(stack: AsyncExitStack, core: Core, state: Path, state_fd: int, log: Any) -> Room:
    """The room on the disk, for the store's thread; the core is told how it stands."""
    reserve = Reserve(state, state_fd, SystemEntropy().random_bytes)
    stack.callback(reserve.close)
    room = Room(reserve, core.clock.monotonic)
    core.look_at_room = RoomWatch(core.store, room, reserve, core.metrics, log).look
    return room


def _myself(daemon_id: str, socket_path: Path, state: Path, started_s: float) -> Identity:
    return Identity(
        daemon_id=daemon_id,
        pid=os.getpid(),
        version=__version__,
        socket=str(socket_path),
        state_directory=str(state),
        started_s=started_s,
    )


def _begin_commits(stack: AsyncExitStack, core: Core, commits: CommitThread) -> None:
    core.store.attach(commits)
    commits.start()
    stack.callback(commits.close)


def _collect_rarely() -> None:
    gc.freeze()  # what was loaded lives as long as the daemon; no collection needs to walk it
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


def _handle_signals(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, reload: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _reload(core: Core, notices: Notices) -> None:
    notices.reloading(core.clock.monotonic())
    core.configuration.signalled()
    notices.ready(serving(core))


class _Watched(NamedTuple):
    """What of the files of others is looked at: when they change, and once a minute."""

    configuration: FileWatch
    spool: Spooling

    @property
    def looks(self) -> tuple[Callable[[], None], ...]:
        """What to do once a minute."""
        return self.configuration.look, self.spool.look

    def begin(self) -> None:
        """From now on."""
        self.configuration.begin()
        self.spool.begin()


def _watch_files(stack: AsyncExitStack, core: Core, loop: asyncio.AbstractEventLoop, log: Any) -> _Watched:
    configuration = FileWatch(
        Path(core.configuration.path),
        core.configuration.look,
        clock=core.clock,
        deadlines=core.deadlines,
        call_soon=loop.call_soon_threadsafe,
        log=log,
    )
    stack.callback(configuration.close)
    spool = taking_in(core, TABLE, Path(paths.spool_directory()), loop.call_soon_threadsafe, log)
    stack.callback(spool.close)
    return _Watched(configuration, spool)


@contextlib.contextmanager
def _open_vault(state: Path, loop: asyncio.AbstractEventLoop, log: Any) -> Iterator[Vault]:
    vault = Vault(state, version=__version__, deliver=loop.call_soon_threadsafe, log=log)
    yield vault
    vault.close()


def _watch_processes(loop: asyncio.AbstractEventLoop, clock: Clock, deadlines: Deadlines) -> watching.ProcessWatch:
    return watching.ProcessWatch(clock, deadlines, watching.system_notifier(loop.add_reader, loop.remove_reader))


def _announce(core: Core, listener: Listener, notices: Notices, log: Any) -> None:
    notices.ready(serving(core))
    SelfCheck(core, notices, listener, log).begin()


async def _leave(core: Core, listener: Listener, notices: Notices, log: Any) -> None:
    log.info("stopping")
    notices.stopping("answering what is in flight")
    listener.close()
    await _drain(core, log)


async def _drain(core: Core, log: Any) -> None:
    """Refuse new writes, let what is in flight finish for at most DRAIN_S, then say goodbye and back up."""
    core.drain()
    leaving = CosessionError("cannot go on: the daemon is shutting down; connect again", code="shutting_down")
    deadline = core.clock.monotonic() + DRAIN_S
    while core.clock.monotonic() < deadline and core.in_flight:  # noqa: ASYNC110  # a few ms, once in a life
        await asyncio.sleep(0.002)
    backed_up = asyncio.Event()
    core.backups.stop(backed_up.set)
    for conversation in list(core.conversations):
        conversation.leave(leaving)
    while core.clock.monotonic() < deadline and core.conversations:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    await _back_up(core, backed_up, deadline - BACKUP_ENDS_S, log)


async def _back_up(core: Core, backed_up: asyncio.Event, deadline_s: float, log: Any) -> None:
    """Wait for the last backup as long as there is time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(backed_up.wait(), max(0.0, deadline_s - core.clock.monotonic()))
    if not backed_up.is_set():
        log.warning("no time for a backup before the end; it is left to the next start")
        core.backups.give_up()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(backed_up.wait(), BACKUP_ENDS_S)


def _guard(core: Core, lock: InstanceLock, socket_path: Path, log: Any, also: Callable[[], object]) -> None:
    """Stop when the lock file or the socket is no longer ours: another daemon may be serving under our name.

    `also`: what else is looked at once a minute, in the same wake-up.
    """
    inode = os.lstat(socket_path).st_ino

    def look() -> None:
        try:
            mine = os.lstat(socket_path).st_ino == inode
        except OSError:
            mine = False
        if mine and lock.still_ours():
            core.deadlines.after("guard", GUARD_S, look)
            also()
        else:
            log.error("lost the lock or the socket; stopping", socket=str(socket_path))
            core.stop()

    core.deadlines.after("guard", GUARD_S, look)


def _unlink_own(path: Path, inode: int) -> None:
    try:
        if os.lstat(path).st_ino == inode:
            path.unlink()
    except OSError:
        pass  # gone already, which is what was wanted


def _holder(daemon_id: str, *, socket_path: str) -> Holder:
    return Holder(
        pid=os.getpid(),
        start_time=identity.start_time(os.getpid()) or 0,
        boot_id=identity.boot_id(),
        socket=socket_path,
        version=__version__,
        daemon_id=daemon_id,
    )


def _follow_descriptor_limit(configuration: Configuration) -> None:
    _raise_descriptor_limit(configuration.in_force.limits)
    configuration.listeners.append(lambda new: _raise_descriptor_limit(new.limits))


def _raise_descriptor_limit(limits: Limits) -> None:
    """A socket for each connection, a pidfd for each session, and room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * limits.connections_max + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _on_loop_error(log: Any, latch: Latch, context: dict[str, Any]) -> None:
    """An exception that nobody caught. Of one connection: asyncio has closed it. Anywhere else memory may no longer
    be what was published, so stop as for an I/O error: the next start reads what is durable.
    """
    error = context.get("exception")
    log.error("uncaught", reason=str(context.get("message")), exc_info=error)
    if "transport" not in context and "protocol" not in context:
        _stop_at_once(latch, f"{context.get('message')}: {error}")


def _fail_stop(log: Any, error: StoreBroken, marker: Marker, latch: Latch) -> NoReturn:
    """P13: answer nothing more, leave the file as it is, let the next start recover and verify.

    Damage stands in the mark from now on: the next start must not come this far with it, again and again.
    """
    log.error("the store failed; stopping at once", reason=str(error))
    if isinstance(error, StoreDamaged):
        with suppress(OSError):
            marker.damaged(str(error))
        os._exit(EXIT_IO)
    _stop_at_once(latch, str(error))


def _stop_at_once(latch: Latch, reason: str) -> NoReturn:
    """Note that it came to this, as far as that can be done at all: a disk that fails may as well hang."""
    clock = SystemClock()
    try:
        stop = FailStop(identity.boot_id(), clock.monotonic(), clock.wall_ms(), reason)
        noting = threading.Thread(target=latch.note, args=(stop,), daemon=True)
        noting.start()
        noting.join(NOTING_S)
    finally:
        os._exit(EXIT_IO)
