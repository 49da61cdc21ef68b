"""`cosession diff`: what changed between two versions of an entry, or what differs between two entries.

Exit code 0 whether there is a difference or not, as `git diff`: 1 says in this program that something is not there.
With `--exit-code` it is 1 when there is one.

Rule: what differs is decided in `cosession.differences`; here it is asked for and shown.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.past import no_such_entry, value_at, value_of
from cosession.cli.scope import project_of_command
from cosession.differences import ABSENT, difference
from cosession.errors import Compacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cosession.differences import Changed

_MARKS = {"add": ("+", "green"), "remove": ("-", "red"), "replace": ("~", "yellow")}
#: A longer path is not aligned with the others.
_PATH_CELLS_MAX = 40


def run(given: Given) -> int:
    """Print the changes."""
    project = project_of_command(given)
    one, other = ({"key": key, "project": project} for key in (given.words[0], given.words[-1]))
    first, second = given.integer("--from", 0), given.integer("--to", 0)
    line = Line(given)
    if len(given.words) == 1 and not first and not second:
        old, new = _last_change(line, one)
    else:
        old, new = value_at(line, one, first), value_at(line, other, second)
        for at, revision, value in ((one, first, old), (other, second, new)):
            if value is ABSENT and (not revision or old is new):
                raise no_such_entry("compare", line, at, revision)
    changes = difference(old, new)
    if given.flag("--json"):
        names = ("op", "path", "old", "new")
        render.json_line({"changes": [dict(zip(names, each, strict=True)) for each in changes], "equal": not changes})
    elif changes:
        _show(changes)
    else:
        render.note("there is no difference")
    return 1 if changes and given.flag("--exit-code") else 0


def _last_change(line: Line, at: dict[str, Any]) -> tuple[Any, Any]:
    """The values before and after the last write."""
    newest = line.ask("history", {**at, "limit": 2})["versions"]
    if not newest:
        raise no_such_entry("compare", line, at)
    if len(newest) == 1:
        if newest[0]["version"] > 1:
            raise Compacted(f"cannot compare {at['key']!r} with the version before: it is no longer kept")
        return ABSENT, value_of(newest[0])
    return value_of(newest[1]), value_of(newest[0])


def _show(changes: list[Changed]) -> None:
    width = max((size for each in changes if (size := render.cells(_path(each))) <= _PATH_CELLS_MAX), default=0)
    room = render.terminal_width()
    for each in changes:
        op, _, old, new = each
        mark, style = _MARKS[op]
        shown = {
            "add": render.json_text(new),
            "remove": render.json_text(old),
            "replace": f"{render.json_text(old)} -> {render.json_text(new)}",
        }[op]
        text = f"{mark} {render.pad(_path(each), width)}  {shown}"
        render.line(render.paint(render.cut(text, room), style))


def _path(change: Changed) -> str:
    return render.escape(change[1]) or "(whole)"


DIFF = Verb(
    "diff",
    "KEY [KEY2]",
    run,
    summary="Print what changed between two versions of an entry, or what differs between two entries.",
    text="Of one KEY: from --from to --to, each a revision, each now when left out; without both, what its last write\n"
    "changed. With KEY2: from KEY to KEY2. Each line is a change: + added, - removed, ~ replaced, at a JSON pointer;\n"
    "objects are compared by member, lists by index but for what they begin and end with alike, all else as a whole.\n"
    "--json prints the changes as a JSON patch (RFC 6902) with `old` and `new` instead of `value`.",
    options=(
        Option("--from", "REV", "KEY as it was at this revision"),
        Option("--to", "REV", "the other side as it was at this revision"),
        Option("--exit-code", "", "exit 1 when there is a difference, 0 when there is none"),
    ),
    examples=(
        ("cosession diff plan/next", "what the last write changed"),
        ("cosession diff plan/next --from 41", "what changed since revision 41"),
        ("cosession diff plan/next plan/draft --exit-code", "whether two entries are the same"),
    ),
    words=(1, 2),
)
