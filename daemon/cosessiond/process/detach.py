"""The way into the background: double fork, new session, no inherited descriptors, and a word back when ready.

Rule: the process that was started returns only when the daemon serves, or with the reason why it does not: whoever
starts a daemon never has to guess or to poll.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

_READY: Final = b"ready"
_REASON_BYTES_MAX: Final = 4096
#: Where the system sets no limit: it answers -1 (Linux), or the largest number it knows (macOS), which is no count.
_DESCRIPTORS_MAX: Final = 1 << 20


class Readiness:
    """The daemon's end of the pipe to the process that started it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """The socket answers."""
        self._tell(_READY)

    def failed(self, code: int, reason: str) -> None:
        """The daemon will not start and exits with `code`."""
        self._tell(f"{code} {reason}".encode()[:_REASON_BYTES_MAX])

    def _tell(self, word: bytes) -> None:
        held, self._descriptor = self._descriptor, -1
        if held < 0:
            return
        try:
            os.write(held, word)
        except BrokenPipeError:
            pass  # whoever started us has stopped waiting
        finally:
            os.close(held)


def detach(run: Callable[[Readiness], int]) -> int:
    """Run `run` in a detached grandchild; returns, in the caller, 0 when it is ready or its exit code otherwise.

    The reason of a failure goes to the caller's standard error.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become_daemon(run, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        word = pipe.read(_REASON_BYTES_MAX)
    os.waitpid(child, 0)
    if word == _READY:
        return 0
    code, _, reason = word.decode(errors="replace").partition(" ")
    sys.stderr.write((reason or "cosessiond: cannot start: the daemon ended before it was ready") + "\n")
    return int(code) if code.isdigit() else 70


def _become_daemon(run: Callable[[Readiness], int], writing: int) -> NoReturn:
    """In the child: leave the session, fork once more, let go of everything, run, and never return."""
    code = 70
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.umask(0o077)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        keep = 3
        os.dup2(writing, keep, inheritable=False) if writing != keep else os.set_inheritable(keep, False)
        os.closerange(keep + 1, _descriptors_max())
        code = run(Readiness(keep))
    finally:
        os._exit(code)


def _descriptors_max() -> int:
    found = os.sysconf("SC_OPEN_MAX")
    return found if 0 < found <= _DESCRIPTORS_MAX else _DESCRIPTORS_MAX
