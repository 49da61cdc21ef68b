"""`cosession backup now|list|verify`: have one made, see what there is, read it from end to end.

Rule: on the fast path. The daemon does the work; here it is asked how far it is, again and again, for the bar.
"""

from __future__ import annotations

from time import monotonic, time

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.progress import Progress
from cosession.errors import CosessionError, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How long it may take, unless the user says: a gigabyte takes a minute on a slow disk.
MAKE_S = 900.0
#: Seconds between two looks at how far it is.
LOOK_S = 0.2
DAMAGED = 70
_DOING = {"waiting": "waiting for another backup", "copying": "copying", "proving": "verifying", "over": "done"}


def run_now(given: Given) -> int:
    """Print what was made; exit 0 when it is verified and in its place."""
    line = Line(given, timeout_s=given.timeout_s() if given.flag("--timeout") else MAKE_S)
    reply = _followed(given, line, "backup.now", {}, "backing up")
    backup = reply["backup"]
    if given.flag("--json"):
        render.json_line({"backup": backup, "revision": reply["revision"]})
        return 0
    size = render.size(backup["size_bytes"])
    render.line(f"{backup['name']}: {backup['entries']:,} entries at revision {backup['revision']}, {size}")
    return 0


def run_list(given: Given) -> int:
    """Print a table; exit 1 when there is none that can be used."""
    reply = Line(given).ask("backup.list", {})
    backups = reply["backups"]
    if given.flag("--json"):
        render.json_line({"backups": backups, "directory": reply["directory"], "revision": reply["revision"]})
    elif not backups:
        render.line("no backup yet; to make one: cosession backup now")
    else:
        now = time()
        rows = [
            (
                each["name"],
                each["state"],
                str(each["revision"] or "-"),
                render.ago(each["time"], now) if each["time"] else "-",
                f"{each['entries']:,}" if each["time"] else "-",
                render.size(each["size_bytes"]),
                each["reason"] or "-",
            )
            for each in backups
        ]
        render.table(("NAME", "STATE", "REVISION", "AGE", "ENTRIES", "SIZE", "REASON"), rows)
    return 0 if any(each["state"] == "valid" for each in backups) else 1


def run_verify(given: Given) -> int:
    """Print what came of each; exit 70 when one is damaged."""
    line = Line(given, timeout_s=given.timeout_s() if given.flag("--timeout") else MAKE_S)
    known = [each["name"] for each in line.ask("backup.list", {})["backups"]]
    names = list(given.words) or (known if given.flag("--all") else known[:1])
    if not names:
        raise CosessionError("cannot verify: there is no backup; make one: cosession backup now", code="not_found")
    found = []
    for name in names:
        reply = _followed(given, line, "backup.verify", {"name": name}, name)
        found.append({"name": reply["name"], "wrong": reply["wrong"]})
    if given.flag("--json"):
        render.json_line({"backups": found})
    else:
        for each in found:
            wrong = render.escape(each["wrong"])
            render.line(f"{each['name']}: {f'damaged: {wrong}' if wrong else 'whole'}")
    return DAMAGED if any(each["wrong"] for each in found) else 0


def _followed(given: Given, line: Line, method: str, params: dict[str, Any], what: str) -> dict[str, Any]:
    """The last answer about a piece of work; until then the bar."""
    until = monotonic() + (given.timeout_s() if given.flag("--timeout") else MAKE_S)
    phase = ""
    with Progress(given, what, show=render.size) as bar:
        reply = line.ask(method, {**params, "wait_s": LOOK_S})
        while reply["phase"] != "over":
            if monotonic() > until:
                raise TimedOut(f"cannot wait longer for {what}: the daemon goes on; see: cosession status")
            if reply["phase"] != phase or reply["total_bytes"]:
                phase = reply["phase"]
                bar.now(f"{what}: {_DOING.get(phase, phase)}", reply["total_bytes"])
            bar.reach(reply["done_bytes"])
            line.again()
            reply = line.ask(method, {"number": reply["number"], "wait_s": LOOK_S})
    return reply


NOW = Verb(
    "backup now",
    "",
    run_now,
    summary="Make a backup of everything committed so far, and verify it, while the daemon goes on.",
    text="It is a file of the state directory (see `cosession backup list --json`); copy it elsewhere to survive the\n"
    "disk. The daemon makes one by itself every hour in which something changed, and when it stops.",
    examples=(
        ("cosession backup now", "before something daring"),
        ("cosession backup now --json", "its name, revision and size"),
    ),
)

LIST = Verb(
    "backup list",
    "",
    run_list,
    summary="List the backups, newest first, with those that cannot be used.",
    text="Exit code 1 when there is none that can be used.",
    examples=(("cosession backup list", "what there is"), ("cosession backup list --json", "and where it lies")),
)

VERIFY = Verb(
    "backup verify",
    "[BACKUP ...]",
    run_verify,
    summary="Read backups from end to end and rehearse their restore; the newest without a name.",
    text="Exit code 70 when one is damaged; it is not used any more then.",
    options=(Option("--all", "", "every backup there is"),),
    examples=(
        ("cosession backup verify", "the newest"),
        ("cosession backup verify --all --json", "all of them, for a cron job"),
    ),
    words=(0, 1_000),
)
