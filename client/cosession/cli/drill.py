"""`cosession simulate crash`: what a crash would do, played on a session that allows it.

Rule: the daemon does it; here is said what became of it, and what to look at.
"""

from __future__ import annotations

from cosession import retries
from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Verb


def run(given: Given) -> int:
    """Simulate the crash and print the verdict."""
    reply = Line(given).ask("session.simulate_crash", {"session": given.words[0]}, kind=retries.ONCE)
    session = reply["session"]
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    name = render.escape(session["name"] or session["id"])
    render.line(f"session {name} counts as {session['state']}, for a drill; its process was not touched")
    render.line(f"  rule: {render.escape(session['reason'])}")
    render.note(f"see: cosession explain session {render.escape(session['id'])}; cosession claims --all")
    return 0


SIMULATE_CRASH = Verb(
    "simulate crash",
    "ID",
    run,
    summary="End a session as if it had crashed, for a drill; its process is not touched.",
    text=(
        "ID is a session's id, or a name that only one has. It must allow drills: client.session(drills=True). Its\n"
        "ephemeral entries expire, its claims are left to whoever recovers it, watchers are told, and record, audit\n"
        "and explanation call it a drill. The program is told that its session has ended, and may register it again."
    ),
    examples=(
        ("cosession simulate crash otter", "by name"),
        ("cosession simulate crash otter --json", "the record as it ended"),
    ),
    words=(1, 1),
)
