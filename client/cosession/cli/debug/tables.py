"""`cosession debug clients|watches|queues|locks|tasks`: one question and a table each.

Rule: what is shown is what was answered; nothing is added up here.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def clients(given: Given) -> int:
    """Who is connected."""
    reply = Line(given, spawn=False).ask("debug.clients", {})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    rows = [
        (
            f"{each['client']}{'*' if each['client'] == reply['client'] else ''}",
            str(each["pid"] or "-"),
            each["state"],
            render.span(each["age_s"]),
            f"{each['calls']:,}",
            f"{each['in_flight']:,}",
            render.size(each["unsent_bytes"]),
            f"{each['watches']:,}",
            _who(each),
        )
        for each in reply["clients"]
    ]
    render.table(("CLIENT", "PID", "STATE", "AGE", "CALLS", "OPEN", "UNREAD", "WATCHES", "WHO"), rows)
    return 0


def _who(each: dict[str, Any]) -> str:
    """What it said of itself, and whom it acts for."""
    said = " ".join(filter(None, (each["name"], each["version"], each["encoding"] and f"({each['encoding']})")))
    sessions = f" for {', '.join(each['sessions'])}" if each["sessions"] else ""
    return f"{said}{sessions}" or "-"


def watches(given: Given) -> int:
    """What is watched, and who lags."""
    client = given.integer("--client", 0)
    reply = Line(given, spawn=False).ask("debug.watches", {"client": client})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    if not reply["watches"]:
        render.note("nothing is watched")
        return 0
    rows = [
        (
            str(each["client"]),
            str(each["watch"]),
            each["state"],
            f"{each['behind']:,}",
            f"{each['space']} {each['project']} {each['prefix']}{'' if each['exact'] else '*'}",
        )
        for each in reply["watches"]
    ]
    render.table(("CLIENT", "WATCH", "STATE", "BEHIND", "WHAT"), rows)
    _more(reply)
    return 0


def queues(given: Given) -> int:
    """How full everything is."""
    reply = Line(given, spawn=False).ask("debug.queues", {})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    rows = [
        (
            each["name"],
            f"{each['used']:,}",
            f"{each['max']:,}" if each["max"] else "-",
            f"{each['used'] / each['max']:.1%}" if each["max"] else "-",
            render.size(each["bytes"]) if each["bytes"] else "-",
        )
        for each in reply["queues"]
    ]
    render.table(("QUEUE", "NOW", "MOST", "FULL", "HOLDS"), rows)
    return 0


def locks(given: Given) -> int:
    """What is held, and who waits."""
    reply = Line(given, spawn=False).ask("debug.locks", {})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    rows = [
        (
            each["kind"],
            each["holder"],
            render.span(each["held_s"]) if each["held_s"] else "-",
            f"{each['waiting']:,}",
            each["name"],
        )
        for each in reply["locks"]
    ]
    render.table(("LOCK", "HELD BY", "SINCE", "WAITING", "WHAT"), rows)
    _more(reply)
    return 0


def tasks(given: Given) -> int:
    """What threads and tasks are doing."""
    reply = Line(given, spawn=False).ask("debug.tasks", {})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    for each in reply["tasks"]:
        render.line(render.paint(render.escape(f"{each['kind']} {each['name']}"), "bold"))
        for place in each["stack"]:
            render.line(f"    {render.escape(place)}")
    _more(reply)
    return 0


def _more(reply: dict[str, Any]) -> None:
    if reply["more"]:
        render.note("there are more; these come first")


CLIENTS = Verb(
    "debug clients",
    "",
    clients,
    summary="Show who is connected: process, state, calls, what is open and unread.",
    text="The star is this command itself. STATE: reading, paused (it holds its share of memory), waiting (its calls\n"
    "take long, and others come first), tailing, leaving.",
    examples=(("cosession debug clients", "who is there"), ("cosession debug clients --json", '{"clients": [...]}')),
)
WATCHES = Verb(
    "debug watches",
    "",
    watches,
    summary="Show what is watched, by whom, and who is behind.",
    options=(Option("--client", "N", "of this connection only"),),
    examples=(
        ("cosession debug watches", "those furthest behind first"),
        ("cosession debug watches --client 7", "of one connection, by the number that `debug clients` shows"),
    ),
)
QUEUES = Verb(
    "debug queues",
    "",
    queues,
    summary="Show how full everything is that somebody may wait in.",
    examples=(("cosession debug queues", "in the order of the way of a request"),),
)
LOCKS = Verb(
    "debug locks",
    "",
    locks,
    summary="Show what is held, by whom, and how many wait.",
    text="The lock of the daemon, turns, a purge or a backup under way, connections that wait for a write of their\n"
    "own, and claims that somebody waits for (who holds those: cosession claims).",
    examples=(("cosession debug locks", "who holds up whom"),),
)
TASKS = Verb(
    "debug tasks",
    "",
    tasks,
    summary="Show what the threads and tasks of the daemon are doing, with their stacks.",
    text="The event loop is always found answering this question. A daemon that does not answer is looked at with\n"
    "`py-spy dump --pid PID` or `kill -ABRT PID`.",
    examples=(("cosession debug tasks", "where each thread is"),),
)
