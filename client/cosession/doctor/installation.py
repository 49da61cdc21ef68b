"""Checks of what is installed: packages, commands, versions of both sides, and whether this is a sandbox.

Rule: only names and versions are looked at; nothing of the daemon's package is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sqlite3
import sys
import sysconfig
from pathlib import Path
from typing import Final

from cosession._version import __version__
from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen
from cosession.reach import sandbox_of

#: What both sides need, as pyproject.toml says.
PACKAGES: Final = ("msgspec", "portalocker", "psutil", "structlog", "watchdog", "sortedcontainers")
_AGAIN: Final = "install it again: pip install --force-reinstall cosession"
_SHEBANG_BYTES_MAX: Final = 1024


def install(ground: Ground) -> Seen:
    """Are both packages, what they need, and the command of this very installation there?"""
    if importlib.util.find_spec("cosessiond") is None:
        return Seen(FAILURE, f"{sys.executable} has the package cosession and not cosessiond: it is half there", _AGAIN)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return Seen(FAILURE, f"{sys.executable} misses {', '.join(missing)}", _AGAIN)
    here = Path(__file__).parent.parent
    found = shutil.which("cosession", path=ground.env.get("PATH"))
    if found is None:
        scripts = sysconfig.get_path("scripts")
        return Seen(OK, f"{here}, run by {sys.executable}; `cosession` is not on PATH (it is in {scripts})")
    runs = interpreter_of(Path(found))
    if runs and not _is_same(Path(runs), Path(sys.executable)):
        return Seen(
            WARNING,
            f"this is {here} of {sys.executable}, but the `cosession` on PATH, {found}, is run by {runs}",
            "remove one of the two installations, or put the other first on PATH",
        )
    return Seen(OK, f"{here}, run by {sys.executable}; the command is {found}")


def versions(ground: Ground) -> Seen:
    """Do client and daemon come from the same version?"""
    mine = f"cosession {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if ground.status is None:
        return Seen(OK, mine)
    theirs = ground.status["version"]
    if theirs != __version__:
        return Seen(WARNING, f"{mine}; the running daemon is {theirs}", "take up the installed one: cosession restart")
    return Seen(OK, f"{mine}; the daemon is the same")


def sandbox(ground: Ground) -> Seen:
    """Is this run where the daemon cannot be started, and perhaps not reached?"""
    name = sandbox_of(ground.env)
    if not name:
        return Seen(OK, "none is known here")
    if ground.status is not None:
        return Seen(OK, f"inside {name}, and the daemon answers")
    return Seen(
        WARNING,
        f"inside {name}, where no daemon is started, and none is reached",
        f"allow the socket in the settings of {name}, or run `cosession start` outside of it",
    )


def interpreter_of(script: Path) -> str:
    """What runs a script by its first line; "" for a program, or what cannot be read."""
    try:
        with script.open("rb") as file:
            head = file.read(_SHEBANG_BYTES_MAX)
    except OSError:
        return ""
    if not head.startswith(b"#!"):
        return ""
    words = head[2:].split(b"\n", 1)[0].decode(errors="replace").split()
    if words[:1] == ["/bin/sh"] and (quoted := head.split(b'"', 2)[1:2]):
        # What pip and others write where the path of the interpreter has blanks or is too long for the kernel.
        return quoted[0].decode(errors="replace")
    return words[0] if words else ""


def _is_same(one: Path, other: Path) -> bool:
    """Whether both are of one environment: their names differ (python, python3), their directory does not."""
    return one.parent.resolve() == other.parent.resolve()
