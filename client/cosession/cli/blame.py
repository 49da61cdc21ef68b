"""`cosession blame`: who wrote each part of an entry, from its history.

Rule: who wrote what is decided in `cosession.blame`; here it is asked for and shown.
"""

from __future__ import annotations

from time import time

from cosession.blame import UNKNOWN, attributed, below, kind_of
from cosession.cli import render
from cosession.cli.history import versions_kept
from cosession.cli.line import Line
from cosession.cli.options import Given, Verb
from cosession.cli.past import no_such_entry
from cosession.cli.scope import project_of_command
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Of the terminal's width, so much for a value: the columns behind it are what was asked for.
_VALUE_CELLS_MAX = 32
_OF_VERSION = ("session", "instance", "operation", "request_id", "mod_revision", "time")


def run(given: Given) -> int:
    """Print who wrote what; exit 1 when there is no such entry or part of it."""
    at = {"key": given.words[0], "project": project_of_command(given)}
    path = given.words[1] if len(given.words) > 1 else ""
    line = Line(given)
    versions, reply = versions_kept(given, line, at)
    kinds = [kind_of(each["kind"], purged=each.get("purged", False)) for each in versions]
    leaves = attributed(kinds, *([each[name] for each in versions] for name in ("value", "version")))
    if not leaves:
        raise no_such_entry("blame", line, at)
    parts = [_part(*leaf, versions) for leaf in leaves if below(leaf[0], path)]
    if not parts:
        raise CosessionError(
            f"cannot find {path!r} in {at['key']!r}: no part of its value is there; it is a JSON pointer like /a/b",
            code="not_found",
            data={"key": at["key"], "path": path},
        )
    if given.flag("--json"):
        oldest = versions[-1]["mod_revision"]
        render.json_line({"parts": parts, "oldest_revision": oldest, "key": at["key"], "revision": reply["revision"]})
        return 0
    _show(parts, _names(line, {part["session"] for part in parts} - {""}))
    if any(not part["mod_revision"] for part in parts):
        render.note("older: it was there before the versions that are kept, or before one whose value was purged")
    return 0


def _part(path: str, value: Any, index: int, versions: list[dict[str, Any]]) -> dict[str, Any]:
    version = versions[index] if index != UNKNOWN else dict.fromkeys(_OF_VERSION, "") | {"mod_revision": 0, "time": 0.0}
    return {"path": path, "value": value, **{name: version[name] for name in _OF_VERSION}}


def _names(line: Line, sessions: set[str]) -> dict[str, str]:
    """What people call the sessions; those the daemon cannot name are left out."""
    names: dict[str, str] = {}
    for id in sorted(sessions):  # at most as many as versions are kept
        try:
            names[id] = line.ask("session.explain", {"session": id})["session"]["name"]
        except CosessionError:
            continue
    return names


def _show(parts: list[dict[str, Any]], names: dict[str, str]) -> None:
    now = time()
    room = _VALUE_CELLS_MAX if render.terminal_width() else 0
    rows = [
        (
            part["path"] or "(whole)",
            render.cut(render.brief(part["value"]), room),
            names.get(part["session"]) or part["session"] or "-",
            render.ago(part["time"], now) if part["mod_revision"] else "-",
            str(part["mod_revision"] or "older"),
            part["operation"] or "-",
        )
        for part in parts
    ]
    render.table(("PATH", "VALUE", "SESSION", "WHEN", "REVISION", "OPERATION"), rows)


BLAME = Verb(
    "blame",
    "KEY [PATH]",
    run,
    summary="Print who wrote each part of an entry: for each leaf, the newest kept version that changed it.",
    text="PATH is a JSON pointer, /a/b or /list/0: only that part. A write is named only for what it changed, not for\n"
    "what it repeated. What was there before the versions that are kept is said to be older. --json has the process\n"
    "(`instance`) and the request id besides.",
    examples=(
        ("cosession blame plan/next", "who wrote what of the plan"),
        ("cosession blame plan/next /owner", "who put the owner there"),
    ),
    words=(1, 2),
)
