"""Looking at the world for the cascade: is that process alive, is there space.

A probe looks once, now, and returns a signal of `verdict` with its evidence in words and its cost in ms.

Rule: a probe decides nothing and remembers nothing. To be told when a process ends is the part of `watching`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from cosession.model import Instance
from cosessiond.clock import Clock, elapsed_ms
from cosessiond.sessions.procs import CannotJudge, ProcessFacts, boot_id, facts
from cosessiond.sessions.verdict import DiskSignal, ProcessKind, ProcessSignal

#: Below this a recovery could not be written out: a few checkpoints, the log rows and a WAL checkpoint.
DISK_ENOUGH_BYTES: Final = 64 * 1024 * 1024

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
    if instance.boot_id and boot and instance.boot_id != boot:
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
    if instance.boot_id != boot:  # the id of one boot could not be read: after a reboot numbers may come again
        return "not_judgeable", f"{name} is there, but nobody can tell whether it is of this boot"
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
