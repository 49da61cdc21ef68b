"""`cosession debug trace`, and how the stages of one request are shown.

Rule: the stages are those of the daemon, as they were measured; the largest is the one to look at.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What each stage is, in the order in which they follow.
STAGES = (
    ("wait", "behind other calls, before it was looked at"),
    ("decide", "read, checked, decided"),
    ("queue", "until the store took it up"),
    ("commit", "applied and written, with its group"),
    ("fsync", "until the disk had it"),
    ("publish", "the loop heard of it: memory, watchers, its caller"),
    ("send", "encoded and sent"),
)
FOR_S = 60.0
FOR_S_MAX = 3_600.0
LIMIT = 20
LIMIT_MAX = 256


def run(given: Given) -> int:
    """Switch tracing on or off, or show what was traced."""
    word = given.words[0] if given.words else ""
    if word not in ("", "on", "off"):
        raise usage_error(given.verb, f"it takes on or off, not {word!r}")
    params: dict[str, Any] = {"limit": given.integer("--limit", LIMIT, low=1, high=LIMIT_MAX)}
    if word:
        params["on"] = word == "on"
    if word == "on":
        params["for_s"] = given.number("--for", FOR_S, low=0.1, high=FOR_S_MAX)
        params["slow_ms"] = given.number("--slow", 0.0)
    reply = Line(given, spawn=False).ask("debug.trace", params)
    if given.flag("--json"):
        render.json_line(reply)
    elif word == "on":
        over = f" over {reply['slow_ms']:g} ms" if reply["slow_ms"] else ""
        render.line(f"tracing requests{over} for {render.span(reply['left_s'])}; see them: cosession debug trace")
    elif word == "off":
        render.line(f"not tracing; {reply['seen']:,} were seen, see them: cosession debug trace")
    else:
        _show(reply)
    return 0


def _show(reply: dict[str, Any]) -> None:
    traces = reply["traces"]
    if not traces:
        what = "no request was traced yet" if reply["on"] else "tracing is off"
        render.note(f"{what}; do: cosession debug trace on")
        return
    rows = [
        (
            each["method"],
            str(each["client"]),
            f"{each['total_ms']:.3f}",
            *(f"{each[f'{name}_ms']:.3f}" for name, _ in STAGES),
            str(each["group"] or "-"),
            each["code"] or "ok",
        )
        for each in traces
    ]
    names = [name.upper() for name, _ in STAGES]
    render.table(("METHOD", "CLIENT", "MS", *names, "GROUP", "OUTCOME"), rows)


def explain(trace: dict[str, Any]) -> None:
    """One request, stage by stage."""
    total = trace["total_ms"] or 1e-9
    rows = [
        (name, f"{trace[f'{name}_ms']:.3f} ms", f"{trace[f'{name}_ms'] / total:.0%}", about) for name, about in STAGES
    ]
    render.table(("STAGE", "TOOK", "SHARE", "WHAT IT IS"), rows)
    group = f", committed in a group of {trace['group']}" if trace["group"] else ""
    unread = f", {render.size(trace['unsent_bytes'])} of it unread" if trace["unsent_bytes"] else ""
    render.line(f"{render.escape(trace['method'])} took {trace['total_ms']:.3f} ms{group}{unread}")


TRACE = Verb(
    "debug trace",
    "[on|off]",
    run,
    summary="Find out where the time of slow requests goes, stage by stage.",
    text="`on` switches it on for a while, for all clients; without a word it shows what was traced, newest first, in\n"
    "milliseconds. Of a request its method, session and outcome are kept, nothing of what it is about.\n\nstages:\n"
    + "\n".join(f"  {name:<9} {about}" for name, about in STAGES),
    options=(
        Option("--for", "S", f"so many seconds (default {FOR_S:g}); then it is off"),
        Option("--slow", "MS", "only those that take longer"),
        Option("--limit", "N", f"show so many (default {LIMIT})"),
    ),
    examples=(
        ("cosession debug trace on --slow 20 --for 300", "what takes over 20 ms, for five minutes"),
        ("cosession debug trace", "what was found"),
        ("cosession debug trace off", "enough; of one request of your own: cosession debug call ... --explain"),
    ),
    words=(0, 1),
)
