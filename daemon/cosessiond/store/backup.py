"""Backups as files: what a manifest says, what lies in `backups/`, how one gets its final name and how one goes.

    backups/00000000000000001234-20260102T030405Z-scheduled.db      a plain SQLite database, complete by itself
    backups/00000000000000001234-20260102T030405Z-scheduled.json    its manifest, sealed (`process.sidecar`)
    backups/00000000000000001234-20260102T030405Z-scheduled.db.partial    one that is being made

Rule: the name of the database is what counts. It comes last when a backup is made and goes first when one is dropped,
so that after a crash at any moment a database under its final name is complete, synced and verified; what is left over
beside none (`sweep`) is worthless.
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, get_args

from msgspec import Struct

from cosession.errors import ConfigError
from cosessiond.process.directories import private_directory
from cosessiond.process.durable import sync_directory, write_whole
from cosessiond.process.files import open_plain
from cosessiond.process.sidecar import BYTES_MAX, sealed, unsealed

Reason = Literal["scheduled", "demand", "shutdown", "migration", "restore", "purge", "compact", "rescue"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

DIRECTORY: Final = "backups"
DATABASE: Final = ".db"
MANIFEST: Final = ".json"
PARTIAL: Final = ".db.partial"
_NAME: Final = re.compile(rf"\d{{20}}-\d{{8}}T\d{{6}}Z-(?:{'|'.join(REASONS)})", re.ASCII)


class Manifest(Struct, frozen=True, kw_only=True):
    """What is known of one backup. The hashes are in hexadecimal; `sha256` is of the whole file.

    `chain_hash`, `state_hash` and `entries` are of the store at `revision`; the last of it may be in the log only, from
    which a start derives the rest. `verified`: it was, with every hash in it, before it got its name, and nobody has
    found anything wrong with it since.
    """

    epoch: str
    revision: int
    entries: int
    size_bytes: int
    sha256: str
    schema: int
    version: str
    time_ms: int
    reason: Reason
    verified: bool
    chain_hash: str
    state_hash: str


#: "valid": file and manifest belong together as far as can be seen without reading it all. "damaged": somebody has
#: read it all, or its size is another. "no_manifest", "no_database": one without the other counts as not there.
State = Literal["valid", "damaged", "no_manifest", "no_database"]


class Found(Struct, frozen=True, kw_only=True):
    """One name in the directory. `manifest` is there if and only if it could be believed."""

    name: str
    state: State
    size_bytes: int
    manifest: Manifest | None = None


def is_name(name: str) -> bool:
    """Whether a backup may be called so, which nothing that leads elsewhere is."""
    return _NAME.fullmatch(name) is not None


def name_of(revision: int, time_ms: int, reason: Reason) -> str:
    """What a backup is called, without the ending."""
    return f"{revision:020d}-{datetime.fromtimestamp(time_ms // 1000, UTC):%Y%m%dT%H%M%SZ}-{reason}"


class BackupDirectory:
    """The directory `backups` of a state directory, made if it is not there, and held open."""

    def __init__(self, state: Path) -> None:
        self.path: Final = state / DIRECTORY
        self.descriptor: Final = private_directory(self.path)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def database(self, name: str) -> Path:
        """The file of a backup."""
        return self.path / f"{name}{DATABASE}"

    def partial(self, name: str) -> Path:
        """The file of one that is being made."""
        return self.path / f"{name}{PARTIAL}"

    def found(self) -> list[Found]:
        """What is there, oldest first: by revision, which never goes back, then by the time in the name."""
        names = self._names()
        return [self._look(name, names) for name in sorted({_stem(each) for each in names} - {""})]

    def valid(self) -> list[Found]:
        """Those that can be restored, as far as can be seen without reading them, oldest first."""
        return [each for each in self.found() if each.state == "valid"]

    def free_name(self, revision: int, time_ms: int, reason: Reason) -> str:
        """A name that nothing has, of that time or of a second as soon after it as possible."""
        taken = {_stem(each) for each in self._names()}
        while (name := name_of(revision, time_ms, reason)) in taken:
            time_ms += 1000
        return name

    def begin(self, partial: str) -> int:
        """Make the empty file of one that is being made, and return it open. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(f"{partial}{PARTIAL}", flags, 0o600, dir_fd=self.descriptor)

    def publish(self, partial: str, name: str, manifest: Manifest) -> None:
        """Give what is in the making, whole, synced and verified, its final name. Raises OSError."""
        self.write_manifest(name, manifest)
        os.rename(f"{partial}{PARTIAL}", f"{name}{DATABASE}", src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        sync_directory(self.descriptor)

    def discard(self, partial: str) -> None:
        """Remove what was in the making. Raises OSError."""
        self._unlink(f"{partial}{PARTIAL}")

    def write_manifest(self, name: str, manifest: Manifest) -> None:
        """Put this in the place of what is known of a backup. Raises OSError."""
        write_whole(self.descriptor, f"{name}{MANIFEST}", sealed(manifest))

    def drop(self, name: str) -> None:
        """Remove a backup. Raises OSError."""
        for ending in (DATABASE, MANIFEST):
            self._unlink(f"{name}{ending}")
        sync_directory(self.descriptor)

    def sweep(self) -> list[str]:
        """Remove what a crash has left: files in the making, and manifests without their database. Returns the names.

        For a start, when nobody is making one. Raises OSError.
        """
        names = self._names()
        left = [each for each in sorted(names) if each.endswith((PARTIAL, f"{PARTIAL}-journal", f"{MANIFEST}.new"))]
        left += [
            each
            for each in sorted(names)
            if each.endswith(MANIFEST) and (stem := _stem(each)) and f"{stem}{DATABASE}" not in names
        ]
        for each in left:
            self._unlink(each)
        if left:
            sync_directory(self.descriptor)
        return left

    def room(self) -> tuple[int, int]:
        """Bytes free on the disk, and all that it has."""
        volume = os.fstatvfs(self.descriptor)
        return volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize

    def _names(self) -> set[str]:
        return set(os.listdir(self.descriptor))  # noqa: PTH208 - of an open directory

    def _look(self, name: str, names: set[str]) -> Found:
        has_database, has_manifest = f"{name}{DATABASE}" in names, f"{name}{MANIFEST}" in names
        size = self._size(name) if has_database else 0
        if not has_database or size < 0:
            return Found(name=name, state="no_database", size_bytes=0)
        manifest = self._read(name) if has_manifest else None
        if manifest is None:
            return Found(name=name, state="no_manifest", size_bytes=size)
        is_whole = manifest.verified and manifest.size_bytes == size
        return Found(name=name, state="valid" if is_whole else "damaged", size_bytes=size, manifest=manifest)

    def _size(self, name: str) -> int:
        """Of the database; -1 when it is no plain file of ours."""
        try:
            descriptor = open_plain(self.database(name), os.O_RDONLY)
        except (FileNotFoundError, ConfigError):
            return -1
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> Manifest | None:
        """The manifest of `name`, None when it is not there or cannot be believed."""
        try:
            with os.fdopen(open_plain(self.path / f"{name}{MANIFEST}", os.O_RDONLY), "rb") as file:
                return unsealed(file.read(BYTES_MAX), Manifest)
        except (OSError, ConfigError):
            return None

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # gone already, which is what was wanted
            os.unlink(name, dir_fd=self.descriptor)


def _stem(name: str) -> str:
    """The backup that a file belongs to, "" when it is none of a finished one."""
    for ending in (DATABASE, MANIFEST):
        stem = name.removesuffix(ending)
        if stem != name and is_name(stem):
            return stem
    return ""
