"""The one question of verbs that do what cannot simply be taken back.

Rule: nobody is asked who cannot answer: without a terminal, or with --json, only --yes is a yes.
"""

from __future__ import annotations

import sys

from cosession.cli.options import Given, Option, usage_error
from cosession.errors import CosessionError

YES = Option("--yes", "", "do not ask")
DRY_RUN = Option("--dry-run", "", "only say what would be done")


def agree(given: Given, question: str) -> None:
    """Return when the user wants it; raises CosessionError when not, InvalidRequest where nobody can be asked."""
    if given.flag("--yes"):
        return
    if given.flag("--json") or sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
        raise usage_error(given.verb, "it asks before it does that; give --yes, or --dry-run to only see it")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CosessionError("cannot go on: you did not agree; nothing was done", code="not_allowed")
