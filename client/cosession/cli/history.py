"""`cosession history`: the kept versions of one entry, newest first.

Rule: shows what the daemon kept and nothing it derived.
"""

from __future__ import annotations

from time import time

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.progress import Progress
from cosession.cli.scope import project_of_command
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: `messages.limits.VERSIONS_KEPT`, which is not light.
VERSIONS_KEPT = 50


def run(given: Given) -> int:
    """Print the versions; exit 1 when there are none."""
    key, project = given.words[0], project_of_command(given)
    limit = given.integer("--limit", VERSIONS_KEPT, low=1, high=VERSIONS_KEPT)
    before = given.integer("--before", 0)
    line = Line(given)
    versions, reply = versions_kept(given, line, {"key": key, "project": project}, limit=limit, before=before)
    if given.flag("--json"):
        render.json_line({"versions": versions, "more": reply["more"], "key": key, "revision": reply["revision"]})
        return 0
    if not versions:
        from cosession.cli.near import near_key

        guess = near_key(line, {"key": key, "project": project})
        raise CosessionError(
            f"cannot show the history of {key!r}: project {project!r} has none of it{guess}; see: cosession ls",
            code="not_found",
            data={"key": key, "project": project},
        )
    now = time()
    rows = [
        (
            str(each["mod_revision"]),
            each["kind"],
            str(each["version"] or "-"),
            render.ago(each["time"], now),
            each["session"] or "-",
            each["operation"] or "-",
            _shown(each),
        )
        for each in versions
    ]
    render.table(("REVISION", "KIND", "VERSION", "WHEN", "SESSION", "OPERATION", "VALUE"), rows)
    if reply["more"]:
        render.note(f"there are older ones: --before {versions[-1]['mod_revision']}")
    return 0


def versions_kept(
    given: Given, line: Line, at: dict[str, Any], *, limit: int = VERSIONS_KEPT, before: int = 0
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The newest versions of the entry `at` a key and project, and the last reply, whose `more` is that of them all."""
    versions: list[dict[str, Any]] = []
    with Progress(given, "reading the history") as bar:
        while True:  # large versions take several pages
            reply = line.ask("history", {**at, "limit": limit - len(versions), "before_revision": before})
            versions += reply["versions"]
            if not reply["more"] or not reply["versions"] or len(versions) >= limit:
                return versions, reply
            before = versions[-1]["mod_revision"]
            bar.reach(len(versions))
            line.again()


def _shown(version: dict[str, Any]) -> str:
    if version.get("purged"):
        return "(purged)"
    return render.brief(version["value"]) if version["version"] else "-"


HISTORY = Verb(
    "history",
    "KEY",
    run,
    summary="Print the versions of an entry, newest first; the last 50 are kept while it is there.",
    options=(
        Option("--limit", "N", "the newest N versions, at most 50 (default 50)"),
        Option("--before", "REV", "only those below this revision"),
    ),
    examples=(
        ("cosession history plan/next", "who changed it, when, to what"),
        ("cosession history plan/next --json", '{"versions": [...]}'),
    ),
    words=(1, 1),
)
