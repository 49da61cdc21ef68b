"""Looking at the world for the cascade: is that process alive, is there space, is there a checkpoint; and being told
when a process ends.

A probe looks once, now, and returns a signal of `verdict` with its evidence in words and its cost in ms. `ProcessWatch`
is told by the kernel where it can (a pidfd on Linux) and looks every 2 s elsewhere. One pidfd serves all sessions of a
process. It is opened first and the start time checked after: from then on the pid cannot be reused unnoticed, so there
is no gap. Without a descriptor to spare (EMFILE, or `pidfds_max` reached: the listener needs some too) an instance is
polled; one deadline serves all polled instances and exists only while there are any. kqueue comes later.

Rule: a probe decides nothing and remembers nothing. `on_death` is called once, on the loop, never from inside `watch`;
a cancelled watch is silent and owns nothing.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from cosession.model import Instance
from cosessiond.clock import Clock, elapsed_ms
from cosessiond.sessions.procs import CannotJudge, ProcessFacts, boot_id, facts
from cosessiond.sessions.verdict import OVER, CheckpointSignal, DiskSignal, ProcessKind, ProcessSignal
from cosessiond.store.leases import Deadlines

POLL_S: Final = 2.0
#: One pass looks at this many, then lets the loop breathe: 256 looks take about 6 ms.
POLL_SLICE: Final = 256
POLL_PAUSE_S: Final = 0.005
#: Below this a recovery could not be written out: a few checkpoints, the log rows and a WAL checkpoint.
DISK_ENOUGH_BYTES: Final = 64 * 1024 * 1024

_OPEN_PIDFD: Final[Callable[[int], int] | None] = getattr(os, "pidfd_open", None)

FactsOf = Callable[[int], ProcessFacts | None]


def probe_process(
    instance: Instance, clock: Clock, *, boot: str | None = None, facts_of: FactsOf = facts
) -> ProcessSignal:
    """Layer 1: whether the process of `instance` lives. A reused pid, a zombie and another boot count as over."""
    began_s = clock.monotonic()
    kind, evidence = _look(instance, boot_id() if boot is None else boot, facts_of)
    return ProcessSignal(kind, evidence, elapsed_ms(began_s, clock))


def _look(instance: Instance, boot: str, facts_of: FactsOf) -> tuple[ProcessKind, str]:
    name = f"pid {instance.pid} (start {instance.start_time})"
    if not instance.judgeable:
        return "not_judgeable", f"{name} is of another host or pid namespace"
    if instance.boot_id != boot:
        return "rebooted", f"{name} ran in boot {instance.boot_id}, this is boot {boot}"
    try:
        found = facts_of(instance.pid)
    except CannotJudge as error:
        return "not_judgeable", str(error)
    if found is None:
        return "gone", f"there is no process with {name}"
    if found.zombie:
        return "zombie", f"{name} is over and waits for its parent"
    if found.start_time != instance.start_time:
        return "reused", f"{name} is over: that pid started again at {found.start_time}"
    return "alive", f"{name} runs"


class DiskProbe:
    """Layer 4: free space for this user under `where`, a path or the descriptor of a directory.

    A file system that cannot be asked counts as full: nothing could be recovered onto it.
    """

    def __init__(self, where: str | int, clock: Clock, *, enough_bytes: int = DISK_ENOUGH_BYTES) -> None:
        self._where = where
        self._clock = clock
        self._enough_bytes = enough_bytes

    def __call__(self) -> DiskSignal:
        """Look now."""
        began_s = self._clock.monotonic()
        try:
            found = os.statvfs(self._where)
        except OSError as error:
            evidence = f"free space cannot be read: {error.strerror}"
            return DiskSignal(-1, enough=False, evidence=evidence, cost_ms=elapsed_ms(began_s, self._clock))
        free_bytes = found.f_bavail * found.f_frsize
        enough = free_bytes >= self._enough_bytes
        evidence = f"{free_bytes / 2**20:.0f} MiB free, {self._enough_bytes / 2**20:.0f} MiB needed"
        return DiskSignal(free_bytes, enough, evidence, elapsed_ms(began_s, self._clock))


def probe_checkpoint(session_id: str, clock: Clock) -> CheckpointSignal:
    """Layer 3: the newest checkpoint of a session. This release keeps none."""
    began_s = clock.monotonic()
    evidence = f"no checkpoint of {session_id} is kept"
    return CheckpointSignal("none", evidence, elapsed_ms(began_s, clock))


class DeathNotice(Struct, frozen=True):
    """An instance is over. `noticed_s`: when that was noticed, monotonic seconds. It is no child of ours, so there
    is no exit code.
    """

    instance: Instance
    noticed_s: float
    signal: ProcessSignal

    @property
    def evidence(self) -> str:
        """What was seen, in words."""
        return self.signal.evidence


OnDeath = Callable[[DeathNotice], None]


class Watching(Protocol):
    """A watch that stands."""

    def cancel(self) -> None:
        """No notice comes after this; harmless when repeated."""
        ...


class _Target:
    """One watched process: who waits, and the pidfd (-1: polled)."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.pidfd = -1
        self.waiting: dict[_Watch, OnDeath] = {}


class _Watch:
    def __init__(self, owner: ProcessWatch, target: _Target) -> None:
        self._owner = owner
        self._target = target

    def cancel(self) -> None:
        if self._target.waiting.pop(self, None) and not self._target.waiting:
            self._owner.drop(self._target)


def pidfds_allowed() -> int:
    """Half of the descriptors this process may open: the other half is for connections and files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (soft if soft > 0 else 2**16) // 2


class ProcessWatch:
    """Watches instances until they end.

    `add_reader` and `remove_reader` are those of the event loop; `look` and `open_pidfd` are replaced by tests.
    """

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        *,
        add_reader: Callable[[int, Callable[[], None]], object],
        remove_reader: Callable[[int], object],
        pidfds_max: int | None = None,
        look: Callable[[Instance, Clock], ProcessSignal] = probe_process,
        open_pidfd: Callable[[int], int] | None = _OPEN_PIDFD,
    ) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._add_reader = add_reader
        self._remove_reader = remove_reader
        self._look = look
        self._open_pidfd = open_pidfd
        self._pidfds_max = pidfds_max
        self._pidfds = 0
        self._targets: dict[Instance, _Target] = {}
        self._polled: dict[Instance, _Target] = {}

    def counts(self) -> dict[str, int]:
        """How many processes are watched through a pidfd and how many by polling."""
        return {"pidfds": self._pidfds, "polled": len(self._polled)}

    def look(self, instance: Instance) -> ProcessSignal:
        """Look at the process of `instance` now."""
        return self._look(instance, self._clock)

    def watch(self, instance: Instance, on_death: OnDeath) -> Watching:
        """Call `on_death` once when the process of `instance` ends, soon also when it is over already.

        An instance that cannot be judged is never noticed; watching it is allowed and does nothing.
        """
        target = self._targets.get(instance)
        if target is None:
            target = self._targets[instance] = _Target(instance)
            self._begin(target)
        watch = _Watch(self, target)
        target.waiting[watch] = on_death
        return watch

    def drop(self, target: _Target) -> None:
        """Release what a target holds; harmless when done before, also when the instance has a new target."""
        if self._targets.get(target.instance) is not target:
            return
        del self._targets[target.instance]
        self._deadlines.cancel((self, target.instance))
        self._close(target)
        if self._polled.pop(target.instance, None) and not self._polled:
            self._deadlines.cancel(self)

    def _begin(self, target: _Target) -> None:
        instance = target.instance
        if not instance.judgeable:
            return
        opened = self._open(target)
        signal = self.look(instance)  # after opening: from here on a reused pid cannot be taken for it
        if signal.kind in OVER:
            self._close(target)
            self._deadlines.after((self, instance), 0.0, lambda: self._died(target, signal))
        elif not opened:
            self._poll(target)

    def _open(self, target: _Target) -> bool:
        """Whether the kernel will tell: False asks for polling, whatever the reason."""
        most = pidfds_allowed() if self._pidfds_max is None else self._pidfds_max  # the limit may be raised later
        if self._open_pidfd is None or self._pidfds >= most:
            return False
        try:
            target.pidfd = self._open_pidfd(target.instance.pid)
        except OSError:
            return False
        self._pidfds += 1
        try:
            self._add_reader(target.pidfd, lambda: self._readable(target))
        except OSError:  # epoll has limits of its own
            self._close(target)
            return False
        return True

    def _close(self, target: _Target) -> None:
        pidfd, target.pidfd = target.pidfd, -1
        if pidfd >= 0:
            self._pidfds -= 1
            self._remove_reader(pidfd)
            os.close(pidfd)

    def _readable(self, target: _Target) -> None:
        instance = target.instance
        evidence = f"pidfd readable: pid {instance.pid} (start {instance.start_time}) exited"
        self._died(target, ProcessSignal("gone", evidence))

    def _died(self, target: _Target, signal: ProcessSignal) -> None:
        notice = DeathNotice(target.instance, self._clock.monotonic(), signal)
        self.drop(target)
        while target.waiting:  # a notice may cancel the next one
            on_death = target.waiting.pop(next(iter(target.waiting)))
            on_death(notice)

    def _poll(self, target: _Target) -> None:
        if not self._polled:
            self._deadlines.after(self, POLL_S, self._begin_pass)
        self._polled[target.instance] = target

    def _begin_pass(self) -> None:
        self._pass(list(self._polled.values()))

    def _pass(self, targets: list[_Target]) -> None:
        """Look at one slice of the polled instances; the last slice sets the next pass."""
        now, later = targets[:POLL_SLICE], targets[POLL_SLICE:]
        for target in now:
            if target.instance in self._polled:
                signal = self.look(target.instance)
                if signal.kind in OVER:
                    self._died(target, signal)
        if later and self._polled:
            self._deadlines.after(self, POLL_PAUSE_S, lambda: self._pass(later))
        elif self._polled:
            self._deadlines.after(self, POLL_S, self._begin_pass)
