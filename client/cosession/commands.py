"""A foreign program run to its end: with a deadline, a bound on what it may say, and nothing left of it afterwards.

Rule: it is started in a process group of its own, which is killed as a whole when its time is over, so that no wait
here is longer than was asked for, whatever the program or its children do.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cosession.errors import CosessionError, TimedOut

#: Of each of the two streams so much is kept, from its beginning; the rest is read and forgotten.
SAID_BYTES_MAX: Final = 1024 * 1024
#: How long a stream is still read when the program has ended: a child of it may hold it open for ever.
_LINGERS_S: Final = 0.2
_POLL_S: Final = 0.01
_READ_BYTES: Final = 64 * 1024


class Done(NamedTuple):
    """What became of it: its exit code (-N when signal N ended it), what it said on both streams."""

    code: int
    out: str
    err: str


def run(
    command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None, directory: str | None = None
) -> Done:
    """Run it to its end. Raises TimedOut when that does not come in time, CosessionError not_found or io_error when it
    cannot be started.
    """
    try:
        child = subprocess.Popen(  # noqa: S603 - its callers name programs of the system or of the user's own file
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=directory,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CosessionError(
            f"cannot run {command[0]}: there is no such program; install it", code="not_found"
        ) from None
    except OSError as error:
        why = error.strerror or error
        raise CosessionError(f"cannot run {command[0]}: {why}; see to its owner and mode", code="io_error") from error
    with child:
        try:
            out, err = _heard(child, time.monotonic() + timeout_s)
            is_over = _has_ended(child)
        finally:
            _end(child)
        code = child.wait()
    if not is_over:
        raise TimedOut(
            f"cannot wait for {command[0]}: it did not end within {timeout_s:g} s and was killed; "
            "run it by hand and see what it waits for"
        )
    return Done(code, out.decode(errors="replace"), err.decode(errors="replace"))


def _heard(child: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """What it says until both streams and it itself have ended, or its time is over."""
    assert child.stdout is not None, "started with pipes"
    assert child.stderr is not None, "started with pipes"
    said = {child.stdout: bytearray(), child.stderr: bytearray()}
    is_over = False
    with selectors.DefaultSelector() as selector:
        for stream in said:
            selector.register(stream, selectors.EVENT_READ)
        while (selector.get_map() or not is_over) and (left := deadline - time.monotonic()) > 0:
            if not is_over and _has_ended(child):
                is_over = True
                deadline = min(deadline, time.monotonic() + _LINGERS_S)
            if not selector.get_map():
                time.sleep(min(left, _POLL_S))
                continue
            for key, _ in selector.select(min(left, _LINGERS_S)):
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                kept = said[key.fileobj]  # type: ignore[index]  # it is one of the two
                kept += data[: SAID_BYTES_MAX - len(kept)]
    return bytes(said[child.stdout]), bytes(said[child.stderr])


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without collecting it where that can be told: until then nobody else gets its number."""
    waitid = getattr(os, "waitid", None)  # not on macOS before Python 3.13
    if waitid is None or child.returncode is not None:
        return child.poll() is not None
    return waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of its group, which has the number of its first process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
