"""The daemon's log: structlog, readable on a terminal, fields of the journal under systemd, one JSON object per line
otherwise.

Rule: one escape function for everything that came from outside; a log line is always one line, but for a traceback
on a terminal. The file that a detached daemon writes is bounded: it rotates at LOG_BYTES_MAX and one older is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from cosessiond.process import journald

LOG_BYTES_MAX: Final = 8 * 1024 * 1024
_LEVELS: Final = ("debug", "info", "warning", "error")
_TEXT_MAX: Final = 2_000
#: Lines of a traceback in one event. The newest are kept: they say what went wrong, and where.
TRACEBACK_LINES_MAX: Final = 60


def escape(text: str) -> str:
    """`text` with everything but printable characters as Python escapes, at most 2,000 characters."""
    if text.isprintable() and len(text) <= _TEXT_MAX:
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_TEXT_MAX])


class RotatingFile:
    """A text sink that renames itself to NAME.1 when it has grown to LOG_BYTES_MAX."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def write(self, text: str) -> int:
        """Append; rotate first when full."""
        if self._size > LOG_BYTES_MAX:
            self._file.close()
            self._path.replace(f"{self._path}.1")
            self._open()
        self._size += len(text)
        return self._file.write(text)

    def flush(self) -> None:
        """Hand over to the kernel."""
        self._file.flush()

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
        self._size = os.fstat(descriptor).st_size


class Forgiving:
    """A sink whose failures cost the line and nothing else: a full disk or a closed terminal is no reason to stop."""

    def __init__(self, sink: TextIO | RotatingFile) -> None:
        self._sink = sink

    def write(self, text: str) -> int:
        """Write, or lose it."""
        with contextlib.suppress(OSError, ValueError):
            return self._sink.write(text)
        return 0

    def flush(self) -> None:
        """Hand over, or lose it."""
        with contextlib.suppress(OSError, ValueError):
            self._sink.flush()


class Threshold:
    """A processor that drops what is less severe than `level`, which may change while the daemon runs: what is
    `configured`, or `override` while that is set.
    """

    def __init__(self, level: str) -> None:
        self.configured = level
        self.override = ""

    @property
    def level(self) -> str:
        """The one in force."""
        return self.override or self.configured

    def __call__(self, _logger: Any, method: str, event: Any) -> Any:
        """See structlog's processors."""
        if _LEVELS.index(method) < _LEVELS.index(self.level):
            raise structlog.DropEvent
        return event


def open_log(threshold: Threshold, *, file: Path | None) -> Any:
    """A bound structlog logger: to `file` when given, else to the journal when that is where standard error goes, else
    to standard error.
    """
    logger, renderer = _written_to(file)
    return structlog.wrap_logger(
        logger,
        processors=[
            threshold,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape_values,
            _render_traceback,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=True,
    ).bind(pid=os.getpid())


def _written_to(file: Path | None) -> tuple[Any, Any]:
    """Where events go, and what makes of an event what goes there."""
    if file is None and journald.is_journal():
        return journald.Journal(), journald.rendered
    sink: TextIO | RotatingFile = RotatingFile(file) if file is not None else sys.stderr
    logger = structlog.WriteLogger(Forgiving(sink))  # type: ignore[arg-type]  # it writes and flushes, which is all that is used
    if file is not None or not sys.stderr.isatty():
        return logger, structlog.processors.JSONRenderer()
    return logger, structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
    )


def _render_traceback(_logger: Any, _method: str, event: Any) -> Any:
    """`exc_info` as the text `exception`, a line of it escaped as any foreign text: messages quote what came in."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        lines: list[str] = []
        for part in traceback.format_exception(error):
            ours = part.startswith(
                "  File "
            )  # a place in the source; what an exception says is one line, whatever it says
            lines += part.rstrip("\n").split("\n") if ours else [part.strip("\n")]
        left_out = len(lines) - TRACEBACK_LINES_MAX + 1
        if left_out > 1:
            lines[:left_out] = [f"... {left_out} lines left out ..."]
        event["exception"] = "\n".join(map(escape, lines))
    return event


def _escape_values(_logger: Any, _method: str, event: Any) -> Any:
    return {name: escape(value) if isinstance(value, str) else value for name, value in event.items()}
