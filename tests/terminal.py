"""A real terminal for a command, and a person at it: types, waits for what appears, resizes, reads the screen.

    with Terminal(["cosession", "watch"], env=..., cwd=...) as terminal:
        terminal.wait_for("caught up")
        terminal.type("\\x03")                              # Ctrl-C, by way of the terminal's own line discipline

The command is the leader of a session whose controlling terminal this is, so Ctrl-C, SIGWINCH and hang-ups are those of
the kernel. `screen` is what a person sees: the output run through a screen of the sequences that our programs and the
shells' line editors use; a sequence it does not know is an error, so nothing is shown that was not understood.

Rule: every wait has an end, and one that fails shows the screen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self
from unicodedata import combining, east_asian_width

WAIT_S = 60.0 if "COVERAGE_PROCESS_CONFIG" in os.environ else 20.0
_CSI = re.compile(r"\x1b\[([?>=<]?)([0-9;:]*)([ -/]*)([@-~])")
#: Strings to the terminal (titles, directories, marks of shell integration), queries of its abilities, character sets,
#: the keypad: nothing to see.
_UNSEEN = re.compile(r"\x1b(\][^\x07\x1b]*(\x07|\x1b\\)|P[^\x1b]*\x1b\\|[()][A-Za-z0-9]|[=>78])")


class Screen:
    """Rows of characters and a cursor, as far as one line editor and our own programs go."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self._rest = ""

    @property
    def text(self) -> str:
        """What is to be seen, without blanks at the ends of rows."""
        return "\n".join("".join(row).rstrip() for row in self.rows)

    def feed(self, text: str) -> None:
        """Show output as it comes; an unfinished sequence waits for its rest."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            char = text[at]
            if char != "\x1b":
                self._plain(char)
                at += 1
                continue
            unseen = _UNSEEN.match(text, at)
            sequence = unseen or _CSI.match(text, at)
            if sequence is None:
                assert len(text) - at < 200, f"a sequence this screen does not know: {text[at : at + 20]!r}"
                self._rest = text[at:]
                return
            if not unseen:
                self._control(sequence)
            at = sequence.end()

    def _plain(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row += 1
        elif char == "\b":
            self.column = max(self.column - 1, 0)
        elif char == "\t":
            self.column = min((self.column // 8 + 1) * 8, self.columns - 1)
        elif char >= " ":
            wide = 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1
            if self.column + wide > self.columns:
                self.row, self.column = self.row + 1, 0
            self._put(char, wide)
        while len(self.rows) <= self.row:
            self.rows.append([])

    def _put(self, char: str, wide: int) -> None:
        while len(self.rows) <= self.row:
            self.rows.append([])
        row = self.rows[self.row]
        row += [" "] * (self.column - len(row))
        if not wide:
            if self.column:
                row[self.column - 1] += char
            return
        row[self.column : self.column + wide] = [char, ""][:wide]
        self.column += wide

    def _control(self, sequence: re.Match[str]) -> None:
        private, numbers, _, final = sequence.groups()
        first = numbers.split(";")[0]
        count = int(first) if first.isdigit() else 0
        if private or final in "mhlcntqurS":
            return  # colours, modes, questions: nothing to see
        row = self.rows[self.row]
        if final == "K":
            if count == 0:
                del row[self.column :]
            elif count == 1:
                row[: self.column] = [" "] * min(self.column, len(row))
            else:
                row.clear()
        elif final == "J":
            if count == 0:
                del row[self.column :]
                del self.rows[self.row + 1 :]
            else:
                self.rows, self.row = [[]], 0
        elif final == "A":
            self.row = max(self.row - max(count, 1), 0)
        elif final == "B":
            self.row += max(count, 1)
        elif final == "C":
            self.column = min(self.column + max(count, 1), self.columns - 1)
        elif final == "D":
            self.column = max(self.column - max(count, 1), 0)
        elif final == "G":
            self.column = max(count - 1, 0)
        elif final == "P":
            del row[self.column : self.column + max(count, 1)]
        elif final == "@":
            row[self.column : self.column] = [" "] * max(count, 1)
        elif final == "X":
            row[self.column : self.column + max(count, 1)] = [" "] * max(count, 1)
        elif final == "H":
            row_, _, column_ = numbers.partition(";")
            self.row, self.column = int(row_ or 1) - 1, int(column_ or 1) - 1
        else:
            raise AssertionError(f"a sequence this screen does not know: {sequence.group()!r}")
        while len(self.rows) <= self.row:
            self.rows.append([])


class Terminal:
    """One command on one terminal. `raw` is all that came out of it."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: str, columns: int = 80, rows: int = 24
    ) -> None:
        self.raw = b""
        self.code: int | None = None
        self.shown = Screen(columns)
        self._text = ""
        # Its size is that of the terminal; COLUMNS (pytest-xdist sets it) would go before that.
        given = {"TERM": "xterm", **{name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}}
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                _size(0, columns, rows)
                os.execvpe(command[0], list(command), given)  # noqa: S606 (no shell but the one that is tested)
            finally:
                os._exit(127)

    @property
    def screen(self) -> str:
        """What a person sees now."""
        return self.shown.text

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def resize(self, columns: int, rows: int = 24) -> None:
        """Drag the corner of the window; the kernel sends SIGWINCH."""
        self.shown.columns = columns
        _size(self._fd, columns, rows)

    def wait_for(self, text: str, *, since: int = 0, wait_s: float = WAIT_S) -> None:
        """Until `text` is on the screen, not looking at its first `since` characters."""
        self.wait_until(lambda: text in self.screen[since:], f"{text!r} to appear", wait_s)

    def wait_until(self, holds, what: str, wait_s: float = WAIT_S) -> None:
        """Until `holds()`; asked again after each output."""
        deadline = time.monotonic() + wait_s
        while not holds():
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {what}; the screen is:\n{self.screen}\n{self.raw[-500:]!r}"
            if not self.read(min(left, 0.2)) and self.code is not None and not holds():
                raise AssertionError(f"waited for {what}; the command ended with {self.code}:\n{self.screen}")

    def read(self, wait_s: float) -> bool:
        """Take what comes within `wait_s`; whether something came."""
        if self._fd < 0 or not select.select([self._fd], [], [], wait_s)[0]:
            return False
        try:
            more = os.read(self._fd, 65536)
        except OSError:  # EIO, how Linux says that the other end is closed
            more = b""
        if not more:
            self._reap()
            return False
        self.raw += more
        text = self.raw.decode(errors="ignore")  # a character cut in two comes with the next read
        self.shown.feed(text[len(self._text) :])
        self._text = text
        return True

    def settle(self, quiet_s: float = 0.3) -> None:
        """Read until nothing has come for `quiet_s`."""
        while self.read(quiet_s):
            pass

    def finish(self, wait_s: float = WAIT_S) -> int:
        """Until the command has ended; its exit code, minus the signal that ended it."""
        deadline = time.monotonic() + wait_s
        while self.code is None:
            assert time.monotonic() < deadline, f"it does not end; the screen is:\n{self.screen}"
            self.read(0.2)
        return self.code

    def close(self) -> None:
        """Hang up, and end what is still there."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _reap(self) -> None:
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)


def _size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
