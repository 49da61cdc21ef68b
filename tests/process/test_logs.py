"""A bug in the log: with its traceback, on one line, bounded, and with what came from outside escaped."""

from __future__ import annotations

import io
import json
import os
import pty
import sys

import pytest

from cosessiond.process.logs import TRACEBACK_LINES_MAX, Threshold, open_log

NASTY = 'boom\n{"event": "forged"}\x1b[2J\u2028' + "x" * 1_000_000


def deeper(levels: int) -> None:
    """Raise from `levels` calls down; two functions in turn, so that no frames look repeated."""
    if not levels:
        raise ValueError(NASTY)
    (deeper if levels % 2 else lower)(levels - 1)


def lower(levels: int) -> None:
    """See `deeper`."""
    deeper(levels)


def caught(levels: int) -> ValueError:
    with pytest.raises(ValueError, match="boom") as found:
        deeper(levels)
    return found.value


def logged(monkeypatch, error):
    """The event and its line, as they go where there is no terminal."""
    monkeypatch.setattr(sys, "stderr", sink := io.StringIO())
    open_log(Threshold("info"), file=None).error("a bug in a handler", exc_info=error)
    (line,) = sink.getvalue().splitlines()
    return json.loads(line), line


def test_a_bug_is_logged_with_its_traceback_on_one_line(monkeypatch):
    event, _ = logged(monkeypatch, caught(2))
    assert event["event"] == "a bug in a handler"
    assert "exc_info" not in event
    lines = event["exception"].split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert any(line.endswith("in deeper") for line in lines)
    assert "    raise ValueError(NASTY)" in lines
    assert lines[-1].startswith("ValueError: boom\\n")


def test_what_the_exception_quotes_is_escaped_and_bounded(monkeypatch):
    event, line = logged(monkeypatch, caught(200))
    lines = event["exception"].split("\n")
    assert len(lines) == TRACEBACK_LINES_MAX
    assert lines[0].endswith("lines left out ...")
    assert lines[-1].startswith("ValueError: boom"), "the newest are kept"
    assert all(each.isprintable() for each in lines)
    assert len(line) < 20_000


def test_nothing_to_trace_is_no_error(monkeypatch):
    event, _ = logged(monkeypatch, None)
    assert "exc_info" not in event
    assert "exception" not in event


def test_on_a_terminal_the_traceback_is_readable_and_escaped(monkeypatch):
    ours, theirs = pty.openpty()
    try:
        monkeypatch.setenv("NO_COLOR", "1")
        with os.fdopen(theirs, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            open_log(Threshold("info"), file=None).error("a bug in a handler", exc_info=caught(1))
            shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
    assert "a bug in a handler" in shown
    assert "\r\nTraceback (most recent call last):\r\n" in shown
    assert "\x1b" not in shown
    assert "\u2028" not in shown
