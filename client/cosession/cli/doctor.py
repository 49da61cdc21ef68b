"""`cosession doctor` and `cosession salvage`: what is wrong, and what can be saved where nothing else helps.

Rule: doctor changes nothing and starts nothing; salvage never writes what it reads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cosession import doctor, paths
from cosession.cli import asking, child, life, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.cli.progress import Progress
from cosession.cli.restore import refuse_socket
from cosession.errors import Unreachable

if TYPE_CHECKING:
    from typing import Any

_COLOURS = {doctor.OK: "green", doctor.WARNING: "yellow", doctor.FAILURE: "red"}


def run(given: Given) -> int:
    """Print every check; exit 0 when all is well, 1 with warnings, 2 with failures."""
    refuse_socket(given)
    with Progress(given, "looking") as bar:
        try:
            status: dict[str, Any] | None = Line(given, spawn=False).ask("status", {})
        except Unreachable:
            status = None
        ground = doctor.Ground(
            state=str(paths.state_directory()),
            status=status,
            ask=lambda method: Line(given, spawn=False).ask(method, {}),
            act=lambda *words: child.act(bar, *words),
            deep=given.flag("--deep"),
        )
        checks = doctor.examine(ground)
    if given.flag("--json"):
        render.json_line({"checks": checks})
    else:
        for check in checks:
            said = render.paint(f"{check['status']:<8}", _COLOURS[check["status"]])
            head = f"{said} {check['id']:<11}"
            render.line(f"{head} {render.escape(check['evidence'])}")
            if check["remedy"]:
                render.line(f"{'':20} {render.escape(check['remedy'])}")
    return max(doctor.EXIT[check["status"]] for check in checks)


def salvage(given: Given) -> int:
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


DOCTOR = Verb(
    "doctor",
    "",
    run,
    summary="Look at daemon, store, mark and backups, and say what is wrong and what to do.",
    text="It changes nothing, and works with the daemon down: the store is judged as a start would judge it.\n"
    "Exit code 0 when all is well, 1 with warnings, 2 with failures.",
    options=(Option("--deep", "", "have a running daemon look through its whole store"),),
    examples=(
        ("cosession doctor", "what is wrong"),
        ("cosession doctor --deep --json", "for programs, every row looked at"),
    ),
)

SALVAGE = Verb(
    "salvage",
    "",
    salvage,
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
