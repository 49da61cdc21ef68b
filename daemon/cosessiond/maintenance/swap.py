"""Another database in the place of the one that is there: staged beside it, promised by a journal, then moved.

    staged/store.db         the new one, whole and synced, while nothing of the old one is touched
    restore.journal         the promise, sealed (`process.sidecar`): what was staged, and where the old one goes
    quarantine/T-REASON/    the old one, with its log and its mark, and `report.json`

Rule: before the journal there is the old store; from the journal on whoever comes next, a start or another act,
finishes the swap or, when what was staged is not what was promised, undoes it. Names are synced where their order
matters: the log of the old database must never lie beside the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from cosession.errors import ConfigError
from cosessiond.process.directories import private_directory
from cosessiond.process.durable import sync, sync_directory, write_whole
from cosessiond.process.files import open_plain
from cosessiond.process.sidecar import BYTES_MAX, sealed, unsealed
from cosessiond.store.engine import StoreBroken
from cosessiond.store.verifying import Facts

STAGED: Final = "staged"
JOURNAL: Final = "restore.journal"
QUARANTINE: Final = "quarantine"
REPORT: Final = "report.json"
DATABASE: Final = "store.db"
#: What of a store is replaced, in this order: its log, its mark, itself.
REPLACED: Final = (f"{DATABASE}-wal", "mark", DATABASE)
_CHUNK_BYTES: Final = 1024 * 1024


class Journal(Struct, frozen=True, kw_only=True):
    """What was promised. `replaces`: the files of the old store, which go to the directory `quarantine`; `why` and
    all the rest is told there.
    """

    reason: str
    quarantine: str
    replaces: list[str]
    size_bytes: int
    sha256: str
    epoch: str
    revision: int
    time_ms: int
    why: dict[str, Any] = {}


def promise(state: Path, reason: str, facts: Facts, *, time_ms: int, why: dict[str, Any]) -> Journal:
    """The journal for what was staged and verified."""
    name = f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y%m%dT%H%M%SZ}-{reason}"
    while os.path.lexists(state / QUARANTINE / name):
        time_ms += 1000
        name = f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y%m%dT%H%M%SZ}-{reason}"
    return Journal(
        reason=reason,
        quarantine=name,
        replaces=[name for name in REPLACED if os.path.lexists(state / name)],
        size_bytes=facts.size_bytes,
        sha256=facts.sha256,
        epoch=facts.epoch,
        revision=facts.revision,
        time_ms=time_ms,
        why=why,
    )


def stage(state: Path) -> Path:
    """An empty directory for the new database, which is to be `staged/store.db` and nothing else."""
    discard(state)
    os.close(private_directory(state / STAGED))
    return state / STAGED


def discard(state: Path) -> None:
    """Remove what was staged and not promised. Raises ConfigError when something else is there."""
    place = state / STAGED
    try:
        if not stat.S_ISDIR(place.lstat().st_mode):
            raise ConfigError(f"cannot use {place}: it is in the way of what is staged there; move it away")
    except FileNotFoundError:
        return
    shutil.rmtree(place)


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    found, size = hashlib.sha256(), 0
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        while data := file.read(_CHUNK_BYTES):
            found.update(data)
            size += len(data)
    return size, found.hexdigest()


def swap(state: Path, state_fd: int, journal: Journal) -> Path:
    """Put `staged/store.db` in the place of the store; where the old one lies now. The engine has closed both.

    Raises OSError; once the journal is there the next start goes on with it.
    """
    staged = private_directory(state / STAGED)
    try:
        assert [each.name for each in (state / STAGED).iterdir()] == [DATABASE], "a database that is whole by itself"
        descriptor = os.open(DATABASE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=staged)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(staged)
    finally:
        os.close(staged)
    sync_directory(state_fd)
    write_whole(state_fd, JOURNAL, sealed(journal))
    _finish(state, state_fd, journal)
    return state / QUARANTINE / journal.quarantine


def prune(state: Path, reason: str, kept_max: int) -> None:
    """Remove the oldest of the stores that a swap for `reason` moved to quarantine, so that so many stay."""
    found = sorted(path for path in (state / QUARANTINE).glob(f"*Z-{reason}") if (path / REPORT).exists())
    for path in found[: max(0, len(found) - kept_max)]:
        shutil.rmtree(path)


def settle(state: Path, state_fd: int) -> Journal | None:
    """What every start and every act does first: finish or undo a swap that was broken off. What it was, if there was
    one to finish.

    Raises StoreBroken when the journal cannot be believed, OSError.
    """
    try:
        with os.fdopen(open_plain(state / JOURNAL, os.O_RDONLY), "rb") as file:
            journal = unsealed(file.read(BYTES_MAX), Journal)
    except FileNotFoundError:
        discard(state)
        return None
    if journal is None:
        raise StoreBroken(
            f"cannot trust {state / JOURNAL}: it does not match its hash; both stores are kept, see "
            f"{state / STAGED} and {state / QUARANTINE}; put the one you want in place and remove the journal"
        )
    return journal if _finish(state, state_fd, journal) else None


def _finish(state: Path, state_fd: int, journal: Journal) -> bool:
    """Go on from wherever it is; False when it was undone."""
    aside = _aside(state, state_fd, journal)
    try:
        if (state / STAGED / DATABASE).exists():
            if not _is_as_promised(state, journal):
                _undo(state, state_fd, journal, aside)
                return False
            for name in REPLACED:
                _move(name, state_fd, aside)
            sync_directory(aside)
            sync_directory(state_fd)
            os.rename(f"{STAGED}/{DATABASE}", DATABASE, src_dir_fd=state_fd, dst_dir_fd=state_fd)
            sync_directory(state_fd)
        elif not (state / DATABASE).exists():
            _undo(state, state_fd, journal, aside)
            return False
        write_whole(aside, REPORT, msgspec.json.format(msgspec.json.encode(journal), indent=2) + b"\n")
    finally:
        os.close(aside)
    _end(state, state_fd)
    return True


def _is_as_promised(state: Path, journal: Journal) -> bool:
    """Whether what is staged is still what it was."""
    try:
        return digest(state / STAGED / DATABASE) == (journal.size_bytes, journal.sha256)
    except ConfigError:  # no plain file of ours any more
        return False


def _undo(state: Path, state_fd: int, journal: Journal, aside: int) -> None:
    """Put the old store back, as far as it was moved; the database last, so that it never stands without its log."""
    for name in REPLACED:
        _move(name, aside, state_fd)
    sync_directory(state_fd)
    if DATABASE in journal.replaces and not (state / DATABASE).exists():
        raise StoreBroken(
            f"cannot finish or undo what {state / JOURNAL} promises: neither the new store nor the old one is there; "
            f"put a backup in place as {state / DATABASE} and remove the journal, or run: cosession rescue"
        )
    with contextlib.suppress(OSError):  # something else is in it
        (state / QUARANTINE / journal.quarantine).rmdir()
    _end(state, state_fd)


def _end(state: Path, state_fd: int) -> None:
    """Nothing is promised any more."""
    discard(state)
    os.unlink(JOURNAL, dir_fd=state_fd)
    sync_directory(state_fd)


def _aside(state: Path, state_fd: int, journal: Journal) -> int:
    """The directory for the old store, open, its name synced."""
    quarantine = private_directory(state / QUARANTINE)
    try:
        aside = private_directory(state / QUARANTINE / journal.quarantine)
        sync_directory(quarantine)
        sync_directory(state_fd)
    finally:
        os.close(quarantine)
    return aside


def _move(name: str, source: int, target: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # moved already, or never there
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
