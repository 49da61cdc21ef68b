"""A backup of a store that nobody serves, made of its files as they lie: nothing of it is opened, let alone changed.

The database and its log are copied, the log is brought into the copy, and from that a backup is made and proved like
any other, whatever the schema. So there can be one before whatever could go wrong with the store itself.

Rule: it ends with a verified backup under its final name, or with an error and nothing under it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from cosession._version import __version__
from cosession.errors import CosessionError
from cosessiond.maintenance import swap
from cosessiond.maintenance.files import copy, demand_room, size_of
from cosessiond.maintenance.task import Task
from cosessiond.store import schema
from cosessiond.store.backup import BackupDirectory, Manifest, Reason
from cosessiond.store.engine import CopyFailed
from cosessiond.store.proving import back_up

#: What `store.proving` says it does, in words for people.
_DOING = {"copy": "backing up the store", "verify": "verifying the backup"}


class Kept(NamedTuple):
    """A backup that was made."""

    name: str
    path: Path
    manifest: Manifest


def bytes_of(state: Path) -> int:
    """What a copy of the store takes, at most; 0 when there is none."""
    return size_of(state / swap.DATABASE) + size_of(state / f"{swap.DATABASE}-wal")


def keep(task: Task, reason: Reason) -> Kept:
    """Make a backup of the store. Raises StoreBroken when it does not verify, ConfigError when it is not ours or newer,
    CosessionError disk_full, OSError.
    """
    demand_room(task.state_fd, 2 * bytes_of(task.state), "back up the store")
    backups = BackupDirectory(task.state)
    try:
        backups.sweep()  # what a crash has left of another try may have the name
        name, manifest = back_up(
            folded(task),
            backups,
            version=__version__,
            time_ms=task.clock.wall_ms(),
            reason=reason,
            tell=lambda what, done, total: task.progress(_DOING[what], done, total),
        )
    except CopyFailed as error:
        code = "disk_full" if error.is_full else "io_error"
        raise CosessionError(f"{error}; free space and try again", code=code) from error
    finally:
        swap.discard(task.state)
        backups.close()
    return Kept(name, backups.database(name), manifest)


def folded(task: Task) -> Path:
    """A copy of the store in the staging place, its log brought into it. Raises StoreBroken, ConfigError, OSError."""
    place = swap.stage(task.state)
    for name in (swap.DATABASE, f"{swap.DATABASE}-wal"):
        if os.path.lexists(task.state / name):
            copy(task.state / name, place / name, lambda done, total: task.progress("copying the store", done, total))
    schema.fold(place / swap.DATABASE)
    return place / swap.DATABASE
