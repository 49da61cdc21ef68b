"""Running an act of the maintenance as the command line does: a child, and one JSON object a line of what it says.

Rule: what is asked of every act is asked in `act`: whole lines, progress first, one last word, and an exit code that is
the catalogue's for the error it names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cosession.errors import CATALOGUE
from process.starting import environment, readable

ENDS_S = 60.0
COMMAND = (sys.executable, "-m", "cosessiond")


class Said(NamedTuple):
    """What an act said: how far it was, and its result or its error."""

    progress: list[dict[str, Any]]
    result: dict[str, Any] | None
    error: dict[str, Any] | None


def act(home: Path, *arguments: str, command: Sequence[str] = COMMAND) -> Said:
    """Run an act to its end."""
    done = subprocess.run(
        [*command, *arguments],
        env=environment(home),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_S,
        check=False,
    )
    return heard(done.stdout, done.returncode, done.stderr)


def heard(out: str, code: int, err: str) -> Said:
    """What the lines of an act mean."""
    assert not err, err
    *progress, last = [json.loads(line) for line in out.splitlines()]
    assert all(list(each) == ["progress"] for each in progress), progress
    assert list(last) in (["result"], ["error"]), last
    error = last.get("error")
    if error:
        assert list(error) == ["code", "message", "retryable", "data"]
        assert (code, error["retryable"]) == (CATALOGUE[error["code"]][2], CATALOGUE[error["code"]][1])
        readable(error["message"])
    else:
        assert code == 0, code
    return Said([each["progress"] for each in progress], last.get("result"), error)


def done(home: Path, *arguments: str) -> dict[str, Any]:
    """The result of an act that must succeed."""
    said = act(home, *arguments)
    assert said.result is not None, said.error
    return said.result


def refused(home: Path, *arguments: str, code: str) -> dict[str, Any]:
    """The error of an act that must end with `code`."""
    said = act(home, *arguments)
    assert said.error is not None, said.result
    assert said.error["code"] == code, said.error
    return said.error
