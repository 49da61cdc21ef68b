"""`cosession checklist`: one page for the day: health, services, backups, disk, errors, sessions that wait.

Rule: each line says one thing and what to do about it; what could not be asked is said in its line.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from time import localtime, strftime
from typing import TYPE_CHECKING

from cosession import paths
from cosession.cli import doctor, render
from cosession.cli.options import Given, Verb
from cosession.cli.progress import Progress
from cosession.configfile import load
from cosession.doctor import engine, table
from cosession.errors import ConfigError, CosessionError

if TYPE_CHECKING:
    from typing import Any, Final

#: Sessions that are shown by name.
_NAMED_MAX: Final = 3
#: What has a line of its own.
_OWN: Final = (
    engine.Check("backups", "cosession.doctor.store:backups"),
    engine.Check("log", "cosession.doctor.log:errors", 12.0),
)


def run(given: Given) -> int:
    """Print the page; exit 0 when all is well, 1 with warnings, 2 with failures."""
    with Progress(given, "looking") as bar:
        ground = doctor.ground_of(given, bar)
        found = {each["id"]: each for each in engine.examine(ground, (*table.HEALTH, *_OWN))}
        rows = [
            _health([found[check.id] for check in table.HEALTH if check.id != "disk"]),
            _services(),
            {**found["backups"], "id": "backups"},
            {**found["disk"], "id": "disk"},
            {**found["log"], "id": "errors"},
            _waiting(ground),
        ]
    rows = [{name: row[name] for name in ("id", "status", "evidence", "remedy")} for row in rows]
    if given.flag("--json"):
        render.json_line({"checks": rows})
    else:
        render.line(f"{strftime('%A %Y-%m-%d %H:%M', localtime())}")
        for row in rows:
            mark = {"ok": "[x]"}.get(row["status"], "[ ]")
            text = render.paint(f"{mark} {row['id']:<9}", doctor.STYLES[row["status"]])
            render.line(f"{text} {render.escape(row['evidence'])}")
            if row["remedy"]:
                render.line(f"{'':13} {render.escape(row['remedy'])}")
    return engine.EXIT[engine.worst(rows)]


def _health(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The other checks of the doctor that take no long look, as one line."""
    wrong = [each for each in found if each["status"] != engine.OK]
    if not wrong:
        return _row("health", engine.OK, f"{len(found)} checks, all well")
    first = max(wrong, key=lambda each: engine.EXIT[each["status"]])
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return _row("health", first["status"], f"{first['id']}: {first['evidence']}{more}", "all of it: cosession doctor")


def _services() -> dict[str, Any]:
    from cosession.services import finding, judging

    try:
        config = load(Path(paths.config_file())).services
        found = finding.found(shlex.split(config.patterns))
    except ConfigError as error:
        return _row(
            "services", engine.WARNING, f"not asked: {error.message.rpartition('; ')[0]}", "cosession config check"
        )
    except CosessionError as error:
        cause, _, remedy = error.message.rpartition("; ")
        # Without a service manager there are no services, which is nothing to be warned of every day.
        absent = error.code in ("not_found", "unreachable")
        return _row("services", engine.OK if absent else engine.WARNING, cause, "" if absent else remedy)
    total = judging.summed(found, config.target_percent)
    if total.availability is None:
        return _row("services", engine.OK, f"none is called {config.patterns}")
    evidence = f"{total.overall}: {total.running} of {total.total} running, {total.availability:.1f} % available"
    status = {"HEALTHY": engine.OK, "DEGRADED": engine.WARNING, "FAILED": engine.FAILURE}[total.overall]
    return _row("services", status, evidence, "" if status == engine.OK else "cosession services --failed-only")


def _waiting(ground: engine.Ground) -> dict[str, Any]:
    """Sessions that wait for a claim, and those that have gone silent."""
    if ground.status is None:
        return _row("sessions", engine.OK, "nobody waits: no daemon is running")
    try:
        claims = ground.ask("claim.list", {"limit": 1_000})["claims"]
        sessions = ground.ask("session.list", {})["sessions"]
    except CosessionError as error:
        return _row("sessions", engine.WARNING, error.message, "cosession status")
    waiting = [each for each in claims if each["waits_s"] >= 0]
    suspect = [each for each in sessions if each["state"] == "suspect"]
    told = [
        f"{each['name'] or each['claim']['session']} for {each['claim']['targets'][0]}, {render.span(each['waits_s'])}"
        for each in waiting[:_NAMED_MAX]
    ]
    told += [f"{each['name'] or each['id']} has missed its heartbeats" for each in suspect[:_NAMED_MAX]]
    if not told:
        return _row("sessions", engine.OK, f"{len(sessions)} alive, nobody waits")
    evidence = f"{len(sessions)} alive, {len(waiting)} wait, {len(suspect)} suspect: {'; '.join(told)}"
    return _row("sessions", engine.WARNING, evidence, "who holds what: cosession claims --all")


def _row(id: str, status: str, evidence: str, remedy: str = "") -> dict[str, Any]:
    return {"id": id, "status": status, "evidence": evidence, "remedy": remedy}


CHECKLIST = Verb(
    "checklist",
    "",
    run,
    summary="One page for the day: health, services, backups, disk, errors, sessions that wait.",
    text="It changes nothing and starts nothing. Exit code 0 when all is well, 1 with warnings, 2 with failures.",
    examples=(
        ("cosession checklist", "before the work begins"),
        ("cosession checklist --json", '{"checks": [...]}'),
    ),
)
