"""Told of ended processes by macOS: one kqueue for all, with a filter EVFILT_PROC and NOTE_EXIT for each pid.

Numbers from bsd/sys/event.h of xnu, what they do from kqueue(2) and bsd/kern/kern_event.c, kern_exit.c; all of this is
written from them and has never run on a Mac. What it goes by:

- Registering (EV_ADD) attaches to the process that has the pid at that moment, and fails with ESRCH when there is none,
  when it is a zombie, and also from the moment it began to exit, when it can still be seen as running. NOTE_EXIT is
  sent after that to whatever was attached: so there is no moment at which a death is neither refused nor told.
- There is one filter for each pid. EV_ADD for a pid that has one leaves that attached where it was, also when its
  process is over and the event still waits; so an old one is deleted first.
- The filter is gone once the event was delivered (EV_ONESHOT is implied), and only then may the pid be registered again
  without deleting. Events are matched with who waits before anyone is told, since whoever is told may register.
- exec is no exit. NOTE_EXIT of a process under a debugger is sent when the debugger collects it.

Rule: one descriptor, open only while something is registered. When the queue fails, everybody is told that it did.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from cosessiond.sessions.notifying import AddReader, Attached, RemoveReader

EVFILT_PROC: Final = -5
EV_ADD: Final = 0x0001
EV_DELETE: Final = 0x0002
EV_ONESHOT: Final = 0x0010
NOTE_EXIT: Final = 0x80000000
#: Events read at once; the loop comes back for the rest.
EVENTS_MAX: Final = 256


class Queue(Protocol):
    """`select.kqueue`."""

    def fileno(self) -> int:
        """Its descriptor, readable while events wait."""
        ...

    def control(self, changes: Sequence[Any] | None, events_max: int, timeout_s: float, /) -> list[Any]:
        """kevent(2). With room for no event, a change that fails is raised as OSError."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Kqueue:
    """`notifying.Notifier` of macOS. `open_queue` and `make_event` are select.kqueue and select.kevent."""

    def __init__(
        self,
        open_queue: Callable[[], Queue],
        make_event: Callable[[int, int, int, int], Any],
        add_reader: AddReader,
        remove_reader: RemoveReader,
    ) -> None:
        self._open_queue = open_queue
        self._make_event = make_event
        self._add_reader = add_reader
        self._remove_reader = remove_reader
        self._queue: Queue | None = None
        self._attached: dict[int, _Filter] = {}

    def count(self) -> int:
        """See `Notifier`."""
        return len(self._attached)

    def attach(self, pid: int, ended: Callable[[str], None], lost: Callable[[], None]) -> Attached | None:
        """See `Notifier`. Whoever had this pid before is `lost`: two processes never have it at once."""
        queue = self._opened()
        if queue is None:
            return None
        before = self._attached.pop(pid, None)
        if before is not None:
            self._delete(queue, pid)
        try:
            queue.control([self._make_event(pid, EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT)], 0, 0)
        except ProcessLookupError:
            raise
        except OSError:
            return None
        else:
            attached = self._attached[pid] = _Filter(self, pid, ended, lost)
            return attached
        finally:
            self._close_if_unused()
            if before is not None:
                before.lost()

    def release(self, attached: _Filter) -> None:
        """For `_Filter.close` only. Its pid may be attached to anew by somebody else."""
        if self._attached.get(attached.pid) is attached and self._queue is not None:
            del self._attached[attached.pid]
            self._delete(self._queue, attached.pid)
            self._close_if_unused()

    def _opened(self) -> Queue | None:
        """The queue, None when there can be none now; the next `attach` tries again."""
        if self._queue is None:
            try:
                queue = self._open_queue()
            except OSError:
                return None
            try:
                self._add_reader(queue.fileno(), self._readable)
            except OSError:
                queue.close()
                return None
            self._queue = queue
        return self._queue

    def _delete(self, queue: Queue, pid: int) -> None:
        with contextlib.suppress(OSError):  # ENOENT: its event was delivered
            queue.control([self._make_event(pid, EVFILT_PROC, EV_DELETE, 0)], 0, 0)

    def _readable(self) -> None:
        assert self._queue is not None, "the reader goes with the queue"
        try:
            events = self._queue.control(None, EVENTS_MAX, 0)
        except OSError:
            self._give_up()
            return
        exited = [event.ident for event in events if event.filter == EVFILT_PROC and event.fflags & NOTE_EXIT]
        over = [found for pid in exited if (found := self._attached.pop(pid, None)) is not None]
        self._close_if_unused()
        for each in over:
            each.ended("kqueue NOTE_EXIT")

    def _give_up(self) -> None:
        lost = list(self._attached.values())
        self._attached.clear()
        self._close_if_unused()
        for each in lost:
            each.lost()

    def _close_if_unused(self) -> None:
        queue = self._queue
        if queue is not None and not self._attached:
            self._queue = None
            self._remove_reader(queue.fileno())
            queue.close()


class _Filter:
    """One registered pid. What it calls is called once at most, and never after `close`."""

    def __init__(self, owner: Kqueue, pid: int, ended: Callable[[str], None], lost: Callable[[], None]) -> None:
        self._owner = owner
        self.pid = pid
        self._ended: Callable[[str], None] | None = ended
        self._lost: Callable[[], None] | None = lost

    def ended(self, evidence: str) -> None:
        told, self._ended, self._lost = self._ended, None, None
        if told is not None:
            told(evidence)

    def lost(self) -> None:
        told, self._ended, self._lost = self._lost, None, None
        if told is not None:
            told()

    def close(self) -> None:
        self._ended = self._lost = None
        self._owner.release(self)
