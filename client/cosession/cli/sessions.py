"""`cosession sessions` and `explain session`: who is at work, and why the daemon believes so.

Rule: prints the daemon's evidence word for word; nothing is judged here.
"""

from __future__ import annotations

from time import time

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.scope import project_of_command
from cosession.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The most that one `session.list` answers.
LIMIT_MAX = 1_000
#: Ids of namesakes in a note; --json has all.
OTHERS_SHOWN_MAX = 5
#: `model.LIVE_STATES`, which is not light.
LIVING = ("active", "idle", "suspect")
_STATE_STYLES = {"active": "green", "idle": "green", "suspect": "yellow", "crashed": "red", "lost": "red"}


def run(given: Given) -> int:
    """Print the sessions of every project, or of the one named."""
    named = given.flag("--project") or given.flag("--global")
    params = {
        "all": given.flag("--all"),
        "project": project_of_command(given) if named else "",
        "limit": given.integer("--limit", 200, low=1, high=LIMIT_MAX),
    }
    reply = Line(given).ask("session.list", params)
    if given.flag("--json"):
        render.json_line({"sessions": reply["sessions"], "more": reply["more"], "revision": reply["revision"]})
        return 0
    if not reply["sessions"]:
        render.line("no session" + ("" if given.flag("--all") else " is alive; ended ones: cosession sessions --all"))
        return 0
    now = time()
    rows = [
        (
            each["name"] or "-",
            each["state"],
            each["agent"] or "-",
            _pids(each),
            render.ago(each["registered_at"], now),
            each["project"],
            each["id"],
        )
        for each in reply["sessions"]
    ]
    render.table(("NAME", "STATE", "AGENT", "PID", "SINCE", "PROJECT", "ID"), rows)
    if reply["more"]:
        render.note(f"there are older ones: these are the newest {len(rows)} (--limit, at most {LIMIT_MAX:,})")
    return 0


def run_explain(given: Given) -> int:
    """Print each layer of the cascade, the verdict and the rule."""
    reply, others = _explained(Line(given), given.words[0])
    if given.flag("--json"):
        render.json_line({**reply, "others": others})
        return 0
    _print_explained(reply)
    if others:
        shown = ", ".join(others[:OTHERS_SHOWN_MAX]) + (", ..." if len(others) > OTHERS_SHOWN_MAX else "")
        render.note(f"this is the newest of {len(others) + 1} ended sessions of that name; the others: {shown}")
    return 0


def _explained(line: Line, text: str) -> tuple[dict[str, Any], list[str]]:
    """The explanation of the session with this id or name, and the ids of the others it could have been.

    A name is a label, so several may have it. The daemon finds the only living one; of ended ones the newest is meant.
    """
    try:
        return line.ask("session.explain", {"session": text}), []
    except InvalidRequest as ambiguous:
        if "sessions" not in ambiguous.data:
            raise
        found = line.ask("session.list", {"all": True, "limit": LIMIT_MAX})["sessions"]
        named = [each for each in found if each["name"] == text]
        if not named or any(each["state"] in LIVING for each in named):
            raise  # several are alive, or they are too old to be listed: the refusal names some ids
    newest, *others = sorted(named, key=lambda each: (each["changed_at"], each["id"]), reverse=True)
    return line.ask("session.explain", {"session": newest["id"]}), [each["id"] for each in others]


def _print_explained(reply: dict[str, Any]) -> None:
    session, now = reply["session"], time()
    state = render.paint(render.escape(session["state"]), _STATE_STYLES.get(session["state"], "dim"))
    name = render.escape(session["name"]) or "(no name)"
    render.line(f"session {render.paint(name, 'bold')}  {render.escape(session['id'])}  {state}")
    facts = [
        f"registered {render.ago(session['registered_at'], now)}",
        f"changed {render.ago(session['changed_at'], now)}",
    ]
    if reply["silent_s"]:
        facts.append(f"silent for {render.span(reply['silent_s'])}")
    if session.get("drilled"):
        facts.append("its crash was a drill")
    if session["detected_ms"]:
        facts.append(f"its end was noticed after {session['detected_ms']:.1f} ms")
    if reply.get("cost_ms"):
        facts.append(f"judged in {reply['cost_ms']:.2f} ms")
    render.line("  " + ", ".join(facts))
    render.line()
    rows = [(each["layer"], each["signal"], f"{each['cost_ms']:.2f} ms", each["evidence"]) for each in reply["layers"]]
    render.table(("LAYER", "SIGNAL", "COST", "EVIDENCE"), rows)
    render.line()
    verdict = ", ".join(filter(None, (reply["liveness"], reply["ending"], reply["recoverability"])))
    render.line(f"verdict  {render.escape(verdict)}")
    render.line(f"rule     {render.escape(reply['rule'])}")
    for index, each in enumerate(session["evidence"]):
        render.line(f"{'evidence' if not index else '':<8} {render.escape(each)}")


def _pids(session: dict[str, Any]) -> str:
    return ",".join(str(each["pid"]) for each in session["instances"]) or "-"


SESSIONS = Verb(
    "sessions",
    "",
    run,
    summary="List the sessions that are alive, newest first, of every project unless one is named.",
    options=(
        Option("--all", "", "also those that have ended"),
        Option("--limit", "N", "the newest N, at most 1000 (default 200)"),
    ),
    examples=(
        ("cosession sessions", "who is at work on this machine"),
        ("cosession sessions --all --json", '{"sessions": [...]}, with the ended ones'),
    ),
)

EXPLAIN = Verb(
    "explain session",
    "ID",
    run_explain,
    summary="Show why a session counts as alive or dead: every signal, what it cost, the verdict and the rule.",
    text="ID is a session's id, or a name: of the one living session that has it, else of the one that ended last.",
    examples=(
        ("cosession explain session otter", "by name"),
        ("cosession explain session 01JD3K6M0Q4V9B8Z6W2Y5T7R1P --json", "by id, for programs"),
    ),
    words=(1, 1),
)
