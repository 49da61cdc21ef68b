"""`cosession salvage`: what can be saved of a damaged store where nothing else helps.

Rule: it never writes what it reads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cosession.cli import asking, child, life, render
from cosession.cli.options import Given, Option, Verb
from cosession.cli.progress import Progress
from cosession.cli.restore import refuse_socket

if TYPE_CHECKING:
    from typing import Any


def run(given: Given) -> int:
    """Make the new store, say what is in it and what is lost."""
    refuse_socket(given)
    words = [name + "=" + os.path.abspath(given.text(name)) for name in ("--from", "--out") if given.text(name)]  # noqa: PTH100
    if given.flag("--install"):
        asking.agree(given, "put what can be saved in the place of the store?")
        words.append("--install")
    is_running = life.answer(given) is not None
    with life.stopped(given, is_running=is_running), Progress(given, "salvaging") as bar:
        result = child.act(bar, "salvage", *words)
    if given.flag("--json"):
        render.json_line(result)
        return 0
    rows = [
        ("from", result["from"]),
        ("kept", f"{render.count(result['entries'], 'entry')}, {render.count(result['versions'], 'version')}"),
        ("lost", _lost(result)),
        ("store", result["store"]),
    ]
    if result["installed"]:
        rows.append(("aside", result["quarantine"]))
    else:
        rows.append(("next", "to put it in place: cosession salvage --install"))
    for name, text in rows:
        render.line(f"{render.paint(f'{name:<9}', 'dim')} {render.escape(text)}")
    return 0


def _lost(result: dict[str, Any]) -> str:
    gaps = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in result["lost_revisions"])
    keys = ", ".join(f"{each['key']} (revision {each['revision']})" for each in result["lost_keys"])
    said = [f"batches of the log at {gaps}" if gaps else "", f"entries {keys}" if keys else ""]
    return "; ".join(filter(None, said)) or "nothing that can be told"


SALVAGE = Verb(
    "salvage",
    "",
    run,
    summary="Save every row that can be proved out of a damaged store, into a new one.",
    text="For when neither the store nor a backup is whole, or the backups are too old. The damaged files are read\n"
    "and never written. What is lost is told by revision and key. The new store begins a new epoch.",
    options=(
        Option("--from", "FILE", "another database than that of the store"),
        Option("--out", "DIR", "where the new store is made; else `salvaged` beside the store"),
        Option("--install", "", "put it in the place of the store, which goes to quarantine"),
        asking.YES,
    ),
    examples=(
        ("cosession salvage", "make it and see what it holds"),
        ("cosession salvage --install --yes", "and put it in place"),
    ),
)
