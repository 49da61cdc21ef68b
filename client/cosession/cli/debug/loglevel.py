"""`cosession debug loglevel`: another log level for a while, without touching the configuration.

Rule: it falls back by itself; the default time is short.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEVELS = ("debug", "info", "warning", "error", "configured")
FOR_S = 300.0
FOR_S_MAX = 3_600.0


def run(given: Given) -> int:
    """Set or show the level."""
    level = given.words[0] if given.words else ""
    if level not in ("", *LEVELS):
        raise usage_error(given.verb, f"there is no level {level!r}, but {', '.join(LEVELS)}")
    params: dict[str, Any] = {"level": level, "for_s": given.number("--for", FOR_S, low=0.1, high=FOR_S_MAX)}
    reply = Line(given, spawn=False).ask("debug.loglevel", params)
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    back = f" for {render.span(reply['left_s'])}, then {reply['configured']}" if reply["left_s"] else ", as configured"
    render.line(f"{reply['level']}{back}")
    return 0


LOGLEVEL = Verb(
    "debug loglevel",
    "[debug|info|warning|error|configured]",
    run,
    summary="Show from which level on is logged, or change that for a while.",
    text="At `debug` every request is logged: its method, client, time and outcome, nothing of what it is about.\n"
    "`configured` goes back at once. For good: log.level of the configuration.",
    options=(Option("--for", "S", f"so many seconds (default {FOR_S:g}); then it is as configured"),),
    examples=(
        ("cosession debug loglevel debug --for 30", "every request for half a minute, see: cosession logs -f"),
        ("cosession debug loglevel", "what is in force"),
    ),
    words=(0, 1),
)
