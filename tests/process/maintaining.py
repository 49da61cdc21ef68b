"""Running an act of the maintenance as the command line does: a child, and one JSON object a line of what it says.

A child is forked from a process that has imported everything and done nothing, which takes a tenth of the time; the
command line itself is started by the tests under tests/cli/ and wherever one is killed.

Rule: what is asked of every act is asked in `act`: whole lines, progress first, one last word, and an exit code that is
the catalogue's for the error it names.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cosession.errors import CATALOGUE
from cosessiond.maintenance.acts import ACTS
from harness import MEASURED
from process.forked import become
from process.starting import environment, readable

ENDS_S = 60.0
COMMAND = (sys.executable, "-m", "cosessiond")
_ALWAYS = ("cosessiond.__main__", "cosessiond.maintenance.frame")
_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload([*(where.partition(":")[0] for where, _ in ACTS.values()), *_ALWAYS])


class Said(NamedTuple):
    """What an act said: how far it was, and its result or its error."""

    progress: list[dict[str, Any]]
    result: dict[str, Any] | None
    error: dict[str, Any] | None


def act(home: Path, *arguments: str, command: Sequence[str] = COMMAND) -> Said:
    """Run an act to its end."""
    if tuple(command) == COMMAND and not MEASURED:
        return heard(*_forked(home, arguments))
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


def _forked(home: Path, arguments: Sequence[str]) -> tuple[str, int, str]:
    """What it wrote, its exit code, and what it wrote to standard error."""
    with tempfile.TemporaryDirectory(prefix="cs-act-") as place:
        files = [os.path.join(place, name) for name in ("out", "err")]  # noqa: PTH118
        child = _CHILDREN.Process(target=become, args=(list(arguments), environment(home), *files))
        child.start()
        child.join(ENDS_S)
        assert child.exitcode is not None, f"it did not end within {ENDS_S:g} s"
        out, err = (Path(each).read_text(encoding="utf-8") for each in files)
        return out, child.exitcode, err


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
