"""`cosession ls`: the entries under a prefix, all of one revision.

Rule: on the fast path; however many pages it takes, they show one moment.
"""

from __future__ import annotations

from time import time

from cosession.cli import data, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.scope import project_of_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE_ENTRIES = 1_000


def run(given: Given) -> int:
    """Print keys, or with --long one line per entry."""
    prefix = given.words[0] if given.words else ""
    limit = given.integer("--limit", 0, low=1)
    project = project_of_command(given)
    as_json, long = given.flag("--json"), given.flag("--long")
    line = Line(given)
    params = {"prefix": prefix, "project": project, "keys_only": not (as_json or long)}
    if given.flag("--at"):
        from cosession.cli.moment import revision_of  # how times are written, for those who give one

        params["at_revision"] = revision_of(given, "--at", line)
    entries, last = _listed(given, line, params, limit)
    more, revision = last["more"], last["revision"]
    if as_json:
        render.json_line({"entries": entries, "more": more, "revision": revision})
    elif long:
        now = time()
        rows = [
            (
                entry["key"],
                str(entry["version"]),
                str(entry["mod_revision"]),
                render.ago(entry["time"], now),
                _size(entry["value"]),
                entry["session"] or "-",
                render.brief(entry["value"]),
            )
            for entry in entries
        ]
        render.table(("KEY", "VERSION", "REVISION", "CHANGED", "SIZE", "SESSION", "VALUE"), rows)
    else:
        for entry in entries:
            render.line(render.escape(entry["key"]))
    if not as_json and not entries:
        render.note(f"project {project!r} has no key" + (f" that starts with {prefix!r}" if prefix else ""))
    if not as_json and more:
        render.note(f"there are more; this is the first {len(entries)} (--limit)")
    return 0


def _listed(
    given: Given, line: Line, params: dict[str, Any], limit: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Up to `limit` entries (0: all) in pages of one revision, and the last page."""
    page = line.ask("range", {**params, "limit": min(limit or PAGE_ENTRIES, PAGE_ENTRIES)})
    entries: list[dict[str, Any]] = page["entries"]
    if not page["more"] or len(entries) == limit:
        return entries, page
    from cosession.cli.progress import Progress  # for the long lists only

    with Progress(given, "reading the list") as bar:
        while page["more"] and page["entries"] and len(entries) != limit:
            bar.reach(len(entries))
            line.again()
            room = min(limit - len(entries), PAGE_ENTRIES) if limit else PAGE_ENTRIES
            at = {"limit": room, "after": entries[-1]["key"], "at_revision": page["read_revision"]}
            page = line.ask("range", {**params, **at})
            entries += page["entries"]
    return entries, page


def _size(value: Any) -> str:
    return render.size(len(data.dumps(value).encode()))


LS = Verb(
    "ls",
    "[PREFIX]",
    run,
    summary="List the keys that start with PREFIX, in order.",
    text="However long the list, all of it shows one revision of the store.",
    options=(
        Option("--long", "", "with version, revision, time, size, session and value"),
        Option("--limit", "N", "at most N entries"),
        Option("--at", "REV", "as it was at this revision or time, see `get --at`"),
    ),
    examples=(
        ("cosession ls", "every key of this project"),
        ("cosession ls plan/ --long", "what is under plan/, with values"),
        ("cosession ls plan/ --at '2h ago'", "what was under plan/ two hours ago"),
        ("cosession ls --json | python3 -m json.tool", "everything, for a program"),
    ),
    words=(0, 1),
)
