"""The support bundle: what somebody else needs to see why this does not work, in one archive that can be looked through
before it is sent.

It holds the checks, the daemon's own account of itself, the configuration, the end of the log, the names and sizes of
the files, the units, versions and the variables of ours; all of it redacted. It holds no entry, no key, no letter, no
part of the database. `manifest.json` lists every file with its size and SHA-256, and how often what was replaced.

Rule: nothing gets in that `redaction` has not seen; a part that cannot be read is named with the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import pwd
import secrets
import stat
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cosession import paths
from cosession._version import __version__
from cosession.doctor import log, places, units
from cosession.doctor.engine import Ground
from cosession.doctor.redaction import Redaction
from cosession.errors import CosessionError

#: Of a log so much, of any other part so much, of the listing so many files.
LOG_BYTES: Final = 512 * 1024
PART_BYTES_MAX: Final = 1024 * 1024
FILES_MAX: Final = 2_000
_VARIABLES: Final = ("COSESSION_", "XDG_", "SANDBOX_", "CODEX_", "LANG", "LC_", "PYTHON")


def write(ground: Ground, checks: list[dict[str, Any]], target: Path) -> dict[str, Any]:
    """Make the archive at `target`, which must not be there. Returns its manifest. Raises CosessionError."""
    redaction = Redaction(home=_home(ground), user=_user(), host=platform.node(), salt=secrets.token_bytes(16))
    parts: dict[str, bytes] = {}
    for name, gather in _parts(ground, checks).items():
        try:
            found = gather()
        except Exception as error:  # noqa: BLE001 - the other parts are of use without it
            found = f"cannot be read: {type(error).__name__}: {error}\n"
        if not isinstance(found, str):
            found = json.dumps(redaction.data(found), indent=2, ensure_ascii=True, default=str) + "\n"
        parts[name] = redaction.text(found).encode(errors="replace")[:PART_BYTES_MAX]
    manifest = {
        "version": __version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": [
            {"name": name, "size_bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
            for name, part in parts.items()
        ],
        "replaced": redaction.counts,
        "left out": "entries, keys, values, letters, checkpoints, the database, the key of the session tokens",
    }
    _archive(target, {"manifest.json": (json.dumps(manifest, indent=2) + "\n").encode(), **parts})
    return manifest


def _archive(target: Path, parts: dict[str, bytes]) -> None:
    folder = target.name.partition(".")[0]
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, part in parts.items():
                member = tarfile.TarInfo(f"{folder}/{name}")
                member.size, member.mode, member.mtime = len(part), 0o600, int(time.time())
                archive.addfile(member, io.BytesIO(part))
    except FileExistsError:
        raise CosessionError(
            f"cannot write {target}: it is there already; name another file", code="io_error"
        ) from None
    except OSError as error:
        target.unlink(missing_ok=True)
        raise CosessionError(
            f"cannot write {target}: {error.strerror}; name a file elsewhere", code="io_error"
        ) from error


def _parts(ground: Ground, checks: list[dict[str, Any]]) -> dict[str, Callable[[], Any]]:
    """What goes in, by name; text is taken as it is, anything else as JSON."""
    return {
        "checks.json": lambda: {"checks": checks},
        "status.json": lambda: ground.status or {"silence": ground.silence or "no daemon runs"},
        "config.toml": lambda: _text(Path(paths.config_file(ground.env))),
        "log.txt": lambda: _log(ground),
        "files.txt": lambda: _listing(ground.state),
        "lock.json": lambda: _text(Path(paths.lock_file(ground.env))),
        "units.txt": lambda: "".join(f"# {path}\n{_text(path)}\n" for path in units.found(ground)) or "none\n",
        "environment.json": lambda: _environment(ground),
    }


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(PART_BYTES_MAX).decode(errors="replace")
    except FileNotFoundError:
        return "there is none\n"


def _log(ground: Ground) -> str:
    lines = log.tail(Path(paths.log_directory(ground.env)) / "daemon.log", LOG_BYTES)
    return b"\n".join(lines).decode(errors="replace") or "there is none\n"


def _listing(directory: Path) -> str:
    """Names, modes, owners, sizes and times, as far down as two levels; links are not followed."""
    lines = []
    for path in sorted([directory, *directory.glob("*"), *directory.glob("*/*")])[:FILES_MAX]:
        found = path.lstat()
        written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.st_mtime))
        lines.append(f"{stat.filemode(found.st_mode)} {found.st_uid} {found.st_size:>12} {written} {path}")
    return "\n".join(lines) + "\n"


def _environment(ground: Ground) -> dict[str, Any]:
    kept = {name: value for name, value in sorted(ground.env.items()) if name.startswith(_VARIABLES)}
    socket = Path(paths.socket_path(ground.env))
    return {
        "variables": kept,
        "python": sys.version,
        "executable": sys.executable,
        "system": platform.platform(),
        "socket": str(socket),
        "stale": places.is_stale(socket),
    }


def _home(ground: Ground) -> str:
    return ground.env.get("HOME", "").rstrip("/")


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""
