"""The check of the service units: is what they would start still there, and what does the service manager say of them.

Rule: unit files are read, never executed; the service manager is asked with a deadline, and when it does not answer,
what stands in the files is told all the same.
"""

from __future__ import annotations

import os
import plistlib
import shlex
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen
from cosession.doctor.installation import interpreter_of
from cosession.errors import CosessionError

SYSTEMD: Final = "cosessiond.service"
LAUNCHD: Final = "dev.cosession.daemon.plist"
_UNIT_BYTES_MAX: Final = 64 * 1024
#: How long the service manager may take: less than the check itself.
_ANSWER_S: Final = 4.0
#: What may stand before the program in ExecStart, systemd.service(5).
_PREFIXES: Final = "@-:+!|"
_AGAIN: Final = "write it anew for this installation: cosession service install"


def units(ground: Ground) -> Seen:
    """The units of the daemon, their program, their state."""
    files = found(ground)
    if not files:
        return Seen(OK, "none is installed; the first client starts the daemon")
    for path in files:
        why = missing(path, ground)
        if why:
            return Seen(FAILURE, f"{path}: {why}", _AGAIN)
    where = ", ".join(str(path) for path in files)
    try:
        services = _asked(ground)
    except CosessionError as error:
        cause, _, remedy = error.message.rpartition("; ")
        return Seen(WARNING, f"{where}; {cause or error.message}", remedy)
    failed = [each for each in services if each.state == "FAILED"]
    if failed:
        remedy = f"see why: cosession services --logs {failed[0].name}"
        return Seen(FAILURE, "; ".join(f"{each.name}: {each.reason}" for each in failed[:3]), remedy)
    said = ", ".join(f"{each.name} is {each.state.lower()} ({each.reason})" for each in services[:3])
    return Seen(OK, f"{where}; {said or 'the service manager has not loaded it'}")


def found(ground: Ground) -> list[Path]:
    """The unit files of the daemon that this user's service manager would read."""
    home = Path(ground.env.get("HOME") or "/")
    config = Path(ground.env.get("XDG_CONFIG_HOME") or home / ".config")
    data = Path(ground.env.get("XDG_DATA_HOME") or home / ".local/share")
    places = [
        *(config / "systemd/user" / SYSTEMD, data / "systemd/user" / SYSTEMD),
        *(Path("/etc/systemd/user") / SYSTEMD, Path("/usr/lib/systemd/user") / SYSTEMD),
        home / "Library/LaunchAgents" / LAUNCHD,
    ]
    return [path for path in places if path.is_file()]


def missing(path: Path, ground: Ground) -> str:
    """What of a unit's program is not there, "" when all is."""
    words = program(path, ground)
    if not words:
        return "it starts nothing that can be read"
    file = Path(words[0])
    if not file.is_absolute():
        return ""  # the service manager looks for it in its own path
    if not file.exists():
        return f"its program {file} is not there"
    if not os.access(file, os.X_OK):
        return f"its program {file} may not be executed"
    runs = interpreter_of(file)
    if runs.startswith("/") and not Path(runs).exists():
        return f"its program {file} is run by {runs}, which is not there"
    return ""


def program(path: Path, ground: Ground) -> list[str]:
    """The words of the command that a unit starts, [] when it has none."""
    try:
        with path.open("rb") as file:
            text = file.read(_UNIT_BYTES_MAX)
        if path.suffix == ".plist":
            return _of_plist(plistlib.loads(text), ground)
        return _of_unit(text.decode(errors="replace"), ground)
    except (ValueError, plistlib.InvalidFileException, ExpatError):
        return []


def _of_unit(text: str, ground: Ground) -> list[str]:
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() == "ExecStart" and value.strip():
            words = shlex.split(value.strip().lstrip(_PREFIXES))
            return [word.replace("%h", ground.env.get("HOME", "")).replace("%%", "%") for word in words]
    return []


def _of_plist(plist: dict[str, Any], ground: Ground) -> list[str]:
    words = [str(each) for each in plist.get("ProgramArguments", [])]
    if plist.get("Program"):
        return [str(plist["Program"]), *words[1:]]
    if words[:2] == ["/bin/sh", "-c"] and words[2:3]:
        # As our own agent begins: `exec "$HOME/.local/bin/cosessiond"`.
        inner = shlex.split(words[2].replace("$HOME", ground.env.get("HOME", "")))
        return inner[1:] if inner[:1] == ["exec"] else inner
    return words


def _asked(ground: Ground) -> list[Any]:
    from cosession.services import finding

    return finding.found(["cosessiond*", "dev.cosession*"], ground.env, timeout_s=_ANSWER_S / 4)
