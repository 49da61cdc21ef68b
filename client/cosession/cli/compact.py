"""`cosession compact`: give up the older part of the log, and the room it takes.

Rule: on the fast path. It asks for a part at a time, so that what is done is seen, and Ctrl-C leaves it at that; what
is refused is refused before the first part, so that it drops nothing.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.moment import revision_of
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.progress import Progress
from cosession.errors import CosessionError

#: Batches dropped with one request: a fraction of a second.
PART_BATCHES = 2_000


def run(given: Given) -> int:
    """Print what went; exit 0 also when there was nothing to do."""
    line = Line(given)
    status = line.ask("status", {})
    first, newest = status["compact_revision"], status["revision"]
    target = _target(given, line, newest)
    reached, reply = first, None
    with Progress(given, "dropping old batches", total=max(0, target - first)) as bar:
        while reply is None or reached < target:
            line.again()
            reply = line.ask("compact", {"revision": max(1, min(reached + PART_BATCHES, target))})
            reached = reply["compact_revision"]
            bar.reach(reached - first)
    dropped = max(0, reached - first)
    if given.flag("--json"):
        render.json_line({"compact_revision": reached, "dropped": dropped, "revision": reply["revision"]})
    elif dropped:
        render.line(f"dropped {render.count(dropped, 'batch')}; kept whole from revision {reached}")
    else:
        render.line(f"nothing to do: the log begins at revision {reached} already")
    return 0


def _target(given: Given, line: Line, newest: int) -> int:
    """The revision to begin the log at."""
    to, keep = revision_of(given, "--to", line), given.integer("--keep", 0, low=1)
    if bool(to) == bool(keep):
        raise usage_error(COMPACT, "give one of --to and --keep")
    if to > newest:
        raise CosessionError(
            f"cannot compact up to revision {to}: the store is at {newest}; ask for that or less",
            code="future_revision",
            data={"revision": newest},
        )
    return to or max(1, newest - keep + 1)


COMPACT = Verb(
    "compact",
    "(--to REV | --keep N)",
    run,
    summary="Drop the older batches of the log, for all projects.",
    text="Revisions below can no longer be read at, and watches that have not come so far begin anew. `history` keeps\n"
    "the newest 50 versions of each entry, but of one that was deleted below. The room is used again; the file does\n"
    "not become smaller. What goes is in a backup, which is made first where there is none of it.",
    options=(
        Option("--to", "REV", "the oldest revision that stays, or a time as in `get --at`"),
        Option("--keep", "N", "keep the newest N batches"),
    ),
    examples=(
        ("cosession compact --keep 10000", "all but the newest 10,000 changes"),
        ("cosession compact --to 52000 --json", "what is below revision 52000"),
        ('cosession compact --to "3 d ago"', "what is older than three days"),
    ),
)
