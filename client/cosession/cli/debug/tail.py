"""`cosession debug tail`: the frames of the socket as they pass, of all clients or one, decoded, values hidden.

Rule: it asks again and again, each time with a deadline, and shows what came; what it could not keep up with is said.
Whoever pauses it for a minute is cut by the daemon, which goes on as if nobody looked.
"""

from __future__ import annotations

import sys
import time

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: How long one question waits in the daemon.
WAIT_S = 5.0
FOR_S_MAX = 86_400.0
#: What every filter of the daemon is called here.
FILTERS = (
    Option("--client", "N", "of this connection only, by the number that `debug clients` shows"),
    Option("--pid", "PID", "of this process only"),
    Option("--method", "NAME", "of methods that begin so"),
)
_MARKS = {"client": ">", "daemon": "<"}


def run(given: Given) -> int:
    """Show frames until Ctrl-C, or until --count or --for is reached."""
    count = given.integer("--count", 0)
    errors_only = given.flag("--errors")
    as_json = given.flag("--json")
    shown = 0
    try:
        for reply in replies(given, values=given.flag("--values")):
            if reply["lost"]:
                render.note(f"{reply['lost']:,} frames passed too fast to be shown")
            for frame in reply["frames"]:
                if errors_only and frame["kind"] not in ("error", "unreadable"):
                    continue
                render.line(render.json_text(frame) if as_json else text(frame))
                shown += 1
                if shown == count:
                    return 0
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    return 0


def replies(given: Given, *, values: bool, for_s: float = 0.0, wait_s: float = 0.0) -> Iterator[dict[str, Any]]:
    """Every answer, the first (empty) one included, until the time is over: that of --for, `for_s`, or never. Each
    question waits `wait_s` at most.
    """
    for_s = given.number("--for", for_s, low=0.0, high=FOR_S_MAX)
    until_s = time.monotonic() + for_s if for_s else 0.0
    wait_s = min(wait_s or WAIT_S, given.timeout_s() / 2)
    params = {
        "client": given.integer("--client", 0),
        "pid": given.integer("--pid", 0),
        "methods": given.text("--method"),
        "values": values,
    }
    if params["client"] and params["pid"]:
        raise usage_error(given.verb, "--client and --pid exclude one another")
    line = Line(given, spawn=False)
    yield line.ask("debug.tail", params)
    while True:
        left_s = until_s - time.monotonic() if until_s else wait_s
        if left_s <= 0:
            return
        line.again()
        reply = line.ask("debug.tail", {**params, "wait_s": min(wait_s, left_s)})
        if reply["began"]:
            render.note(
                "the daemon was away, or has cut this tail, which did not ask for too long; it goes on from here"
            )
        yield reply


def text(frame: dict[str, Any]) -> str:
    """A frame on one line, as wide as the terminal."""
    at = time.strftime("%H:%M:%S", time.localtime(frame["time"])) + f".{int(frame['time'] * 1000) % 1000:03}"
    who = f"#{frame['client']}" + (f" {frame['pid']}" if frame["pid"] else "")
    id_ = "" if frame["id"] is None else f" {render.brief(frame['id'])}"
    head = f"{at}  {who:<12} {_MARKS[frame['by']]} {frame['kind']}{id_} {render.escape(frame['method'])}".rstrip()
    took = f"  {frame['took_ms']:.1f} ms" if frame["took_ms"] else ""
    said = f"  ({render.size(frame['size'])}, left out)" if frame["left_out"] else f"  {_said(frame['body'])}"
    return render.cut(f"{head}{took}{said}", render.terminal_width())


def _said(body: Any) -> str:
    """Parameters and members as name=value; what else there is as it is."""
    if not isinstance(body, dict):
        return str(render.brief(body))
    return " ".join(f"{render.escape(name)}={render.brief(value)}" for name, value in body.items())


TAIL = Verb(
    "debug tail",
    "",
    run,
    summary="Show the traffic of the daemon's socket, live and decoded, in both encodings.",
    text="A line for each frame: when, which client and process, > from the client or < from the daemon, what it is,\n"
    "how long the answer took, what it says. Values are hidden (<string, 12>) unless --values; session tokens always.\n"
    "Connections that tail are not shown. It never holds up anybody: what it cannot keep up with is left out and\n"
    "counted. Ctrl-C ends it.",
    options=(
        *FILTERS,
        Option("--errors", "", "errors and what cannot be read only"),
        Option("--values", "", "show values, patches and letters as well"),
        Option("--count", "N", "end after N frames"),
        Option("--for", "S", "end after so many seconds"),
    ),
    examples=(
        ("cosession debug tail", "everything that passes"),
        ("cosession debug tail --errors --json", "what goes wrong, a JSON object on each line"),
        ("cosession debug tail --client 7 --method put --values", "what one client writes"),
    ),
)
