"""`cosession logs`: the log of the daemon, readable: the file of one in the background, followed across its rotation,
or the journal of one that systemd runs; whichever was written last.

Rule: it reads and asks no daemon, so that it works when there is none. What was logged is foreign text: every part of
it is escaped.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from cosession import paths
from cosession.cli import data, render
from cosession.cli.options import Given, Option, Verb
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What stands for the path of what has none.
JOURNAL = "journal"
LINES = 20
LINES_MAX = 100_000
#: The daemon bounds what it logs to less; a longer line is no line of its log.
LINE_BYTES_MAX = 1024 * 1024
POLL_S = 0.2
_BLOCK_BYTES = 64 * 1024
_STYLES = {"error": "red", "warning": "yellow", "debug": "dim"}
#: What stands at the beginning of a line, or is the same in all.
_OWN = ("timestamp", "level", "event", "pid", "exception")


def run(given: Given) -> int:
    """Print the newest lines, then those that come; exit 1 when there is no log."""
    path = os.path.join(paths.log_directory(), "daemon.log")  # noqa: PTH118  # of the light half
    wanted = _wanted(given)
    follows = given.flag("--follow") or given.flag("-f")
    file = _open(path)
    if _is_in_journal(given, file):
        if file >= 0:
            os.close(file)
        return _show_journal(given, wanted, follows=follows)
    if file < 0:
        raise _none(path)
    tail = _Tail(path, file)
    try:
        _print(given, path, tail.newest(wanted), follows=follows)
        while follows:
            _print(given, path, tail.more(), follows=True)
    except KeyboardInterrupt:
        if not follows:
            raise
    finally:
        tail.close()
    return 0


def _is_in_journal(given: Given, file: int) -> bool:
    """Whether the journal has what was logged last. One home of several has its own file, and the journal is of all."""
    if given.flag("--journal"):
        return True
    if file >= 0 and os.environ.get("COSESSION_HOME"):
        return False
    from cosession.cli import journal

    last = journal.newest(1)
    return bool(last) and (file < 0 or journal.time_of(last[0]) > os.fstat(file).st_mtime)


def _show_journal(given: Given, wanted: int, *, follows: bool) -> int:
    from cosession.cli import journal

    if not journal.is_there():
        raise CosessionError("cannot show the journal: there is no journalctl; see the file", code="not_found")
    try:
        if follows:
            for event in journal.followed(wanted):
                _print_events(given, JOURNAL, [event], follows=True)
        else:
            _print_events(given, JOURNAL, journal.newest(wanted), follows=False)
    except KeyboardInterrupt:
        if not follows:
            raise
    return 0


def _wanted(given: Given) -> int:
    name = "--lines" if given.text("--lines") else "-n"
    return given.integer(name, LINES, low=0, high=LINES_MAX)


def _none(path: str) -> CosessionError:
    return CosessionError(
        f"cannot show the log: there is no {path}, since no daemon of this place ran in the background, and the "
        "journal has nothing of one that systemd runs (journalctl -t cosessiond); one in the foreground logs to its "
        "standard error; do: cosession start",
        code="not_found",
        data={"path": path},
    )


def _open(path: str) -> int:
    """A descriptor of the plain file, -1 when there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise CosessionError(f"cannot read {path}: it is no plain file; move it away", code="io_error")
    return file


def _newest(file: int, wanted: int) -> tuple[list[bytes], int]:
    """The last whole lines of the file, oldest first, and where they end."""
    size = begin = os.fstat(file).st_size
    parts: list[bytes] = []
    newlines = 0
    while begin > 0 and newlines <= wanted:
        block = os.pread(file, min(_BLOCK_BYTES, begin), max(begin - _BLOCK_BYTES, 0))
        begin = max(begin - _BLOCK_BYTES, 0)
        newlines += block.count(b"\n")
        parts.append(block)
    text = b"".join(reversed(parts))
    whole = text.rfind(b"\n") + 1
    lines = text[:whole].split(b"\n")[:-1]
    if begin > 0:
        del lines[:1]  # it may begin before what was read
    return lines[-wanted:] if wanted else [], size - (len(text) - whole)


class _Tail:
    """The end of the log, which the daemon renames to NAME.1 when it is full."""

    def __init__(self, path: str, file: int) -> None:
        self._path = path
        self._file = file
        self._position = 0
        self._rest = b""

    def newest(self, wanted: int) -> list[bytes]:
        """The newest lines; those that come are counted from here."""
        lines, self._position = _newest(self._file, wanted)
        if len(lines) < wanted and (older := _open(self._path + ".1")) >= 0:
            try:
                lines = _newest(older, wanted - len(lines))[0] + lines
            finally:
                os.close(older)
        return lines

    def more(self) -> list[bytes]:
        """What has come, waiting a moment when nothing has. A file that was renamed is read to its end first."""
        block = os.pread(self._file, _BLOCK_BYTES, self._position)
        if not block and not self._turn():
            time.sleep(POLL_S)
        self._position += len(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        self._rest = self._rest[-LINE_BYTES_MAX:]
        return lines

    def _turn(self) -> bool:
        """Whether another file stands there now, or this one was cut: then that is gone on with, from its beginning."""
        newer = _open(self._path)
        if newer < 0:
            return False
        ours, theirs = os.fstat(self._file), os.fstat(newer)
        same = (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
        if same and theirs.st_size >= self._position:
            os.close(newer)
            return False
        if not same and ours.st_size > self._position:
            os.close(newer)
            return True  # the last that was written before the renaming comes first
        os.close(self._file)
        self._file, self._position, self._rest = newer, 0, b""
        return True

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


# -- what is shown -----------------------------------------------------------------------------------------------------


def _print(given: Given, path: str, lines: list[bytes], *, follows: bool) -> None:
    _print_events(given, path, [_event(line) for line in lines], follows=follows)


def _print_events(given: Given, path: str, events: list[dict[str, Any]], *, follows: bool) -> None:
    if not given.flag("--json"):
        for event in events:
            _show(event)
    elif follows:
        for event in events:
            render.json_line(event)
    else:
        render.json_line({"path": path, "logs": events})
    if sys.stdout is not None:
        sys.stdout.flush()


def _event(line: bytes) -> dict[str, Any]:
    """The line as the daemon made it; what is not of it is an event of its own text."""
    text = line.decode("utf-8", "backslashreplace")
    try:
        found = data.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"event": text}


def _show(event: dict[str, Any]) -> None:
    level = str(event.get("level", "-"))
    about = "  ".join(
        f"{render.escape(str(name))}={render.brief(value)}" for name, value in event.items() if name not in _OWN
    )
    head = f"{_moment(event.get('timestamp'))}  {render.pad(render.escape(level), 7)}"
    style = _STYLES.get(level)
    text = f"{render.paint(head, style) if style else head}  {render.escape(str(event.get('event', '')))}"
    render.line(f"{text}  {about}" if about else text)
    for line in str(event.get("exception", "")).splitlines():
        render.line(f"    {render.escape(line)}")


def _moment(timestamp: Any) -> str:
    """The local time of a timestamp, as wide for what is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(timestamp)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return "-".ljust(19)


LOGS = Verb(
    "logs",
    "",
    run,
    summary="Show the log of the daemon: of one in the background its file, of one under systemd the journal.",
    text="It shows whichever was written last, asks no daemon and starts none. A daemon in the foreground logs to its\n"
    "standard error instead. How much is logged: log.level of the configuration, or for a while: debug loglevel.",
    options=(
        Option("--follow", "", "go on with what comes, across the rotation; Ctrl-C ends it"),
        Option("-f", "", "the same"),
        Option("--journal", "", "what journald has, whatever the file says"),
        Option("--lines", "N", f"so many of the newest (default {LINES})"),
        Option("-n", "N", "the same"),
    ),
    examples=(
        ("cosession logs", "what happened lately"),
        ("cosession logs -f", "and what happens now"),
        ("cosession logs -n 1000 --json", '{"path": ..., "logs": [...]}'),
    ),
)
