"""Makes the blocking client out of the asyncio one: `python tests/client/unasync.py` rewrites client/cosession/sync.

What differs between the two is in their `io.py`, written by hand; the modules below are the same but for the words of
RULES. A test compares the whole text, so the copies cannot drift apart; a rule that fits nothing any more is an error.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "client" / "cosession"
MODULES = (
    "linking",
    "verbs",
    "past",
    "series",
    "contended",
    "backups",
    "audit",
    "watch",
    "claim",
    "mail",
    "checkpoints",
    "recovery",
    "session",
    "client",
)
RULES = (
    (r"\basync (def|with|for) ", r"\1 "),
    (r"\bawait ", ""),
    (r"\bcosession\.aio\.connect\b", "cosession.connect"),
    (r"\b__anext__\b", "__next__"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
)
HEADER = "# Made from cosession/aio/{module}.py by tests/client/unasync.py; change that one.\n"


def translated(module: str) -> str:
    """The text of cosession/sync/`module`.py, formatted as the project is."""
    text = (PACKAGE / "aio" / f"{module}.py").read_text(encoding="utf-8")
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return formatted(HEADER.format(module=module) + text)


def formatted(text: str) -> str:
    """The text as `ruff format` leaves it: a line that lost a word may fit where it did not."""
    command = [sys.executable, "-m", "ruff", "format", "--no-cache", "--line-length", "120", "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout


def unused_rules() -> list[str]:
    """The patterns that match nothing in any module."""
    texts = [(PACKAGE / "aio" / f"{module}.py").read_text(encoding="utf-8") for module in MODULES]
    return [pattern for pattern, _ in RULES if not any(re.search(pattern, text) for text in texts)]


def main() -> None:
    """Write the modules."""
    for module in MODULES:
        (PACKAGE / "sync" / f"{module}.py").write_text(translated(module), encoding="utf-8")


if __name__ == "__main__":
    main()
