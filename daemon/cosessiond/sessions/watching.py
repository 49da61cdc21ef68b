"""Being told when a process ends: by the kernel where it tells, by looking every 2 s elsewhere.

The kernel tells through a `notifying.Notifier`: a pidfd on Linux, a kqueue on macOS, chosen in `system_notifier` and
nowhere else. One attachment serves all sessions of a process. It is made first and the start time checked after: from
then on the pid cannot be reused unnoticed, so there is no gap. Where the kernel does not tell (no descriptor to spare,
or it refuses) an instance is polled; one deadline serves all polled instances and exists only while there are any.

Rule: `on_death` is called once, on the loop, never from inside `watch`; a cancelled watch is silent and owns nothing.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from msgspec import Struct

from cosession.model import Instance
from cosessiond.clock import Clock
from cosessiond.sessions.kqueue import Kqueue
from cosessiond.sessions.notifying import AddReader, Attached, Notifier, RemoveReader
from cosessiond.sessions.pidfd import Pidfds
from cosessiond.sessions.probes import probe_process
from cosessiond.sessions.verdict import OVER, ProcessSignal
from cosessiond.store.leases import Deadlines

POLL_S: Final = 2.0
#: One pass looks at this many, then lets the loop breathe: 256 looks take about 6 ms.
POLL_SLICE: Final = 256
POLL_PAUSE_S: Final = 0.005


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
    """One watched process: who waits, and what the kernel holds for it (None: it is polled, or not watched yet)."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.attached: Attached | None = None
        self.waiting: dict[_Watch, OnDeath] = {}


class _Watch:
    def __init__(self, owner: ProcessWatch, target: _Target) -> None:
        self._owner = owner
        self._target = target

    def cancel(self) -> None:
        if self._target.waiting.pop(self, None) and not self._target.waiting:
            self._owner.drop(self._target)


def system_notifier(add_reader: AddReader, remove_reader: RemoveReader) -> Notifier | None:
    """How this system tells of ended processes, None where only looking helps. The readers are those of the loop."""
    system: Any = os
    if hasattr(system, "pidfd_open"):
        return Pidfds(system.pidfd_open, add_reader, remove_reader)
    system = select
    if hasattr(system, "kqueue"):
        return Kqueue(system.kqueue, system.kevent, add_reader, remove_reader)
    return None


class ProcessWatch:
    """Watches instances until they end. `look` is replaced by tests, `notifier` None leaves polling alone."""

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        notifier: Notifier | None,
        *,
        look: Callable[[Instance, Clock], ProcessSignal] = probe_process,
    ) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._notifier = notifier
        self._look = look
        self._targets: dict[Instance, _Target] = {}
        self._polled: dict[Instance, _Target] = {}

    def counts(self) -> dict[str, int]:
        """Of how many processes the kernel tells, and how many are polled."""
        return {"told": self._notifier.count() if self._notifier else 0, "polled": len(self._polled)}

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
        self._detach(target)
        if self._polled.pop(target.instance, None) and not self._polled:
            self._deadlines.cancel(self)

    def _begin(self, target: _Target) -> None:
        instance = target.instance
        if not instance.judgeable:
            return
        exists = self._attach(target)
        signal = self.look(instance)  # after attaching: from here on a reused pid cannot be taken for it
        if not exists and signal.kind not in OVER:
            # macOS refuses one that is exiting and still shown as running.
            evidence = f"the kernel knows no process to watch with pid {instance.pid} (start {instance.start_time})"
            signal = ProcessSignal("gone", evidence, signal.cost_ms)
        if signal.kind in OVER:
            self._detach(target)
            self._deadlines.after((self, instance), 0.0, partial(self._died, target, signal))
        elif target.attached is None:
            self._poll(target)

    def _attach(self, target: _Target) -> bool:
        """Let the kernel tell, where it does. False: no living process has that pid."""
        if self._notifier is not None:
            try:
                target.attached = self._notifier.attach(
                    target.instance.pid, partial(self._ended, target), partial(self._lost, target)
                )
            except ProcessLookupError:
                return False
        return True

    @staticmethod
    def _detach(target: _Target) -> None:
        attached, target.attached = target.attached, None
        if attached is not None:
            attached.close()

    def _ended(self, target: _Target, said: str) -> None:
        instance = target.instance
        evidence = f"{said}: pid {instance.pid} (start {instance.start_time}) exited"
        self._died(target, ProcessSignal("gone", evidence))

    def _lost(self, target: _Target) -> None:
        """The kernel will not tell: poll, and look soon for what was missed. It may be called inside `watch`."""
        target.attached = None
        self._poll(target)
        self._deadlines.after((self, target.instance), 0.0, partial(self._look_again, target))

    def _look_again(self, target: _Target) -> None:
        signal = self.look(target.instance)
        if signal.kind in OVER:
            self._died(target, signal)

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
