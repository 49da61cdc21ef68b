"""What a command is about and for whom: the project it works in, the session it acts for.

Rule: on the fast path; the environment and the working directory decide unless an option says otherwise.
"""

from __future__ import annotations

import os

from cosession import project
from cosession.cli.line import request_id
from cosession.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession.cli.options import Given


def project_of_command(given: Given) -> str:
    """The project: `--global`, `--project`, `$COSESSION_PROJECT`, else that of the working directory.

    `--project` takes a project's name, or a path (anything with a slash, or `.`), which stands for the project there.
    """
    if given.flag("--global"):
        return project.GLOBAL
    named = given.text("--project")
    if not given.flag("--project"):
        return project.project_of(".")
    if "/" not in named and named not in (".", ".."):
        if not named:
            raise InvalidRequest("cannot use the project '': it has no name; do: name it, or use --global")
        return named
    found = project.project_of(named, {}) if os.path.isdir(named) else ""  # noqa: PTH112 (pathlib is not light)
    if found == project.GLOBAL:
        raise InvalidRequest(f"cannot use the project {named!r}: that directory is in no git repository; use --global")
    return found or named


def session_of_command(given: Given) -> str:
    """The session to act for: `--session`, `$COSESSION_SESSION`, else "" (the daemon finds the caller's)."""
    return given.text("--session") or os.environ.get("COSESSION_SESSION", "")


def write_params(given: Given) -> dict[str, Any]:
    """The parameters that every write has."""
    params: dict[str, Any] = {"project": project_of_command(given), "request_id": request_id()}
    session = session_of_command(given)
    return {**params, "session": session} if session else params
