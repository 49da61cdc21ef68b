"""The check of the configuration: is the file right, what does it set and where, does the daemon go by it.

Rule: it is read and judged by `cosession.configfile`, as the daemon does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cosession import paths
from cosession.config import values
from cosession.configfile import origins, parse, read
from cosession.doctor.engine import OK, WARNING, Ground, Seen

#: So many keys are named.
_SHOWN_MAX: Final = 5


def config(ground: Ground) -> Seen:
    """Every key that is set, with the line it comes from. Raises ConfigError, which says line and key."""
    path = Path(paths.config_file(ground.env))
    text = read(path)
    told: list[str] = []
    if text is not None:
        found = values(parse(text, path))
        where = origins(text, path)
        told = [f"{key} = {found[key]} ({place.removeprefix(f'{path}:')})" for key, place in where.items()]
    variable = paths.config_origin(ground.env)
    by = f" (by {variable})" if variable else ""
    if text is None:
        evidence = f"there is no {path}{by}, so the defaults hold"
    else:
        more = f" and {len(told) - _SHOWN_MAX} more" if len(told) > _SHOWN_MAX else ""
        sets = f"sets, by line: {', '.join(told[:_SHOWN_MAX])}{more}" if told else "sets nothing"
        evidence = f"{path}{by} {sets}"
    return _beside(ground, evidence, str(path))


def _beside(ground: Ground, evidence: str, path: str) -> Seen:
    """What the running daemon has to say about it."""
    status = ground.status or {}
    if status.get("config_error"):
        return Seen(
            WARNING, f"{evidence}; the daemon could not use it: {status['config_error']}", "see: cosession config check"
        )
    if status.get("config_file", path) != path:
        return Seen(
            WARNING,
            f"{evidence}; the daemon reads another, {status['config_file']}",
            "start both with the same COSESSION_HOME and XDG_CONFIG_HOME: cosession restart",
        )
    if status.get("restart_needed"):
        keys = ", ".join(status["restart_needed"])
        return Seen(WARNING, f"{evidence}; changed at a restart only: {keys}", "do: cosession restart")
    return Seen(OK, evidence)
