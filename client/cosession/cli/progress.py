"""The one progress bar of all verbs: a line on standard error while something takes over a second.

    with Progress(given, "trimming", total=rows) as bar:
        bar.reach(done)

Without a total it is a spinner with what is being done. It appears after a second, on a terminal only and never with
`--json`; where that is not UTF-8 it is ASCII; it has no colour, so NO_COLOR changes nothing; it is wiped at the end,
also by an error or Ctrl-C. A thread of its own draws it, so whatever blocks meanwhile blocks no drawing.

Rule: nothing else is written to the terminal while it is up: print before or after the `with`.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, start_new_thread
from time import monotonic

from cosession.cli import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from cosession.cli.options import Given

#: What is done sooner needs no bar.
APPEARS_S = 1.0
_EVERY_S = 0.1
_BAR_CELLS = 24
#: What would leave less than this for the words is left out.
_WORDS_CELLS_MIN = 16
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINNER_ASCII = "|/-\\"
#: Of work within work only the outer shows.
_is_any_up = False


class Progress:
    """How far a piece of work is. `total`: where it ends, 0 when nobody knows. `show`: a number for people."""

    def __init__(self, given: Given, what: str, total: int = 0, *, show: Callable[[int], str] = "{:,}".format) -> None:
        self._what = what
        self._total = total
        self._show = show
        self._reached = 0
        self._began = monotonic()
        self._wanted = not given.flag("--json") and sys.stderr is not None and sys.stderr.isatty()
        self._is_up = False
        self._work = allocate_lock()  # held as long as the work goes on
        self._drawing = allocate_lock()  # held as long as something may be drawn

    def reach(self, done: int) -> None:
        """So much is done, of the total; costs nothing to speak of, so call it as often as it is true."""
        self._reached = done

    def now(self, what: str, total: int = 0) -> None:
        """The next part of the work begins: say this from now on, and count anew."""
        self._what, self._total, self._reached = what, total, 0

    def __enter__(self) -> Self:
        global _is_any_up  # noqa: PLW0603 (there is one terminal)
        if self._wanted and not _is_any_up:
            self._is_up = _is_any_up = True
            self._work.acquire()
            self._drawing.acquire()
            try:
                start_new_thread(self._draw, ())
            except RuntimeError:  # no more threads for this user: the work matters, the bar does not
                self._drawing.release()
        return self

    def __exit__(self, *exception: object) -> None:
        global _is_any_up  # noqa: PLW0603
        if self._is_up:
            self._work.release()
            self._drawing.acquire()
            self._is_up = _is_any_up = False

    def _draw(self) -> None:
        """The thread: waits for the end of the work, and draws whenever that has not come."""
        wait_s, frame = APPEARS_S, 0
        try:
            while not self._work.acquire(timeout=wait_s):
                _rewrite(self._text(frame))
                wait_s, frame = _EVERY_S, frame + 1
            if frame:
                _rewrite("")
        except (OSError, ValueError):
            pass  # the terminal has gone, and what it showed with it
        finally:
            self._drawing.release()

    def _text(self, frame: int) -> str:
        """The line at this moment, one column shorter than the terminal so that it never wraps."""
        utf8 = render.is_utf8(sys.stderr)
        done, total = self._reached, self._total
        bar = part = count = ""
        what = render.escape(self._what)
        if total:
            full, empty = "█░" if utf8 else "#-"
            cells = round(min(done / total, 1.0) * _BAR_CELLS)
            bar = f"  {full * cells}{empty * (_BAR_CELLS - cells)}"
            part = f"  {min(done / total, 1.0):4.0%}"
        else:
            frames = _SPINNER if utf8 else _SPINNER_ASCII
            what = f"{frames[frame % len(frames)]} {what}"
        if done:
            count = f"  {self._show(done)}{f' of {self._show(total)}' if total else ''}"
        time = f"  {monotonic() - self._began:.0f} s"
        room = _columns() - 1
        # What is dropped first where it is narrow: the drawing, then the figures behind it.
        for after in (bar + part + count + time, part + count + time, part + time, part):
            if room - len(after) >= _WORDS_CELLS_MIN:
                return render.cut(what, room - len(after)) + after
        return render.cut(what, room)


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def _rewrite(text: str) -> None:
    """Put `text` in the place of the line; a terminal that knows no sequences is wiped with blanks."""
    if os.environ.get("TERM", "dumb") == "dumb":
        wide = _columns() - 1
        text = f"\r{' ' * wide}\r{text[:wide]}"
    else:
        text = f"\r\x1b[K{text}"
    assert sys.stderr is not None, "looked at before"
    sys.stderr.write(text)
    sys.stderr.flush()
