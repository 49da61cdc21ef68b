"""The screen of a verb that lasts: its lines, and on a terminal one more below them that says how it stands.

It also does the waiting: for the daemon, for the reader of a pipe to leave (then the verb is over), for the terminal to
be resized, for the time to draw the status anew.

Rule: standard library's C parts only. What is no terminal gets the lines and not one byte more.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from time import monotonic

from cosession.cli import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: A status that counts seconds is drawn as often; later it counts minutes.
_SECOND_S, _MINUTE_S = 1.0, 60.0


class Live:
    """`status` says how it stands now: a text, and the seconds it has stood so."""

    def __init__(self, status: Callable[[], tuple[str, float]], *, is_plain: bool) -> None:
        self._status = status
        self._has_status = not is_plain and render.is_terminal() and os.environ.get("TERM", "dumb") != "dumb"
        self._shown = ""
        self._pipe = _is_pipe()
        self._resized = _resizes() if self._has_status else -1

    def line(self, text: str) -> None:
        """One line, above the status; `wait` sends it on its way."""
        self._wipe()
        render.line(text)

    def wait(self, descriptor: int, wait_s: float | None) -> None:
        """Until `descriptor` (-1: none) is readable or `wait_s` (None: no end) have passed.

        Raises BrokenPipeError when nobody reads what we write any more.
        """
        if sys.stdout is not None:
            sys.stdout.flush()
        poll = select.poll()
        for watched, events in ((descriptor, select.POLLIN), (self._pipe, 0), (self._resized, select.POLLIN)):
            if watched >= 0:
                poll.register(watched, events)  # errors and hang-ups are always reported
        deadline = None if wait_s is None else monotonic() + wait_s
        while True:
            left = None if deadline is None else max(deadline - monotonic(), 0.0)
            tick = self._draw()
            waits = min((each for each in (left, tick) if each is not None), default=None)
            for ready, _ in poll.poll(None if waits is None else waits * 1000):
                if ready == self._pipe:
                    raise BrokenPipeError
                if ready == self._resized:
                    os.read(ready, 64)
                    self._shown = "?"  # whatever stands there, it is drawn anew
                if ready == descriptor:
                    return
            if left is not None and left <= (waits or 0.0):
                return

    def close(self) -> None:
        """Leave the lines alone."""
        self._wipe()
        if sys.stdout is not None:
            sys.stdout.flush()
        self._has_status = False

    def _draw(self) -> float | None:
        """Draw the status where it has changed; the seconds until it may have changed again."""
        if not self._has_status or sys.stdout is None:
            return None
        text, stood_s = self._status()
        text = render.cut(render.escape(text), render.terminal_width() - 1)
        if text != self._shown:
            sys.stdout.write(f"\r\x1b[K{render.paint(text, 'dim')}")
            sys.stdout.flush()
            self._shown = text
        return _SECOND_S if stood_s < _MINUTE_S else _MINUTE_S

    def _wipe(self) -> None:
        if self._shown and sys.stdout is not None:
            sys.stdout.write("\r\x1b[K")
            self._shown = ""


def _is_pipe() -> int:
    """Standard output where that is a pipe, whose reader may leave; else -1."""
    try:
        return 1 if stat.S_ISFIFO(os.fstat(1).st_mode) else -1
    except OSError:
        return -1


def _resizes() -> int:
    """A descriptor that is readable when the terminal was resized."""
    import _signal  # type: ignore[import-not-found,unused-ignore]  # `signal` is not light

    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    _signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGWINCH, lambda _number, _frame: None)
    return read_end
