"""`cosession audit`: what the daemon judged, refused and was told to do; and with `--follow` what it does from now on.

Rule: shows what was recorded and nothing it derived. Names in a record were chosen by others and are escaped.
"""

from __future__ import annotations

import time

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.moments import moment
from cosession.cli.options import Given, Option, Verb, did_you_mean, usage_error
from cosession.cli.scope import project_of_command
from cosession.errors import CosessionError, InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


#: `messages.audit.KINDS`, `messages.limits.AUDIT_RECORDS_MAX`, which are not light.
KINDS = ("verdict", "denial", "admin", "tool", "mail")
RECORDS_MAX = 1_000
LIMIT = 100
#: What `--follow` shows of the past, unless told otherwise.
FOLLOW_LIMIT = 10
LIMIT_MAX = 1_000_000
#: With less room than this beside the other columns, what a record is about has its own line.
ABOUT_CELLS_MIN = 16
_WIDTHS = (7, 16, 12, 10)
_STYLES = {"crashed": "red", "lost": "red", "suspect": "yellow", "active": "green", "closed": "dim"}
_KIND_STYLES = {"denial": "yellow", "admin": "cyan"}


def run(given: Given) -> int:
    """Print the records; with --follow until Ctrl-C, which is the orderly end."""
    filters = _filters(given)
    follow = given.flag("--follow")
    limit = given.integer("--limit", FOLLOW_LIMIT if follow else LIMIT, low=0 if follow else 1, high=LIMIT_MAX)
    if follow and given.flag("--until"):
        raise usage_error(given.verb, "--follow and --until exclude one another")
    line = Line(given)
    filters["session"] = _session(line, given)
    found = _listed(given, line, filters, limit)
    if not follow:
        _show(given, found)
        return 0
    line.close()
    try:
        _follow(given, filters, found)
    except KeyboardInterrupt:
        return 0  # asked for
    return 0


def _filters(given: Given) -> dict[str, Any]:
    kind = given.text("--kind")
    if given.flag("--kind") and kind not in KINDS:
        raise usage_error(
            given.verb, f"there is no kind {kind!r}{did_you_mean(kind, KINDS)} (there are {', '.join(KINDS)})"
        )
    named = given.flag("--project") or given.flag("--global")
    now = time.time()
    since, until = (moment(given.text(name), now) if given.flag(name) else 0.0 for name in ("--since", "--until"))
    if until and since >= until:
        raise usage_error(given.verb, "--since is not before --until, so nothing can be between")
    return {"kind": kind, "project": project_of_command(given) if named else "", "since": since, "until": until}


def _session(line: Line, given: Given) -> str:
    """The id of the session named; a name stands for the session that `explain` would show. Its records may outlive
    what the daemon knows of a session, so a text that it does not know is taken for an id.
    """
    text = given.text("--session")
    if not text:
        return ""
    try:
        found: str = line.ask("session.explain", {"session": text})["session"]["id"]
    except InvalidRequest:
        raise  # several have that name; the refusal names them
    except CosessionError as error:
        if error.code != "not_found":
            raise
        return text
    return found


def _listed(given: Given, line: Line, filters: dict[str, Any], limit: int) -> dict[str, Any]:
    """At most `limit` records as the last page, with all of them, newest first. `last` is the newest id there was when
    this began: what comes later is not in it.
    """
    from cosession.cli.progress import Progress

    first = line.ask("audit", {"limit": 1})
    before = first["last"] + 1
    records: list[dict[str, Any]] = []
    page = {**first, "records": [], "more": limit > 0}
    with Progress(given, "reading the audit") as bar:
        while page["more"] and len(records) < limit:
            line.again()
            room = min(limit - len(records), RECORDS_MAX)
            page = line.ask("audit", {**filters, "limit": room, "before": before, "epoch": first["epoch"]})
            records += page["records"]
            before = page["next"]
            bar.reach(len(records))
    return {**page, "records": records, "last": first["last"]}


def _show(given: Given, found: dict[str, Any]) -> None:
    records = found["records"]
    if given.flag("--json"):
        named = ("more", "cut", "oldest", "first", "last", "epoch", "revision")
        render.json_line({"records": records, **{name: found[name] for name in named}})
        return
    columns = [_columns(each) for each in records]
    if columns:
        head = ("WHEN", "KIND", "OPERATION", "OUTCOME", "SESSION", "ABOUT")
        lines = _Lines(
            [max(map(render.cells, column)) for column in zip(head[1:5], *(c[1:5] for c in columns), strict=True)]
        )
        render.line(render.paint(lines.text(head), "dim"))
        for each in columns:
            render.line(lines.painted(each))
    else:
        render.note("no record fits" if any(given.flag(name) for name in _FILTERS) else "nothing is recorded yet")
    if found["more"]:
        render.note(f"there are older ones: these are the newest {len(records):,} that fit (--limit)")
    if found["cut"]:
        render.note(
            f"{render.count(found['cut'], 'record')} before {_when(found['oldest'])} were cut (30 days, 256 MiB)"
        )


_FILTERS = ("--session", "--kind", "--since", "--until", "--project", "--global")


def _follow(given: Given, filters: dict[str, Any], found: dict[str, Any]) -> None:
    """The records there are, oldest first, then those to come."""
    from cosession.cli.live import Live
    from cosession.cli.trail import Trail

    as_json = given.flag("--json")
    began_at = time.monotonic()

    def status() -> tuple[str, float]:
        now = time.monotonic()
        if trail.away_since is not None:
            away_s = now - trail.away_since
            return f"daemon away for {render.span(max(away_s, 1.0))}, waiting", away_s
        return "following the audit", now - began_at

    lines = _Lines(list(_WIDTHS))
    live = Live(status, is_plain=as_json)
    named = {name: filters[name] for name in ("session", "kind", "project")}
    trail = Trail(given, named, after=found["last"], epoch=found["epoch"], wait=live.wait)
    try:
        for record in reversed(found["records"]):
            live.line(render.json_text(record) if as_json else lines.painted(_columns(record)))
        for record in trail:
            if "id" in record:
                live.line(render.json_text(record) if as_json else lines.painted(_columns(record)))
            elif "cut" in record:
                render.note(f"{render.count(record['cut'], 'record')} were cut before they could be shown")
            else:
                render.note("the store began anew, and its audit with it")
    finally:
        live.close()
        trail.close()


def _columns(record: dict[str, Any]) -> tuple[str, ...]:
    """What is shown of a record; every cell is escaped."""
    facts = dict(record["facts"])
    about = []
    if record["subject"] and record["subject"] != record["session"]:
        about.append(record["subject"])
    if record["project"]:
        about.append(f"in {record['project']}")
    if record["instance"]:
        about.append(f"by {record['instance'].partition('@')[0]}")
    if "was" in facts:
        about.append(f"was {facts.pop('was')}")
    if "reason" in facts:
        about.append(str(facts.pop("reason")))
    about += [f"{name} {_fact(value)}" for name, value in facts.items()]
    cells = (record["kind"], record["operation"], record["outcome"], record["session"] or "-", "; ".join(about))
    return (_when(record["time"]), *(render.escape(cell) for cell in cells))


def _fact(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _when(at: float) -> str:
    """The local wall clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


class _Lines:
    """Rows with columns of the same width; they grow with what is longer. Where the terminal leaves too little for what
    a record is about, that stands on a line of its own, and of the date the month and day.
    """

    def __init__(self, widths: list[int]) -> None:
        self._widths = widths

    def text(self, columns: tuple[str, ...]) -> str:
        """One row without colour."""
        return self._row(columns, columns)

    def painted(self, columns: tuple[str, ...]) -> str:
        """One row of a record, its kind and outcome in colour where there is colour."""
        when, kind, operation, outcome, *rest = columns
        styled = (
            when,
            render.paint(kind, _KIND_STYLES[kind]) if kind in _KIND_STYLES else kind,
            operation,
            render.paint(outcome, _STYLES[outcome]) if outcome in _STYLES else outcome,
            *rest,
        )
        return self._row(columns, styled)

    def _row(self, plain: tuple[str, ...], styled: tuple[str, ...]) -> str:
        when, *middle, about = plain
        self._widths = [max(width, render.cells(cell)) for width, cell in zip(self._widths, middle, strict=True)]
        left = len("0000-00-00 00:00:00") + sum(self._widths) + 2 * (len(self._widths) + 1)
        room = render.terminal_width()
        filled = [
            shown + " " * (width - render.cells(cell))
            for shown, cell, width in zip(styled[1:-1], middle, self._widths, strict=True)
        ]
        if room and room - left < ABOUT_CELLS_MIN:
            short = "WHEN" if not when[:1].isdigit() else when[5:16]
            session = render.cut(middle[-1], room - sum(self._widths[:-1]) - 19)
            head = "  ".join([f"{short:<11}", *filled[:-1], session]).rstrip()
            return head if about in ("", "ABOUT") else f"{head}\n    {render.cut(about, room - 4)}"
        if room:
            about = render.cut(about, room - left)
        return "  ".join([render.pad(when, 19), *filled, about]).rstrip()


AUDIT = Verb(
    "audit",
    "",
    run,
    summary="Show what the daemon judged, refused and was told to do, newest first, of every project or the one named.",
    text="Verdicts about sessions, denials, and acts about the daemon itself, each with who and what about; never a\n"
    "value. They are kept for 30 days or 256 MiB. With --follow the newest come last, then every new one as it is\n"
    "recorded, until Ctrl-C (exit code 0); a restart of the daemon leaves no gap.",
    options=(
        Option("--kind", "verdict|denial|admin|mail|tool", "only those of this kind"),
        Option("--since", "TIME", "only from then on: 2h (ago), 14:30, 2026-11-24, '2026-11-24 14:30'"),
        Option("--until", "TIME", "only before then"),
        Option("--limit", "N", f"the newest N that fit (default {LIMIT}, with --follow {FOLLOW_LIMIT})"),
        Option("--follow", "", "go on with what comes"),
    ),
    examples=(
        ("cosession audit --since 2h", "what happened in the last two hours"),
        ("cosession audit --kind denial --follow", "who is refused what, as it happens"),
        ("cosession audit --session otter --json", '{"records": [...]} of one session, by name or id'),
    ),
)
