"""An invented Mac: processes with their pids, and kqueues on them, doing what kqueue(2) and the source of xnu say.

bsd/kern/kern_event.c (filt_procattach, filt_procevent, filt_proctouch) and kern_exit.c. A process goes through four
states: `running`; `exiting`, shown as running still, but nothing attaches to it any more; `zombie`, from when its
NOTE_EXIT has been sent; and collected, when its pid is free again. Each step is taken by the test.

Rule: the kernel's side only. It knows nothing of what is under test, and has tests of its own.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Any

from cosessiond.sessions.procs import ProcessFacts

EVFILT_PROC, EV_ADD, EV_DELETE, EV_EOF, NOTE_EXIT = -5, 1, 2, 0x8000, 0x80000000


@dataclass
class Event:
    """struct kevent, made as select.kevent is: by position."""

    ident: int
    filter: int = -1
    flags: int = EV_ADD
    fflags: int = 0


@dataclass(eq=False)
class Process:
    pid: int
    start_time: int
    state: str = "running"


@dataclass(eq=False)
class _Knote:
    """A registered filter: on this process, wanting this, and what is to be delivered."""

    process: Process
    wanted: int
    pending: int = 0


class Queue:
    """A kqueue."""

    def __init__(self, mac: Mac, descriptor: int) -> None:
        self.mac = mac
        self.descriptor = descriptor
        self.knotes: dict[int, _Knote] = {}
        self.refuses = 0  # an errno for every change and every read

    def fileno(self) -> int:
        assert self.mac.queues.get(self.descriptor) is self, "closed"
        return self.descriptor

    def close(self) -> None:
        del self.mac.queues[self.descriptor]

    def control(self, changes: list[Event] | None, events_max: int, timeout_s: float) -> list[Event]:
        assert self.mac.queues.get(self.descriptor) is self, "closed"
        assert timeout_s == 0, "it would block the loop"
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        for change in changes or ():
            self._change(change)
        ready = [pid for pid, knote in self.knotes.items() if knote.pending][:events_max]
        return [Event(pid, EVFILT_PROC, EV_EOF, self.knotes.pop(pid).pending) for pid in ready]

    def _change(self, change: Event) -> None:
        assert change.filter == EVFILT_PROC
        self.mac.before_change(change)
        known = self.knotes.get(change.ident)
        if change.flags & EV_DELETE:
            if known is None:
                raise FileNotFoundError(errno.ENOENT, "nothing to delete")
            del self.knotes[change.ident]
        elif known is not None:
            known.wanted = change.fflags  # filt_proctouch: it stays attached where it is
        else:
            process = self.mac.table.get(change.ident)
            if process is None or process.state != "running":
                raise ProcessLookupError(errno.ESRCH, "proc_find() finds no such process")
            self.knotes[change.ident] = _Knote(process, change.fflags)


@dataclass
class Mac:
    """The machine. `queue_errno`: kqueue() fails with it. `reader_errno`: so does the loop that is to read one."""

    table: dict[int, Process] = field(default_factory=dict)
    queues: dict[int, Queue] = field(default_factory=dict)
    readers: dict[int, Any] = field(default_factory=dict)
    queue_errno: int = 0
    reader_errno: int = 0
    before_change: Any = lambda _change: None  # called where another process could run in between
    _clock: int = 0
    _descriptor: int = 100

    def spawn(self, pid: int) -> Process:
        assert pid not in self.table, "taken"
        self._clock += 1
        process = self.table[pid] = Process(pid, self._clock)
        return process

    def begin_exit(self, process: Process) -> None:
        process.state = "exiting"

    def exit(self, process: Process) -> None:
        process.state = "zombie"
        for queue in self.queues.values():
            for knote in queue.knotes.values():
                if knote.process is process:
                    knote.pending |= knote.wanted & NOTE_EXIT

    def collect(self, process: Process) -> None:
        assert process.state == "zombie"
        del self.table[process.pid]

    def kill(self, process: Process) -> None:
        """All of it."""
        self.begin_exit(process)
        self.exit(process)
        self.collect(process)

    def facts(self, pid: int) -> ProcessFacts | None:
        """What KERN_PROC_PID of sysctl(3) shows."""
        found = self.table.get(pid)
        return ProcessFacts(pid, 1, found.start_time, zombie=found.state == "zombie") if found else None

    def kqueue(self) -> Queue:
        if self.queue_errno:
            raise OSError(self.queue_errno, os.strerror(self.queue_errno))
        self._descriptor += 1
        queue = self.queues[self._descriptor] = Queue(self, self._descriptor)
        return queue

    def add_reader(self, descriptor: int, callback: Any) -> None:
        assert descriptor in self.queues
        if self.reader_errno:
            raise OSError(self.reader_errno, os.strerror(self.reader_errno))
        self.readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        assert descriptor in self.queues, "removed before it is closed"
        del self.readers[descriptor]

    def turn(self) -> bool:
        """One turn of the loop: whatever is readable is read once. False when nothing was."""
        ready = [
            descriptor for descriptor, queue in self.queues.items() if any(k.pending for k in queue.knotes.values())
        ]
        for descriptor in ready:
            if descriptor in self.readers:
                self.readers[descriptor]()
        return bool(ready)
