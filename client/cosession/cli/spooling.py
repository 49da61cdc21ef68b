"""A write that goes into the spool where the socket cannot be reached: in a sandbox by itself, else with --spool.

It ends with 0, like a write that was done: it is durable, and the daemon takes it in. What a write otherwise says it
cannot say, since nothing was checked. Who needs to know asks for it (`--expect`, `--fence`), and such a write is not
spooled but fails, and so does everything that must be answered.

Rule: the first way is always the socket; the spool is for when nothing was sent.
"""

from __future__ import annotations

import os

from cosession.cli import render
from cosession.cli.options import Option
from cosession.errors import CosessionError, InvalidRequest, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession.cli.line import Line
    from cosession.cli.options import Given

SPOOL = Option("--spool", "", "where the daemon cannot be reached, leave it in the spool, unchecked")


def ask(given: Given, line: Line, method: str, params: dict[str, Any], *, members: str = "") -> dict[str, Any] | None:
    """The reply to a write; None where it was spooled, which is said then. Raises what `Line.ask` raises."""
    try:
        return line.ask(method, params, members=members)
    except Unreachable as error:
        unreachable = error
    from cosession.reach import sandbox_of

    sandbox = sandbox_of(os.environ)
    if given.flag("--socket") or not (sandbox or given.flag("--spool")):  # the spool is that of the usual daemon
        raise unreachable
    _spool(given, method, params, members, unreachable)
    return None


def _spool(given: Given, method: str, params: dict[str, Any], members: str, unreachable: Unreachable) -> None:
    from cosession import spool
    from cosession.cli.line import json_of

    session_token = os.environ.get("COSESSION_TOKEN", "")
    session = str(params.get("session", "")) if session_token else ""
    if not session:
        params = {name: value for name, value in params.items() if name != "session"}
    request_id = str(params["request_id"])
    try:
        path = spool.write(
            method, json_of(params, members), request_id=request_id, session=session, session_token=session_token
        )
    except InvalidRequest as error:
        raise Unreachable(
            f"{unreachable.message}; {error.message.replace('cannot spool', 'not spooled either:', 1)}",
            data=unreachable.data,
        ) from None
    except CosessionError as error:
        raise Unreachable(
            f"{unreachable.message}; nor could it be spooled: {error.message}",
            data={**unreachable.data, "spool": error.code},
        ) from None
    if given.flag("--json"):
        render.json_line(
            {"spooled": True, "checked": False, "file": path, "request_id": request_id, "session": session}
        )
    else:
        who = "" if session else ", as nobody's"
        render.note(f"spooled, not checked{who}: the daemon takes it in when it can ({path})")
