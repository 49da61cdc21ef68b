"""What tests ask of a process that the daemon never does."""

from __future__ import annotations

from cosession.model import Instance
from cosessiond.sessions.procs import boot_id, facts


def is_zombie(pid: int) -> bool:
    """Whether `pid` is over and only waits to be collected by its parent."""
    found = facts(pid)
    return found is not None and found.zombie


def instance_of(pid: int) -> Instance | None:
    """The instance that `pid` is now; None when there is no such process, or it is over."""
    found = facts(pid)
    if found is None or found.zombie:
        return None
    return Instance(boot_id=boot_id(), pid=pid, start_time=found.start_time)
