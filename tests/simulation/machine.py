"""An invented machine: processes that start, die, stay as zombies for a while, and leave their pid to the next.

Rule: what a probe may know comes from `facts`, as /proc shows it; who really lived when is kept for the oracles only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cosession.model import Instance
from cosessiond.sessions.probes import probe_process
from cosessiond.sessions.procs import ProcessFacts
from cosessiond.sessions.verdict import OVER, ProcessSignal
from cosessiond.sessions.watching import DeathNotice, OnDeath
from simulation.knobs import BOOT
from simulation.scheduler import Scheduler

#: So few that pids come again within a run.
PIDS: Final = range(100, 112)
INIT: Final = 1


@dataclass(eq=False)
class Process:
    """One process. `died_s` None: it lives."""

    pid: int
    start_time: int
    parent: Process | None = None
    died_s: float | None = None


@dataclass
class Machine:
    """All processes."""

    world: Scheduler
    everyone: list[Process] = field(default_factory=list)
    on_exit: list[Callable[[Process], None]] = field(default_factory=list)
    _table: dict[int, Process] = field(default_factory=dict)
    _ticks: int = 1

    def spawn(self, parent: Process | None = None) -> Process:
        """A new process, under a pid that nobody has now."""
        free = [pid for pid in PIDS if pid not in self._table] or [max(self._table) + 1]
        pid = self.world.random.choice(free)
        self._ticks += 1  # two processes of one pid never start in the same tick
        process = self._table[pid] = Process(pid, self._ticks, parent)
        self.everyone.append(process)
        self.world.note(f"process {pid}/{process.start_time} starts")
        return process

    def kill(self, process: Process) -> None:
        """SIGKILL: over at once, a zombie until its parent has looked."""
        if process.died_s is not None:
            return
        process.died_s = self.world.now_s
        self.world.note(f"process {process.pid}/{process.start_time} dies")
        self.world.later(partial(self._collect, process.pid), 5.0)
        for told in list(self.on_exit):
            told(process)

    def _collect(self, pid: int) -> None:
        del self._table[pid]

    def facts(self, pid: int) -> ProcessFacts | None:
        """What /proc/PID shows."""
        if pid == INIT:
            return ProcessFacts(INIT, 0, 1, zombie=False)
        process = self._table.get(pid)
        if process is None:
            return None
        above = process.parent if process.parent and process.parent.died_s is None else None
        return ProcessFacts(pid, above.pid if above else INIT, process.start_time, zombie=process.died_s is not None)


class _Watching:
    def __init__(self, owner: KernelWatch, instance: Instance, on_death: OnDeath) -> None:
        self.instance = instance
        self.on_death: OnDeath | None = on_death
        self._owner = owner

    def cancel(self) -> None:
        self.on_death = None
        if self in self._owner.standing:
            self._owner.standing.remove(self)


class KernelWatch:
    """`sessions.ports.Processes` as pidfds give it: a notice soon after the end of a process, never from `watch`.

    `enter` runs a callback on the daemon's loop.
    """

    def __init__(self, machine: Machine, enter: Callable[[str, Callable[[], None]], None]) -> None:
        self._machine = machine
        self._enter = enter
        self.standing: list[_Watching] = []
        machine.on_exit.append(self._exited)

    def close(self) -> None:
        """The daemon is gone."""
        self._machine.on_exit.remove(self._exited)

    def look(self, instance: Instance) -> ProcessSignal:
        """See `Processes`."""
        return probe_process(instance, self._machine.world.clock, boot=BOOT, facts_of=self._machine.facts)

    def watch(self, instance: Instance, on_death: OnDeath) -> _Watching:
        """See `Processes`."""
        watching = _Watching(self, instance, on_death)
        if instance.judgeable:
            self.standing.append(watching)
            signal = self.look(instance)
            if signal.kind in OVER:
                self._soon(watching, signal)
        return watching

    def _exited(self, process: Process) -> None:
        for watching in self.standing:
            instance = watching.instance
            if (instance.pid, instance.start_time) == (process.pid, process.start_time):
                self._soon(watching, ProcessSignal("gone", f"pidfd readable: pid {process.pid} exited"))

    def _soon(self, watching: _Watching, signal: ProcessSignal) -> None:
        self._machine.world.later(lambda: self._enter("death", lambda: self._tell(watching, signal)))

    def _tell(self, watching: _Watching, signal: ProcessSignal) -> None:
        on_death, watching.on_death = watching.on_death, None
        if on_death is not None:
            self.standing.remove(watching)
            on_death(DeathNotice(watching.instance, self._machine.world.now_s, signal))
