"""An act of the maintenance as a child process: started, heard, its progress drawn, its error raised.

Rule: the child is ours alone, and over when this returns, however it returns; whatever it did to the store is whole
then, since its acts are safe to end at any moment.
"""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

from cosession.cli import data
from cosession.errors import CosessionError, TimedOut, error_from
from cosession.reach import spawn_command, spawn_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from cosession.cli.progress import Progress

#: What it may take to end after it was asked to.
ENDS_S: Final = 5.0
_SAID_CHARS_MAX: Final = 2_000
#: As `cli.main.PIPE_CLOSED`: whoever was to read what it writes has hung up.
_PIPE_CLOSED: Final = 141


def act(
    bar: Progress, name: str, *arguments: str, pass_fds: Sequence[int] = (), timeout_s: float = 0.0
) -> dict[str, Any]:
    """The result of `cosessiond NAME ARGUMENTS`; raises the error of the catalogue that it ends with, TimedOut when it
    was not over in time (0: however long it takes).
    """
    *command, _ = spawn_command()
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own package
        [*command, name, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=spawn_environment(os.environ),
        pass_fds=pass_fds,
        text=True,
        errors="replace",
    ) as child:
        clock = threading.Timer(timeout_s, child.kill) if timeout_s else None
        if clock:
            clock.start()
        try:
            last = _heard(child, bar)
            said = child.stderr.read(_SAID_CHARS_MAX) if child.stderr else ""
            code = child.wait()
        finally:
            is_late = clock is not None and clock.finished.is_set()
            if clock:
                clock.cancel()
            _end(child)
    if "result" in last:
        result: dict[str, Any] = last["result"]
        return result
    if "error" in last:
        error = last["error"]
        raise error_from(error["code"], error["message"], error["data"])
    if code == _PIPE_CLOSED:
        raise BrokenPipeError
    if is_late:
        raise TimedOut(f"cannot wait for `cosessiond {name}`: it was not over within {timeout_s:g} s; run it by itself")
    why = said.strip().splitlines()[-1:] or [f"it ended with {code}"]
    raise CosessionError(f"cannot go on: `cosessiond {name}` said nothing, {why[0]}; run it again", code="internal")


def _heard(child: subprocess.Popen[str], bar: Progress) -> dict[str, Any]:
    """The last word of the child; what it says before is shown."""
    what = ""
    last: dict[str, Any] = {}
    assert child.stdout is not None, "started with a pipe"
    for line in child.stdout:
        last = data.loads(line)
        if "progress" in last:
            far = last["progress"]
            if far["what"] != what:
                what = far["what"]
                bar.now(what, far["total"])
            bar.reach(far["done"])
    return last


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:  # Ctrl-C, for one
        child.terminate()
        try:
            child.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            child.kill()
