"""`cosession status`: the daemon on one page.

Rule: on the fast path, and it never starts a daemon: looking must not change what is seen.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Verb
from cosession.cli.render import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What trimming may be behind without a word.
BEHIND_BATCHES = 1_000
BEHIND_BYTES = 2 * 1024 * 1024
#: What is shown of a project's name, however narrow the terminal.
NAME_CELLS_MIN = 8


def run(given: Given) -> int:
    """Print the state; exit 69 when no daemon is running."""
    status = Line(given, spawn=False).ask("status", {})
    if given.flag("--json"):
        render.json_line(status)
        return 0
    rows = (
        ("daemon", f"cosessiond {status['version']}, pid {status['pid']}, up {render.span(status['uptime_s'])}"),
        ("socket", status["socket"]),
        ("state", f"{status['state_directory']} ({status['engine']})"),
        ("revision", f"{status['revision']} (kept whole from {status['compact_revision']}, epoch {status['epoch']})"),
        ("entries", f"{status['entries']:,}, {render.size(status['live_bytes'])}"),
        ("database", f"{render.size(status['database_bytes'])} with log and history{_behind(status)}"),
        ("disk", _disk(status)),
        ("backups", _backups(status.get("backups") or {})),
        ("sessions", f"{status['sessions']:,} alive"),
        ("audit", f"{count(status.get('audit_records', 0), 'record')}, {status.get('audit_cut', 0):,} cut"),
        ("clients", f"{count(status['connections'], 'connection')}, {count(status['watches'], 'watch')}"),
        ("conflicts", _conflicts(status)),
        ("commits", _stalls(status)),
    )
    for name, text in rows:
        render.line(f"{render.paint(f'{name:<9}', 'dim')} {render.escape(text)}")
    _print_usage(status)
    for damage in status.get("damage", []):
        render.line(f"{render.paint('damage   ', 'red')} {render.escape(damage)}")
    spool = _spool(status.get("spool") or {})
    if spool:
        render.line(f"{render.paint('spool    ', 'yellow')} {render.escape(spool)}")
    if status.get("damage"):
        render.line("          what that means and what to do: cosession doctor")
    if status.get("disk", "enough") != "enough":
        what = "writes are refused" if status["disk"] == "low" else "the reserve is spent, releases are refused too"
        render.line(render.paint("disk full", "yellow") + f" {what}; free space, it goes on by itself")
    if status["read_only"]:
        render.line(render.paint("read-only", "yellow") + f" {render.escape(status['read_only'])}")
    if status.get("running"):
        render.line(render.paint("running  ", "yellow") + f" {render.escape(status['running'])}")
    if status.get("config_error"):  # a daemon of an older version does not say
        render.line(
            render.paint("config   ", "yellow") + f" {render.escape(status['config_error'])}; the old one holds"
        )
    if status.get("restart_needed"):
        changed = ", ".join(status["restart_needed"])
        render.line(f"{render.paint('config   ', 'yellow')} {render.escape(changed)}: changed at a restart only")
    return 0


def _print_usage(status: dict[str, Any]) -> None:
    """The projects that have most, aligned, and how many more there are."""
    usage = status.get("usage", [])  # a daemon of an older version does not say
    entries = [f"{each['entries']:,}" for each in usage]
    sizes = [render.size(each["bytes"]) for each in usage]
    wide, long = max(map(len, entries), default=0), max(map(len, sizes), default=0)
    for index, each in enumerate(usage):
        label = render.paint(f"{'projects' if index == 0 else '':<9}", "dim")
        room = render.terminal_width() - 10 - wide - long - 4
        name = render.escape(each["project"])
        name = render.cut_head(name, max(room, NAME_CELLS_MIN)) if render.is_terminal() else name
        line = f"{entries[index]:>{wide}}  {sizes[index]:>{long}}  {name}"
        render.line(f"{label} {line}")
    if usage and status["projects"] > len(usage):
        render.line(f"          and {status['projects'] - len(usage):,} more")


def _backups(said: dict[str, Any]) -> str:
    """The newest that can be restored, how many there are, and what goes on or went wrong."""
    newest = said.get("newest")
    text = "none yet"
    if newest:
        number, size = count(said["count"], "backup"), render.size(said["size_bytes"])
        text = f"newest {render.span(said['age_s'])} old, at revision {newest['revision']}; {number}, {size}"
    if said.get("phase"):
        part = said["done_bytes"] / said["total_bytes"] if said["total_bytes"] else 0.0
        text += f"; {said['phase']} another, {part:.0%}"
    if said.get("damaged"):
        text += f"; {said['damaged']:,} cannot be used, see: cosession backup list"
    if said.get("error"):
        text += f"; the last one failed: {said['error']}"
    return text


def _spool(said: dict[str, Any]) -> str:
    """What clients left in the spool and is not taken in; "" where there is nothing to say."""
    parts = [f"{said['error']}"] if said.get("error") else []
    if said.get("waiting"):
        parts.append(f"{count(said['waiting'], 'call')} wait in {said['directory']}")
    if said.get("refused") or said.get("aside"):
        parts.append(f"{said['refused']:,} refused since the start, why is in {said['directory']}/refused")
    return "; ".join(parts)


def _disk(status: dict[str, Any]) -> str:
    held, wanted = status.get("reserve_bytes", 0), status.get("reserve_bytes_max", 0)  # an older daemon does not say
    if not wanted:
        return "-"
    reserve = f"{render.size(held)} in reserve" + (f" of {render.size(wanted)}" if held < wanted else "")
    return f"{render.size(status['disk_free_bytes'])} free, {reserve}"


def _behind(status: dict[str, Any]) -> str:
    """How far trimming is behind, when it is worth a word: a little is left until there is a pause."""
    batches, size = status.get("surplus_batches", 0), status.get("surplus_bytes", 0)
    if batches < BEHIND_BATCHES and size < BEHIND_BYTES:
        return ""
    return f"; {count(batches, 'batch')}, {render.size(size)} beyond the log window"


def _stalls(status: dict[str, Any]) -> str:
    longest, most = (status.get("counters", {}).get(f"commit_stall_ms.{name}", 0.0) for name in ("max", "p99"))
    return (
        f"upkeep held one up for {longest:.1f} ms at most, p99 {most:.1f} ms" if longest else "none held up by upkeep"
    )


def _conflicts(status: dict[str, Any]) -> str:
    resolved, unresolved, pending = (
        status.get(f"conflicts_{name}", 0) for name in ("resolved", "unresolved", "pending")
    )
    if not resolved + unresolved + pending:
        return "none since the start"
    return f"{resolved:,} resolved, {unresolved:,} not" + (f", {pending:,} not yet" if pending else "")


STATUS = Verb(
    "status",
    "",
    run,
    summary="Show the daemon's state: pid, socket, revision, entries, database, sessions, clients, conflicts.",
    text="It never starts a daemon. Exit code 69 when none is running.",
    examples=(
        ("cosession status", "for people"),
        ("cosession status --json", "for programs: pid, version, socket, revision, sessions and more"),
    ),
)
