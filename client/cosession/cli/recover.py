"""`cosession recover`: take over from a session that died, or see what there would be to take over.

Rule: the daemon decides; commits and files are compared here, and all of it is written down where it can be read.
"""

from __future__ import annotations

from cosession import paths, retries
from cosession.cli import checkpoints, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.scope import project_of_command, session_of_command
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: So many sessions are looked at for --all.
ALL_MAX = 50
LISTED_MAX = 1_000
_RECOVERABLE = ("crashed", "lost")


def run(given: Given) -> int:
    """Recover one session, or show the plans for all."""
    if given.flag("--all") == bool(given.words):
        raise usage_error(given.verb, "it takes a session, or --all with --plan")
    if given.flag("--all"):
        if not given.flag("--plan"):
            raise usage_error(given.verb, "--all goes with --plan; recover one at a time")
        return _plans(given)
    params: dict[str, Any] = {"session": given.words[0], "plan": given.flag("--plan")}
    session = session_of_command(given)
    if session and not params["plan"]:
        params["by"] = session
    if given.flag("--ephemeral"):
        params["ephemeral"] = True
    reply = Line(given).ask("session.recover", params, kind=retries.REPEATABLE)
    from cosession import recovering

    staleness = recovering.stale(reply["checkpoint"])
    document = ""
    if reply["by"] is not None:
        try:
            document = recovering.write(
                paths.state_directory(), reply["session"]["id"], recovering.document(reply, staleness)
            )
        except OSError as error:
            render.note(f"the recovery is not written down: {error.strerror}")
    if given.flag("--json"):
        render.json_line({**reply, "stale": staleness, "document": document})
        return 0
    _show(reply, staleness)
    if document:
        render.line(f"written to {render.escape(document)}")
    return 0


def _plans(given: Given) -> int:
    """What could be recovered, in every project or the one that is named."""
    line = Line(given)
    named = given.flag("--project") or given.flag("--global")
    params = {"all": True, "project": project_of_command(given) if named else "", "limit": LISTED_MAX}
    sessions = line.ask("session.list", params)["sessions"]
    dead = [each for each in sessions if each["state"] in _RECOVERABLE and not each["recovered_by"]]
    plans = []
    for each in dead[:ALL_MAX]:
        line.again()
        try:
            plans.append(line.ask("session.recover", {"session": each["id"], "plan": True}))
        except CosessionError as error:
            if error.code not in ("not_found", "not_allowed"):
                raise  # else it came back, or was recovered, meanwhile
    if given.flag("--json"):
        render.json_line({"recoveries": plans, "more": len(dead) > ALL_MAX})
        return 0
    if not plans:
        render.line("nothing to recover: no session crashed, or all were recovered")
        return 0
    rows = [
        (
            each["session"]["name"] or "-",
            each["session"]["state"],
            each["standing"],
            str(len(each["claims"])),
            str(each["letters"]),
            _offer(each["offer"]),
            (each["checkpoint"] or {}).get("task") or "-",
            each["session"]["id"],
        )
        for each in plans
    ]
    render.table(("NAME", "STATE", "CHECKPOINT", "CLAIMS", "LETTERS", "OFFER", "TASK", "ID"), rows)
    if len(dead) > ALL_MAX:
        render.note(f"there are {len(dead) - ALL_MAX} more")
    return 0


def _offer(offer: dict[str, Any]) -> str:
    if offer["state"] == "open":
        return "open"
    return f"{offer['state']}, {render.span(offer['wait_s'])}"


def _show(reply: dict[str, Any], staleness: dict[str, Any]) -> None:
    dead, heir = reply["session"], reply["by"]
    how = f"recovered by {heir['name'] or heir['id']}" if heir else "a plan, nothing was changed"
    render.line(f"session {render.escape(dead['name'] or dead['id'])} ({dead['state']}): {render.escape(how)}")
    checkpoints.show(reply)
    for name in ("head", "branch"):
        if staleness[name]:
            was, found = (each or "-" for each in staleness[name])
            render.line(f"  {'stale':<8} {name} was {render.escape(was[:40])}, is {render.escape(found[:40])}")
    for each in staleness["files"]:
        by = f", by {each['by']}" if each["by"] else ""
        render.line(f"  {'stale':<8} {render.escape(each['path'])}: {render.escape(each['why'] + by)}")
    for each in reply["changes"]:
        by = each["name"] or each["session"] or "nobody in particular"
        render.line(f"  {'stale':<8} entry {render.escape(each['key'])}: {each['kind']} by {render.escape(by)}")
    for each in reply["later"]:
        render.line(f"  {'later':<8} entry {render.escape(each['key'])}: {each['kind']} by itself")
    for each in reply["claims"]:
        render.line(f"  {'claim':<8} {render.escape(', '.join(each['targets']))}, token {each['token']}")
    for each in reply["lost"]:
        render.line(f"  {'lost':<8} {render.escape(', '.join(each['targets']) + ': ' + each['why'])}")
    for each in reply["ephemeral"]:
        render.line(f"  {'entry':<8} {render.escape(each['key'])}: {each['state']}")
    render.line(f"  {'letters':<8} {reply['letters']} unread")
    offer = reply["offer"]
    if offer["state"] == "loop":
        render.note(f"this work crashed {offer['crashes']} times within an hour: find out why before it goes on")
    if staleness["note"]:
        render.note(render.escape(staleness["note"]))


RECOVER = Verb(
    "recover",
    "SESSION",
    run,
    summary="Take over from a session that crashed: its checkpoint, the claims it left, its letters.",
    text="""
One session takes over: the one that runs this, or --session. The others are told who did. It says what went stale since
the checkpoint, and writes all of it down in the state directory. Nothing is ever recovered by itself.
""",
    options=(
        Option("--plan", "", "only say what there is to take over"),
        Option("--all", "", "with --plan: every session that can be recovered, after a reboot say"),
        Option("--ephemeral", "", "put back the last values of its ephemeral entries"),
    ),
    examples=(
        ("cosession recover otter --plan", "what there is to take over"),
        ("cosession recover otter", "take over"),
        ("cosession recover --all --plan", "after the machine was switched off"),
    ),
    words=(0, 1),
)
