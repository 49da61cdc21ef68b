"""`cosession preflight`: may an action begin here; the checks of the doctor's engine, for a worktree.

Rule: exit code 1 for what is critical and for nothing else, so that a hook can go by it.
"""

from __future__ import annotations

from typing import Final

from cosession.cli import doctor, render
from cosession.cli.options import Given, Verb
from cosession.cli.scope import project_of_command, session_of_command
from cosession.doctor import engine, table

_CRITICAL: Final = 1


def run(given: Given) -> int:
    """Print the checks and their totals."""
    _, found = doctor.examined(
        given, table.PREFLIGHT, project=project_of_command(given), session=session_of_command(given)
    )
    totals = engine.totals(found)
    if given.flag("--json"):
        render.json_line({"checks": found, **totals})
    else:
        doctor.print_checks(found)
        render.line()
        render.line(", ".join(f"{count} {name}" for name, count in totals.items()))
    return _CRITICAL if totals["critical"] else 0


PREFLIGHT = Verb(
    "preflight",
    "",
    run,
    summary="Before an action in a worktree: git, rights, room, locks, others' claims on what was changed, your rule.",
    text="Your rule is a command of your own configuration (preflight.compliance), run in the worktree; what it\n"
    "refuses is critical. Exit code 1 when something is critical, else 0.",
    examples=(
        ("cosession preflight", "may I commit here"),
        ("cosession preflight && git commit", "only then"),
        ("cosession preflight --json", '{"checks": [...], "passed": 6, "failed": 0, "warnings": 1, "critical": 0}'),
    ),
)
