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
    from collections.abc import Iterator
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
    entries: list[dict[str, Any]] = []
    more, revision = False, 0
    for page in _pages(line, params, limit):
        more, revision = page["more"], page["revision"]
        entries += page["entries"]
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


def _pages(line: Line, params: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    """The pages up to `limit` entries (0: all), each asked at the revision of the first."""
    seen, after, at_revision = 0, "", 0
    while True:
        room = min(limit - seen, PAGE_ENTRIES) if limit else PAGE_ENTRIES
        page = line.ask("range", {**params, "limit": room, "after": after, "at_revision": at_revision})
        yield page
        seen += len(page["entries"])
        if not page["more"] or not page["entries"] or (limit and seen >= limit):
            return
        after, at_revision = page["entries"][-1]["key"], page["read_revision"]
        line.again()


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
    ),
    examples=(
        ("cosession ls", "every key of this project"),
        ("cosession ls plan/ --long", "what is under plan/, with values"),
        ("cosession ls --json | python3 -m json.tool", "everything, for a program"),
    ),
    words=(0, 1),
)
