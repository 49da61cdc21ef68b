"""`cosession doctor`: what is wrong and what to do; on request it mends what is safe, or packs all up for others.

Rule: without --fix it changes nothing and starts nothing; with it the plan is shown first.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import gmtime, strftime
from typing import TYPE_CHECKING

from cosession.cli import asking, child, holder, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.progress import Progress
from cosession.cli.restore import refuse_socket
from cosession.doctor import engine, table
from cosession.errors import ConfigError, CosessionError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

#: How long the daemon may take for its answer, unless --timeout says otherwise.
ANSWER_S: Final = 3.0
STYLES: Final = {engine.OK: "green", engine.WARNING: "yellow", engine.FAILURE: "red", engine.CRITICAL: "red"}


def run(given: Given) -> int:
    """Print every check; exit 0 when all is well, 1 with warnings, 2 with failures."""
    refuse_socket(given)
    _refuse_combinations(given)
    ground, found = examined(given, table.DOCTOR)
    body: dict[str, Any] = {"checks": found}
    if not given.flag("--json"):
        print_checks(found)
    if given.flag("--fix"):
        found = _mend(given, ground, found, body)
    if given.flag("--support-bundle"):
        _pack(given, ground, found, body)
    if given.flag("--json"):
        render.json_line(body)
    return engine.EXIT[engine.worst(found)]


def examined(
    given: Given, checks: Iterable[engine.Check], *, project: str = "", session: str = ""
) -> tuple[engine.Ground, list[dict[str, Any]]]:
    """The checks as they came out, and the ground they looked at."""
    with Progress(given, "looking") as bar:
        ground = ground_of(given, bar, project=project, session=session)
        return ground, engine.examine(ground, checks, tell=lambda id: bar.now(f"looking: {id}"))


def ground_of(given: Given, bar: Progress, *, project: str = "", session: str = "") -> engine.Ground:
    """Where to look. The daemon is asked first, once for all checks."""
    timeout_s = given.timeout_s() if given.flag("--timeout") else ANSWER_S
    # A scrub is answered when all was looked at.
    asking_s = engine.LONG_S if given.flag("--deep") else timeout_s

    status: dict[str, Any] | None = None
    silence = ""
    try:
        status = Line(given, spawn=False, timeout_s=timeout_s).ask("status", {})
    except Unreachable as error:
        silence = "" if error.data.get("running") is False and holder.living_holder() is None else error.message
    except ConfigError:
        silence = "cannot ask it: there is no path to it; see what the check `socket` says"
    except CosessionError as error:
        silence = error.message
    return engine.Ground(
        status=status,
        silence=silence,
        ask=lambda method, params: Line(given, spawn=False, timeout_s=asking_s).ask(method, params),
        act=lambda *words: child.act(bar, *words, timeout_s=engine.LONG_S - 10.0),
        living=holder.living_holder,
        deep=given.flag("--deep"),
        project=project,
        session=session,
    )


def print_checks(found: list[dict[str, Any]]) -> None:
    """One line for each, and below it what to do."""
    for check in found:
        said = render.paint(f"{check['status']:<8}", STYLES[check["status"]])
        render.line(f"{said} {check['id']:<11} {render.escape(check['evidence'])}")
        if check["remedy"]:
            render.line(f"{'':20} {render.escape(check['remedy'])}")


def _refuse_combinations(given: Given) -> None:
    if given.flag("--dry-run") and not given.flag("--fix"):
        raise usage_error(given.verb, "--dry-run is for --fix; without --fix nothing is changed anyway")


def _mend(
    given: Given, ground: engine.Ground, found: list[dict[str, Any]], body: dict[str, Any]
) -> list[dict[str, Any]]:
    """Show the plan; do it when it is agreed to, and look again."""
    from cosession.doctor import mending

    changes = mending.plan(ground)
    body["fixes"] = [change._asdict() for change in changes]
    is_shown = not given.flag("--json")
    if not changes:
        if is_shown:
            render.line("\nnothing can be mended without a decision of yours; the remedies stand above")
        return found
    if is_shown:
        render.line("\nwould do:" if given.flag("--dry-run") else "\nto be done:")
        for change in changes:
            render.line(f"  {render.escape(str(change))}")
    if given.flag("--dry-run"):
        return found
    asking.agree(given, f"do {'this' if len(changes) == 1 else f'these {len(changes)}'}?")
    body["mended"] = told = mending.mend(ground, changes)
    _, body["checks"] = examined(given, table.DOCTOR)
    if is_shown:
        render.line(f"done {len(told['done'])}; what was there is on record in {render.escape(told['record'])}")
        for text in told["left"]:
            render.line(f"  {render.paint('left', 'yellow')} {render.escape(text)}")
        render.line()
        print_checks(body["checks"])
    checks: list[dict[str, Any]] = body["checks"]
    return checks


def _pack(given: Given, ground: engine.Ground, found: list[dict[str, Any]], body: dict[str, Any]) -> None:
    from cosession.doctor import bundle

    named = given.text("--support-bundle")
    target = Path(named)
    if named.endswith("/") or target.is_dir():
        target = target / f"cosession-support-{strftime('%Y%m%dT%H%M%SZ', gmtime())}.tar.gz"
    target = Path(os.path.abspath(target))  # noqa: PTH100 - without resolving links
    manifest = bundle.write(ground, found, target)
    body["bundle"] = {"path": str(target), **manifest}
    if not given.flag("--json"):
        size = sum(each["size_bytes"] for each in manifest["files"])
        files = render.count(len(manifest["files"]), "file")
        render.line(f"\npacked {files}, {render.size(size)}, into {render.escape(str(target))}")
        render.line("secrets and names are replaced; look through it before you send it: tar -tzf FILE")


DOCTOR = Verb(
    "doctor",
    "",
    run,
    summary="Look at installation, daemon, store, backups, disk, units and log; say what is wrong and what to do.",
    text="It changes nothing, and works with the daemon down: the store is judged as a start would judge it.\n"
    "--fix shows what it can mend by itself (modes, a stale socket, what was never finished), asks, and keeps a\n"
    "record. Exit code 0 when all is well, 1 with warnings, 2 with failures.",
    options=(
        Option("--deep", "", "read everything: every row of the store, every backup from end to end"),
        Option("--fix", "", "mend what can be mended safely"),
        asking.DRY_RUN,
        asking.YES,
        Option("--support-bundle", "FILE", "pack what others need to see into FILE (.tar.gz), or a directory"),
    ),
    examples=(
        ("cosession doctor", "what is wrong"),
        ("cosession doctor --deep --json", "for programs, every row looked at"),
        ("cosession doctor --fix --dry-run", "what it could mend by itself"),
        ("cosession doctor --support-bundle .", "an archive for whoever helps you; secrets and names are replaced"),
    ),
)
