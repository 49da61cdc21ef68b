"""The list of everything that `service install` wrote: `service.json` in the state directory, with a hash of itself.

It is written before the first file, so that an installation that was broken off can be taken away as well.

Rule: what is not in it is not ours, and is neither changed nor removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from cosession.errors import ConfigError

#: As `cosession.paths.service_manifest` has it.
NAME: Final = "service.json"
_BYTES_MAX: Final = 64 * 1024


class Written(Struct, frozen=True, kw_only=True):
    """One file: its path and the SHA-256 of what was written, or for a link (`target`) where it leads."""

    path: str
    sha256: str = ""
    target: str = ""


class Manifest(Struct, frozen=True, kw_only=True):
    """One installation. `directories`: those that were made for it, outermost first."""

    manager: Literal["systemd", "launchd"]
    version: str
    interpreter: str
    socket: str
    files: tuple[Written, ...] = ()
    directories: tuple[str, ...] = ()
    confined: bool = False


class _Kept(Struct, frozen=True):
    """The content of the file."""

    hash: str
    manifest: Manifest
    format: int = 1


def written(path: Path, content: bytes) -> Written:
    """The entry of a file with this content."""
    return Written(path=str(path), sha256=hashlib.sha256(content).hexdigest())


def state_of(each: Written) -> Literal["as written", "changed", "missing"]:
    """How a file of a manifest stands on the disk."""
    path = Path(each.path)
    try:
        if each.target:
            return "as written" if os.readlink(path) == each.target else "changed"  # noqa: PTH115 - as text
        return "as written" if written(path, path.read_bytes()) == each else "changed"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "changed"


def read(state: str) -> Manifest | None:
    """The manifest in a state directory, None when there is none. Raises ConfigError for one that is damaged."""
    path = Path(state, NAME)
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        kept = msgspec.json.decode(text, type=_Kept)
    except msgspec.MsgspecError as error:
        raise _damaged(path, str(error)) from None
    if kept.hash != _hash(kept.manifest):
        raise _damaged(path, "it does not have the hash that it names")
    return kept.manifest


def write(state: str, manifest: Manifest) -> None:
    """Put it in the state directory, which is made if need be, in the place of what was there."""
    directory = Path(state)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(directory / NAME, msgspec.json.encode(_Kept(_hash(manifest), manifest)) + b"\n", 0o600)


def remove(state: str) -> None:
    """There is no installation any more."""
    Path(state, NAME).unlink(missing_ok=True)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that its name stands for the old content or the new one, never for a part."""
    beside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)


def _hash(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use {path}: {why}; run `cosession service install` to write it anew, or remove it",
        data={"path": str(path)},
    )
