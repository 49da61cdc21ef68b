"""Checks of the places: the socket and its directory, a stale socket, the state directory and what is left in it.

Rule: looked at with lstat and one connection that says nothing; what is wrong is named with the command that mends it.
"""

from __future__ import annotations

import errno
import os
import socket as sockets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cosession import paths
from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen
from cosession.errors import ConfigError

_OTHERS: Final = 0o077
#: Files of a directory that are looked at, so that no directory is too large for a check.
FILES_MAX: Final = 5_000
#: Where a disk that failed is on record (`cosessiond.process.latch`).
LATCH: Final = "latch"
JOURNAL: Final = "restore.journal"
#: Endings of what was being made: `cosessiond.store.backup`.
PARTIAL: Final = (".db.partial", ".db.partial-journal", ".json.new")


class Fault(NamedTuple):
    """What is wrong with one place. `mode`: what it should be, where only that is wrong, else 0."""

    path: Path
    why: str
    remedy: str
    mode: int = 0


def socket(ground: Ground) -> Seen:
    """Path, directory, owner and mode. Raises ConfigError for a path that no socket can have."""
    path = Path(paths.socket_path(ground.env))
    size = len(os.fsencode(path))
    where = f"{path}, {size} of {paths.SOCKET_PATH_BYTES_MAX} bytes"
    fault = directory_fault(path.parent) or _socket_fault(path)
    if fault:
        return Seen(FAILURE, fault.why, fault.remedy)
    served = (ground.status or {}).get("socket", str(path))
    if served != str(path):
        return Seen(
            WARNING,
            f"{where}; the daemon serves {served}",
            "it was started with another environment; take this one: cosession restart",
        )
    if not os.path.lexists(path.parent):
        return Seen(OK, f"{where}; its directory is not there yet, the daemon makes it")
    return Seen(OK, f"{where}, in a directory of yours alone")


def stale(ground: Ground) -> Seen:
    """Is a socket there on which nobody listens?"""
    try:
        path = Path(paths.socket_path(ground.env))
    except ConfigError:
        return Seen(OK, "there can be none at that path")
    if not is_stale(path):
        return Seen(OK, "somebody listens on the socket" if path.is_socket() else "there is no socket")
    return Seen(
        WARNING,
        f"nobody listens on {path}: its daemon ended without removing it",
        "start a daemon, which takes its place: cosession start; or only remove it: cosession doctor --fix",
    )


def is_stale(path: Path) -> bool:
    """Whether a socket is there and refuses connections."""
    if not path.is_socket():
        return False
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            return probe.connect_ex(os.fspath(path)) == errno.ECONNREFUSED
        except OSError:  # a path no socket can have
            return False


def state(ground: Ground) -> Seen:
    """The state directory: whose it is, who may enter it, what is left in it."""
    directory = ground.state
    if not os.path.lexists(directory):
        return Seen(OK, f"{directory} is not there yet, the daemon makes it")
    faults = [fault for fault in (directory_fault(directory),) if fault] or list(file_faults(directory))
    if faults:
        first = faults[0]
        more = f" (and {len(faults) - 1} more such)" if len(faults) > 1 else ""
        return Seen(FAILURE, first.why + more, first.remedy)
    if os.path.lexists(directory / LATCH):
        return Seen(
            FAILURE,
            f"{directory / LATCH} is there: the disk has failed three times within 10 min, so the store is read-only",
            "see that the disk is well, then: cosession start --force",
        )
    if os.path.lexists(directory / JOURNAL):
        return Seen(
            WARNING,
            f"{directory / JOURNAL} is there: a restore was broken off",
            "the next start finishes or undoes it: cosession start",
        )
    left = leftovers(directory) if ground.status is None else []
    if left:
        return Seen(
            WARNING,
            f"{len(left)} files are left that were never finished, {left[0].name} among them",
            "the next start removes them: cosession start; or now: cosession doctor --fix",
        )
    return Seen(OK, f"{directory}, of yours alone")


def directory_fault(path: Path) -> Fault | None:
    """What is wrong with a directory that is to be private, None when nothing is, or it is not there."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "no directory"
        return Fault(path, f"{path} is {what}", "move it away, or set COSESSION_HOME to a directory of yours")
    return _owner_fault(path, found) or _mode_fault(path, found, 0o700)


def file_faults(directory: Path) -> Iterator[Fault]:
    """The files and directories of the state directory that belong to somebody else, or let others in."""
    for path in _entries(directory):
        try:
            found = path.lstat()
        except FileNotFoundError:  # gone meanwhile
            continue
        fault = _owner_fault(path, found)
        if fault is None and not stat.S_ISLNK(found.st_mode):
            fault = _mode_fault(path, found, 0o700 if stat.S_ISDIR(found.st_mode) else 0o600)
        if fault:
            yield fault


def leftovers(directory: Path) -> list[Path]:
    """Files of backups that were being made, of which nobody will ever make use."""
    try:
        return sorted(path for path in (directory / "backups").iterdir() if path.name.endswith(PARTIAL))
    except (FileNotFoundError, NotADirectoryError):
        return []


def newest_time(found: os.stat_result) -> float:
    """How long ago it was written, in seconds; negative in a future that a stepped clock made."""
    return time.time() - found.st_mtime


def _entries(directory: Path) -> Iterator[Path]:
    """What is in it and one level below, so many at most."""
    seen = 0
    for path in directory.iterdir():
        yield path
        seen += 1
        if path.is_dir() and not path.is_symlink():
            for inner in path.iterdir() if os.access(path, os.R_OK | os.X_OK) else ():
                yield inner
                seen += 1
                if seen > FILES_MAX:
                    return


def _socket_fault(path: Path) -> Fault | None:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISSOCK(found.st_mode):
        return Fault(path, f"{path} is no socket", "move it away, then: cosession start")
    return _owner_fault(path, found) or _mode_fault(path, found, 0o600)


def _owner_fault(path: Path, found: os.stat_result) -> Fault | None:
    if found.st_uid == os.geteuid():
        return None
    return Fault(
        path,
        f"{path} belongs to uid {found.st_uid}, this is uid {os.geteuid()}",
        f"have it given back: sudo chown {os.geteuid()} {path}; or set COSESSION_HOME to a directory of yours",
    )


def _mode_fault(path: Path, found: os.stat_result, wanted: int) -> Fault | None:
    mode = stat.S_IMODE(found.st_mode)
    if not mode & _OTHERS:
        return None
    return Fault(path, f"{path} has mode {mode:04o}, which lets others in", f"run: chmod {wanted:o} {path}", wanted)
