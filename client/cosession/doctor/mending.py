"""What `doctor --fix` may do by itself: take rights away, remove a stale socket and what was never finished.

First a plan, which changes nothing; then, under the daemon's lock where a daemon could be in the way, a record of what
is there (`mended/TIME/` in the state directory, with copies of the small files), and only then the changes, each judged
anew at its moment. Whatever needs a decision (the store, a file of somebody else, a process) is left to its remedy.

Rule: nothing that holds anything of the user's is changed or removed, and nothing at all without a record.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from cosession import paths
from cosession.doctor import places
from cosession.doctor.engine import Ground
from cosession.errors import ConfigError, CosessionError

#: So many changes of one run; the next run has the rest.
CHANGES_MAX: Final = 1_000
#: So many records are kept.
RECORDS_MAX: Final = 10
DIRECTORY: Final = "mended"
#: What is copied into the record.
_COPIED: Final = ("daemon.lock", "mark", "stopped", "failstops", "latch")
_COPY_BYTES_MAX: Final = 1024 * 1024
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Change(NamedTuple):
    """One change: `kind` is chmod (to `mode`), unlink of a `socket`, or of a `partial` file."""

    kind: str
    path: str
    why: str
    mode: int = 0

    @property
    def needs_lock(self) -> bool:
        """Whether a daemon could have it in use."""
        return self.kind != "chmod"

    def __str__(self) -> str:
        if self.kind == "chmod":
            return f"chmod {self.mode:o} {self.path}: {self.why}"
        return f"remove {self.path}: {self.why}"


def plan(ground: Ground) -> list[Change]:
    """What could be mended now, in the order in which it is done."""
    changes = [*_rights(ground)]
    if ground.status is None:
        with contextlib.suppress(ConfigError):
            socket = Path(paths.socket_path(ground.env))
            if places.is_stale(socket) and socket.lstat().st_uid == os.geteuid():
                changes.append(Change("socket", str(socket), "nobody listens on it"))
        changes += [Change("partial", str(path), "it was never finished") for path in places.leftovers(ground.state)]
    removed = {change.path for change in changes if change.kind != "chmod"}
    return [each for each in changes if each.kind != "chmod" or each.path not in removed][:CHANGES_MAX]


def mend(ground: Ground, changes: list[Change]) -> dict[str, Any]:
    """Do them; `done` and `left` in words, and where the `record` lies. Raises CosessionError without one."""
    done: list[str] = []
    left: list[str] = []
    with _lock(ground, is_needed=any(change.needs_lock for change in changes)) as is_ours:
        record = _recorded(ground, changes)
        for change in changes:
            if change.needs_lock and not is_ours:
                left.append(f"{change}; a daemon has started meanwhile")
                continue
            try:
                _do(change)
            except OSError as error:
                left.append(f"{change}; {error.strerror}")
            else:
                done.append(str(change))
    return {"done": done, "left": left, "record": str(record)}


def _rights(ground: Ground) -> Iterator[Change]:
    """What lets others in, of what belongs to this user."""
    directories = [ground.state, Path(paths.log_directory(ground.env))]
    with contextlib.suppress(ConfigError):
        directories.append(Path(paths.socket_path(ground.env)).parent)
    faults = [places.directory_fault(path) for path in directories]
    if ground.state.is_dir() and not ground.state.is_symlink():
        faults += places.file_faults(ground.state)
    seen = set()
    for fault in faults:
        if fault and fault.mode and fault.path not in seen:
            seen.add(fault.path)
            yield Change("chmod", str(fault.path), fault.why.removeprefix(f"{fault.path} "), fault.mode)
    config = Path(paths.config_file(ground.env))
    with contextlib.suppress(OSError):
        found = config.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & _OTHERS_WRITE:
            mode = stat.S_IMODE(found.st_mode)
            yield Change("chmod", str(config), f"mode {mode:04o} lets others write it", mode & ~_OTHERS_WRITE)


def _do(change: Change) -> None:
    """One change, on what is still what it was judged to be."""
    path = Path(change.path)
    found = path.lstat()
    if found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode):
        raise OSError(0, "it is another by now")
    if change.kind == "chmod":
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            os.fchmod(descriptor, change.mode)
        finally:
            os.close(descriptor)
    elif change.kind == "partial" or places.is_stale(path):
        path.unlink()


@contextlib.contextmanager
def _lock(ground: Ground, *, is_needed: bool) -> Iterator[bool]:
    """The daemon's lock, held meanwhile; False when somebody else has it. Its content stays as it is."""
    path = Path(paths.lock_file(ground.env))
    if not is_needed or not path.parent.is_dir():
        yield is_needed
        return
    import portalocker

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.LockException:
            yield False
            return
        yield True


def _recorded(ground: Ground, changes: list[Change]) -> Path:
    """Write down what is there, before anything is changed."""
    top = ground.state / DIRECTORY
    place = top / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z"
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700)
        for path in (*(ground.state / name for name in _COPIED), Path(paths.config_file(ground.env))):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= _COPY_BYTES_MAX:
                shutil.copyfile(path, place / path.name)
        before = [{**change._asdict(), "was": _was(Path(change.path))} for change in changes]
        (place / "record.json").write_text(json.dumps({"changes": before}, indent=2) + "\n")
        for path in place.iterdir():
            path.chmod(0o600)
        for old in sorted(top.iterdir())[:-RECORDS_MAX]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CosessionError(
            f"cannot mend anything: what is there cannot be written down first in {place}: {error.strerror}; "
            "see to its owner, its mode and its disk",
            code="disk_full" if error.errno == errno.ENOSPC else "io_error",
        ) from error
    return place


def _was(path: Path) -> dict[str, Any]:
    try:
        found = path.lstat()
    except OSError as error:
        return {"error": error.strerror}
    return {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "size_bytes": found.st_size, "mtime": found.st_mtime}
