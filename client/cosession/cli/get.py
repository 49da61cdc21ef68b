"""`cosession get`: one entry, now or as it was.

Rule: on the fast path; see `cosession.cli`.
"""

from __future__ import annotations

import sys

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.scope import project_of_command
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(given: Given) -> int:
    """Print the value; exit 1 when there is none."""
    key = given.words[0]
    line = Line(given)
    params = {"key": key, "project": project_of_command(given), "at_revision": 0}
    if given.flag("--at"):
        from cosession.cli.moment import revision_of  # how times are written, for those who give one

        params["at_revision"] = revision_of(given, "--at", line)
    reply = line.ask("get", params)
    entry = reply["entry"]
    if entry is None:
        from cosession.cli.near import near_key

        when = f" at revision {params['at_revision']}" if params["at_revision"] else ""
        when += near_key(line, params)
        raise CosessionError(
            f"cannot get {key!r}: there is no such entry in project {params['project']!r}{when}; see: cosession ls",
            code="not_found",
            data={"key": key, "project": params["project"], "revision": reply["revision"]},
        )
    if given.flag("--json"):
        render.json_line({**entry, "revision": reply["revision"]})
    else:
        print_value(entry["value"])
    return 0


def print_value(value: Any) -> None:
    """A string bare, anything else as JSON. To a file or pipe a string goes byte for byte; a terminal is protected."""
    if not isinstance(value, str):
        render.line(render.json_text(value))
        return
    text = value if value.endswith("\n") else value + "\n"
    if render.is_terminal():
        sys.stdout.write(render.escape(text, keep="\n\t"))
    elif sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


GET = Verb(
    "get",
    "KEY",
    run,
    summary="Print the value of one entry: a string bare, anything else as JSON. Exit code 1 when there is none.",
    text="To a file or a pipe a string goes as it is, with a newline added if it has none; on a terminal, control\n"
    "characters in it are shown as escapes. --json prints the whole entry with its versions and revisions.\n"
    "--at takes a revision or a time, within the log window: '2h ago' (s, min, h, d), '14:00', 'yesterday 14:00',\n"
    "'2026-11-24', '2026-11-24 14:00'; times are local.",
    options=(Option("--at", "REV", "as it was at this revision or time"),),
    examples=(
        ("cosession get plan/next", "print a value"),
        ("cosession get plan/next --at 41", "print it as it was at revision 41"),
        ("cosession get plan/next --at '2h ago'", "print it as it was then"),
        ("cosession get plan/next --json", "print the entry with version, revisions, session and time"),
    ),
    words=(1, 1),
)
