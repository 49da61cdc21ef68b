"""Asks the service manager of this machine, systemd or launchd, for the user's services; restarts one; shows its log.

Rule: each question is a child with a deadline (`cosession.commands`), so that a service manager that answers late or
never is an error with a name and not a wait; nothing is asked of it that needs a terminal or a password.
"""

from __future__ import annotations

import fnmatch
import os
import plistlib
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

from cosession import commands
from cosession.errors import CosessionError, TimedOut
from cosession.services import launchctl, systemd
from cosession.services.judging import Service

#: How long the service manager may take to answer one question.
ANSWER_S: Final = 5.0
#: A restart waits for the service to be ready.
RESTART_S: Final = 30.0
#: So many are shown; more match only by a pattern as wide as `*`.
SERVICES_MAX: Final = 500
LOG_LINES_MAX: Final = 10_000
_PLIST_BYTES_MAX: Final = 256 * 1024


def manager(env: Mapping[str, str] = os.environ) -> str:
    """Which there is, "systemd" or "launchd", by the command on PATH. Raises CosessionError not_found for neither."""
    for command, name in (("launchctl", "launchd"), ("systemctl", "systemd")):
        if shutil.which(command, path=env.get("PATH")):
            return name
    raise CosessionError(
        "cannot ask for services: there is neither systemctl nor launchctl on PATH; "
        "without a service manager the first client starts the daemon",
        code="not_found",
    )


def found(
    patterns: Sequence[str], env: Mapping[str, str] = os.environ, *, timeout_s: float = ANSWER_S
) -> list[Service]:
    """The services whose names match one of the patterns, with or without `.service`, by name."""
    if manager(env) == "launchd":
        return _agents(patterns, env, timeout_s)
    return _units(patterns, env, timeout_s)


def restart(name: str, env: Mapping[str, str] = os.environ) -> None:
    """Restart one; returns when the service manager says that it runs."""
    if manager(env) == "launchd":
        _ask(("launchctl", "kickstart", "-k", f"{_domain()}/{name}"), env, RESTART_S)
    else:
        _ask(("systemctl", "--user", "restart", "--", name), env, RESTART_S)


def log_of(service: Service, lines: int, env: Mapping[str, str] = os.environ) -> str:
    """The newest lines of its log."""
    if service.log == "journal":
        command = (
            "journalctl",
            "--user",
            "--no-pager",
            "--output=short-iso",
            f"--lines={lines}",
            f"--unit={service.name}",
        )
        return _ask(command, env, ANSWER_S)
    if Path(service.log).is_absolute():
        return _ask(("tail", "-n", str(lines), "--", service.log), env, ANSWER_S)
    raise CosessionError(
        f"cannot show the log of {service.name}: its unit sends it to {service.log or 'nowhere'}; look there",
        code="not_found",
    )


def _units(patterns: Sequence[str], env: Mapping[str, str], timeout_s: float) -> list[Service]:
    wanted = [each for pattern in patterns for each in _spelled(pattern)]
    ask = ("systemctl", "--user", "--no-pager", "--no-legend")
    names: set[str] = set()
    for verb in ("list-units", "list-unit-files"):
        names |= set(systemd.names(_ask((*ask, "--all", "--output=json", verb, "--", *wanted), env, timeout_s)))
    # A template is no unit, and `show` refuses to tell of one.
    chosen = sorted(name for name in names if name and "@." not in name)[:SERVICES_MAX]
    if not any(each.endswith(".service") for each in chosen):
        return []
    shown = f"--property={','.join(systemd.PROPERTIES)}"
    units = systemd.blocks(_ask((*ask, "show", "--timestamp=unix", shown, "--", *chosen), env, timeout_s))
    times = systemd.next_times(_ask((*ask, "--all", "--output=json", "list-timers"), env, timeout_s))
    return systemd.services(units, times)


def _spelled(pattern: str) -> list[str]:
    """A pattern for units, and for those that start them: `a` is `a.service`, `a.timer`, `a.socket`, `a.path`."""
    stem = pattern.removesuffix(".service")
    return [f"{stem}.{kind}" for kind in ("service", "timer", "socket", "path")]


def _agents(patterns: Sequence[str], env: Mapping[str, str], timeout_s: float) -> list[Service]:
    plists = _plists(Path(env.get("HOME", "/")) / "Library/LaunchAgents")
    loaded = launchctl.labels(_ask(("launchctl", "list"), env, timeout_s))
    names = sorted(name for name in {*plists, *loaded} if any(fnmatch.fnmatchcase(name, each) for each in patterns))
    services = []
    for name in names[:SERVICES_MAX]:
        said = {}
        if name in loaded:
            said = launchctl.fields(_ask(("launchctl", "print", f"{_domain()}/{name}"), env, timeout_s))
        services.append(launchctl.service(name, _domain(), said, plists.get(name, {}), now=datetime.now().astimezone()))
    return services


def _plists(directory: Path) -> dict[str, dict[str, Any]]:
    """The property lists of the user's agents by label; the path of each stands under ""."""
    by_label: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*.plist")):
        try:
            with path.open("rb") as file:
                plist = plistlib.loads(file.read(_PLIST_BYTES_MAX))
        except (OSError, ValueError, plistlib.InvalidFileException, ExpatError):
            continue
        if isinstance(plist, dict) and isinstance(plist.get("Label"), str):
            by_label[plist["Label"]] = {**plist, "": str(path)}
    return by_label


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _ask(command: Sequence[str], env: Mapping[str, str], timeout_s: float) -> str:
    """What it answers. Raises TimedOut when nothing came in time, CosessionError with its own words when it refuses."""
    named = {**env, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "PAGER": "cat"}
    try:
        done = commands.run(command, timeout_s=timeout_s, env=named, directory="/")
    except TimedOut:
        raise TimedOut(
            f"cannot ask the service manager: `{' '.join(command[:3])}` gave no answer within {timeout_s:g} s; "
            "see whether it is at work at all, then try again"
        ) from None
    # Where nothing matches, `list-unit-files` ends with 1 and an empty list.
    if done.code == 0 or (not done.err.strip() and done.out.startswith("[")):
        return done.out
    said = (done.err.strip() or done.out.strip() or f"it ended with {done.code}").splitlines()[0]
    if "connect to bus" in said:
        raise CosessionError(
            f"cannot ask the service manager: none runs for this user ({said}); log in to a session of your own, or: "
            "loginctl enable-linger",
            code="unreachable",
        )
    raise CosessionError(f"cannot do `{' '.join(command[:3])}`: {said}; see to it by hand", code="io_error")
