"""`cosession claim`, `release`, `claims`, `why-not`, `explain claim`: who may change what, and why not.

Rule: paths are resolved here, where the caller stands; who is in the way is said in the daemon's words.
"""

from __future__ import annotations

from time import time

from cosession import retries
from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.scope import project_of_command, session_of_command
from cosession.targets import PREFIXES, Place, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: `messages.limits.CLAIM_WAIT_S_MAX` and CLAIM_TTL_S_MAX, which are not light.
WAIT_S_MAX = 3_600.0
TTL_S_MAX = 7 * 24 * 3600.0
LIMIT_MAX = 1_000
#: `errors.CATALOGUE["claimed"]`: what `why-not` ends with when something is in the way.
IN_THE_WAY = 3
_STYLES = {"held": "green", "orphaned": "yellow", "waits": "dim"}


def run_claim(given: Given) -> int:
    """Claim the targets and print the fencing token."""
    wait_s = given.number("--wait", 0.0, high=WAIT_S_MAX)
    ttl_s = given.number("--ttl", 0.0, low=1.0, high=TTL_S_MAX)
    params = {
        **_wanted(given),
        "purpose": given.text("--for"),
        "hold": "process" if given.flag("--process") else "activity",
        "wait_s": wait_s,
    }
    if ttl_s:
        params |= {"ttl_s": ttl_s, "idle_hold_s": 0.0}
    line = Line(given, timeout_s=given.timeout_s() + wait_s)
    reply = line.ask("claim.acquire", params, kind=retries.REPEATABLE)
    claim = reply["claim"]
    if given.flag("--json"):
        about = {name: reply[name] for name in ("renewed", "waited_s", "revision")}
        render.json_line({**claim, **about})
        return 0
    render.line(str(claim["token"]))
    how = "renewed" if reply["renewed"] else "claimed"
    what = ", ".join(claim["targets"])
    render.note(
        f"{how} {render.escape(what)}: {_left(claim)}; write with: cosession put KEY VALUE --fence {claim['token']}"
    )
    return 0


def run_release(given: Given) -> int:
    """Release claims by id, by token, by target, or all of the session."""
    line = Line(given)
    session = session_of_command(given)
    if given.flag("--all") == bool(given.words):
        raise usage_error(given.verb, "it takes what to release, or --all")
    params: dict[str, Any] = {"session": session} if session else {}
    if given.flag("--all"):
        params["all"] = True
    else:
        params |= {"ids": _ids(given, line), "force": given.flag("--force")}
    reply = line.ask("claim.release", params, kind=retries.REPEATABLE)
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    for id in reply["released"]:
        render.line(id)
    if not reply["released"]:
        render.note("there was nothing to release; see: cosession claims")
    return 0


def run_claims(given: Given) -> int:
    """Print the claims of the project, or of all."""
    everywhere = given.flag("--all")
    params = {
        "project": "" if everywhere else project_of_command(given),
        "session": session_of_command(given) if given.flag("--session") else "",
        "limit": given.integer("--limit", 200, low=1, high=LIMIT_MAX),
    }
    reply = Line(given).ask("claim.list", params)
    if given.flag("--json"):
        claims = [_flat(each) for each in reply["claims"]]
        render.json_line({"claims": claims, "more": reply["more"], "revision": reply["revision"]})
        return 0
    if not reply["claims"]:
        where = "nothing is claimed" if everywhere else "nothing is claimed here; elsewhere: cosession claims --all"
        render.line(where)
        return 0
    _table(reply["claims"], everywhere=everywhere)
    if reply["more"]:
        render.note(f"there are more: these are the first {len(reply['claims'])} (--limit, at most {LIMIT_MAX:,})")
    return 0


def run_why_not(given: Given) -> int:
    """Say what is in the way of a claim, and what was denied before; exit 3 when something is in the way."""
    reply = Line(given).ask("session.why_not", _wanted(given))
    if given.flag("--json"):
        render.json_line(reply)
    elif reply["free"]:
        render.line("nothing is in the way")
    else:
        for each in reply["blockers"]:
            _print_blocker(each)
        if reply["count"] > len(reply["blockers"]):
            render.note(f"and {reply['count'] - len(reply['blockers'])} more")
        render.note(reply["remedy"])
    if not given.flag("--json"):
        _print_denials(reply["denials"])
    return 0 if reply["free"] else IN_THE_WAY


def run_explain(given: Given) -> int:
    """Print a claim, the rules that hold for it, and who waits."""
    reply = Line(given).ask("claim.explain", {"claim": given.words[0]})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    standing = reply["standing"]
    claim = standing["claim"]
    state = render.paint(claim["state"], _STYLES.get(claim["state"], "dim"))
    render.line(f"claim {claim['id']}  {state}")
    facts = [
        ("holder", _holder(standing)),
        ("session", claim["session"]),
        ("targets", ", ".join(claim["targets"]) + (" (shared)" if claim["shared"] else "")),
        ("worktree", claim["worktree"]),
        ("project", claim["project"]),
        ("purpose", claim["purpose"]),
        ("granted", render.ago(claim["granted_at"], time())),
    ]
    for name, text in facts:
        if text:
            render.line(f"  {name:<9} {render.escape(text)}")
    for text in reply["lines"]:
        render.line(f"  - {render.escape(text)}")
    for each in reply["waiters"]:
        render.line(f"  waits: {render.escape(_holder(each))}, for {render.span(each['waits_s'])}")
    return 0


def _wanted(given: Given) -> dict[str, Any]:
    targets, worktree = resolve(given.words)
    params: dict[str, Any] = {
        "targets": targets,
        "worktree": worktree,
        "project": project_of_command(given),
        "shared": given.flag("--shared"),
    }
    session = session_of_command(given)
    return {**params, "session": session} if session else params


def _ids(given: Given, line: Line) -> list[str]:
    """The ids of the claims that the words name: each an id, a token, or a target of a claim that stands."""
    found = line.ask("claim.list", {"limit": LIMIT_MAX})["claims"]
    standing = [each["claim"] for each in found if each["waits_s"] < 0]
    by_name = {name: each["id"] for each in standing for name in (each["id"], str(each["token"]))}
    place = Place()
    ids: list[str] = []
    for word in given.words:
        if word in by_name:
            ids.append(by_name[word])
            continue
        if word.isdigit() or not ("/" in word or "." in word or word.startswith(PREFIXES) or _exists(word)):
            ids.append(word)  # an id that no longer stands, which is fine
            continue
        target = place.target(word)
        ids += [each["id"] for each in standing if target in each["targets"] and _is_here(each, target, place)] or [
            word
        ]
    return list(dict.fromkeys(ids))


def _exists(word: str) -> bool:
    import os

    return os.path.lexists(word)


def _is_here(claim: dict[str, Any], target: str, place: Place) -> bool:
    return not target.startswith("path:") or claim["worktree"] == place.worktree


def _table(claims: list[dict[str, Any]], *, everywhere: bool) -> None:
    head = ["WHAT", "STATE", "HOLDER", "LEFT", "QUEUE", "PURPOSE", "TOKEN", "ID"]
    rows = []
    for each in claims:
        claim = each["claim"]
        what = claim["targets"][0] + (f" +{len(claim['targets']) - 1}" if len(claim["targets"]) > 1 else "")
        waits = each["waits_s"] >= 0
        row = [
            what + (" (shared)" if claim["shared"] else ""),
            "waits" if waits else claim["state"],
            _holder(each),
            render.span(each["waits_s"]) + " waited" if waits else _left(claim),
            str(each["waiting"]) if each["waiting"] else "-",
            claim["purpose"] or "-",
            str(claim["token"]) if claim["token"] else "-",
            claim["id"],
        ]
        rows.append([claim["project"], *row] if everywhere else row)
    render.table(["PROJECT", *head] if everywhere else head, rows)


def _print_blocker(blocker: dict[str, Any]) -> None:
    claim = blocker["claim"]
    verb = "waits ahead for" if blocker["waiting"] else "left" if claim["state"] == "orphaned" else "holds"
    pairs = blocker["overlaps"] or [["", claim["targets"][0]]]
    render.line(f"{render.escape(_holder(blocker))} {verb} {render.escape(pairs[0][1])}")
    for wanted, other in pairs:
        if wanted:
            render.line(f"  {render.escape(wanted)} overlaps {render.escape(other)}")
    if claim["purpose"]:
        render.line(f"  for: {render.escape(claim['purpose'])}")
    if not blocker["waiting"]:
        render.line(f"  {_left(claim)}, {blocker['ahead']} waiting; see: cosession explain claim {claim['id']}")


def _print_denials(denials: list[dict[str, Any]]) -> None:
    now = time()
    for each in denials:
        facts = each["facts"]
        who = f" by {facts['holder']}" if facts.get("holder") else ""
        held_back = facts.get("suppressed", 0)
        more = f" (and {held_back} more before it)" if held_back else ""
        what = " ".join(filter(None, (each["operation"], each["subject"])))
        text = f"denied {render.ago(each['time'], now)}: {what}: {each['outcome']}{who}; asked by"
        render.line(render.escape(f"{text} {each['session'] or 'nobody'}{more}"))


def _holder(each: dict[str, Any]) -> str:
    about = ", ".join(filter(None, (each["agent"], each["session_state"])))
    name = each["name"] or each["claim"]["session"]
    return f"{name} ({about})" if about else str(name)


def _left(claim: dict[str, Any]) -> str:
    return "until its session ends" if claim["expires_in_s"] < 0 else f"{render.span(claim['expires_in_s'])} left"


def _flat(each: dict[str, Any]) -> dict[str, Any]:
    return {**each["claim"], **{name: value for name, value in each.items() if name != "claim"}}


_SHARED = Option("--shared", "", "beside other shared claims")
_TARGETS = """
TARGET is a path or glob (a directory: all below it), name:X for a name of the project, machine:X for one of the
machine. Quote globs, so that they stay globs.
"""

CLAIM = Verb(
    "claim",
    "TARGET ...",
    run_claim,
    summary="Claim files, globs or names for the session that runs this, and print the fencing token.",
    text=_TARGETS,
    options=(
        Option("--for", "TEXT", "what for; others are shown it"),
        Option("--wait", "SECONDS", "wait for others, in the order of asking"),
        Option("--ttl", "SECONDS", "ends so long after the last activity (default 1800)"),
        Option("--process", "", "ends with the session, not by time"),
        _SHARED,
    ),
    examples=(
        ("cosession claim src/parser.py --for 'rewrite of the parser'", "one file"),
        ("cosession claim 'src/**' name:migration --wait 60", "a tree and a name, together"),
        (
            "cosession put build/state '\"running\"' --fence $(cosession claim name:build)",
            "a write that only counts while claimed",
        ),
    ),
    words=(1, 64),
)

RELEASE = Verb(
    "release",
    "TARGET|CLAIM ...",
    run_release,
    summary="Release claims of the session that runs this, by target, id or token.",
    options=(
        Option("--all", "", "all claims of the session"),
        Option("--force", "", "also of another session; written into the audit"),
    ),
    examples=(
        ("cosession release src/parser.py", "by target"),
        ("cosession release --all", "everything this session holds"),
    ),
    words=(0, 64),
)

CLAIMS = Verb(
    "claims",
    "",
    run_claims,
    summary="List who holds what in this project, for what, how long still, and who waits.",
    options=(
        Option("--all", "", "of every project"),
        Option("--limit", "N", "the first N, at most 1000 (default 200)"),
    ),
    examples=(
        ("cosession claims", "of this project"),
        ("cosession claims --all --json", '{"claims": [...]}'),
    ),
)

WHY_NOT = Verb(
    "why-not",
    "TARGET ...",
    run_why_not,
    summary="Say why a claim is denied, now and before; exit 0 when nothing is in the way, 3 when something is.",
    text=_TARGETS,
    options=(_SHARED,),
    examples=(
        ("cosession why-not src/parser.py", "who holds it, for what, how long still, and what to do"),
        ("cosession why-not name:migration --json", '{"free": ..., "blockers": [...], "denials": [...]}'),
    ),
    words=(1, 64),
)

EXPLAIN = Verb(
    "explain claim",
    "CLAIM",
    run_explain,
    summary="Show why a claim stands, when it ends, and who waits for it.",
    text="CLAIM is the id of a claim or its fencing token; see `cosession claims`.",
    examples=(("cosession explain claim 4711", "by its fencing token"),),
    words=(1, 1),
)
