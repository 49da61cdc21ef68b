"""The log of a daemon that systemd runs: journald has it, and `journalctl` is asked for it.

Only what runs as this user counts (`_UID` is the kernel's word), whatever else calls itself cosessiond. An event is the
one that the daemon wrote, with its types; what was written past the log (a last word on standard error) is an event of
its own text.

Rule: a child that is asked for what there is has a deadline; one that follows ends with this command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from cosession.cli import data

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

IDENTIFIER: Final = "cosessiond"
#: What the names of our fields begin with, and the one that has the whole event (`cosessiond.process.journald`).
PREFIX: Final = "COSESSION_"
WHOLE: Final = f"{PREFIX}JSON"
ANSWERS_S: Final = 5.0
_LEVELS: Final = {"7": "debug", "4": "warning", "3": "error"}


def is_there() -> bool:
    """Whether there is a journal to ask."""
    return shutil.which("journalctl") is not None


def newest(count: int) -> list[dict[str, Any]]:
    """The newest events, oldest first; none where the journal has none, or says nothing in time."""
    if not is_there() or not count:
        return []
    try:
        done = subprocess.run(  # noqa: S603 (journalctl, found on PATH as a user would)
            _command("--lines", str(count)),
            capture_output=True,
            timeout=ANSWERS_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [event for line in done.stdout.splitlines() if (event := event_of(line)) is not None]


def followed(count: int) -> Iterator[dict[str, Any]]:
    """The newest events, then those that come."""
    with subprocess.Popen(  # noqa: S603 (likewise)
        _command("--lines", str(count), "--follow"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this command
    ) as child:
        try:
            assert child.stdout is not None, "a pipe"
            for line in child.stdout:
                if (event := event_of(line)) is not None:
                    yield event
        finally:
            child.kill()


def time_of(event: dict[str, Any]) -> float:
    """When an event was written, in seconds since the Unix epoch; 0.0 when that cannot be told."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(event.get("timestamp"))).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _command(*more: str) -> list[str]:
    # --all: a field of over 4 KiB would be left out.
    asked = ["journalctl", "--no-pager", "--quiet", "--all", "--output=json", *more]
    return [*asked, f"SYSLOG_IDENTIFIER={IDENTIFIER}", f"_UID={os.getuid()}"]


def event_of(line: bytes) -> dict[str, Any] | None:
    """An event from a line of `journalctl --output=json`; None for what is none."""
    try:
        fields = data.loads(line.decode("utf-8", "backslashreplace"))
        whole = data.loads(_text(fields.get(WHOLE))) if fields.get(WHOLE) else None
    except (ValueError, AttributeError):
        return None
    if isinstance(whole, dict):
        return whole
    microseconds = _text(fields.get("__REALTIME_TIMESTAMP"))
    return {
        "timestamp": _moment(int(microseconds) / 1e6 if microseconds.isdigit() else 0.0),
        "level": _LEVELS.get(_text(fields.get("PRIORITY")), "info"),
        "event": _text(fields.get("MESSAGE")),
    }


def _moment(at_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _text(field: Any) -> str:
    """A field as text: journalctl writes what it cannot print as a list of bytes, what stands twice as a list."""
    if isinstance(field, list):
        if all(isinstance(each, int) and 0 <= each < 256 for each in field):  # noqa: PLR2004 (a byte)
            return bytes(field).decode("utf-8", "backslashreplace")
        return _text(field[0])
    return str(field or "")
