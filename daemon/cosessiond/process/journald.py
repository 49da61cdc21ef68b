"""The log under systemd: each event goes to journald with its parts as fields (systemd's native journal protocol).

A datagram of `NAME=value` lines; a value with a newline in it stands behind its length. `MESSAGE` is for people, every
part of the event a field of its own to filter by (`journalctl COSESSION_SOCKET=...`), and the event as it was, with its
types, the JSON text of one more field, from which `cosession logs` shows it as it shows the lines of a file.

Rule: a line that cannot be sent at once is lost, and nothing else with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

SOCKET: Final = "/run/systemd/journal/socket"
#: What the names of our fields begin with, and the field that has the whole event.
PREFIX: Final = "COSESSION_"
WHOLE: Final = f"{PREFIX}JSON"
IDENTIFIER: Final = "cosessiond"
#: Of syslog(3).
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_NAME_CHARS_MAX: Final = 64
#: What the kernel takes in one datagram is bounded by the send buffer; an event of 60 lines of traceback is 130 KiB.
_SEND_BUFFER_BYTES: Final = 512 * 1024
_OWN: Final = ("event", "level", "timestamp", "pid", "exception")


def is_journal(descriptor: int = 2, env: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to `descriptor` goes to journald: then `$JOURNAL_STREAM` names its device and inode."""
    device, _, inode = env.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class Journal:
    """Where structlog's renderer leaves an event; `debug` and the others are what structlog calls."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def msg(self, datagram: bytes) -> None:
        """Send it, or lose it: where journald is away or overwhelmed, a daemon that waits for its log serves nobody."""
        with contextlib.suppress(OSError):
            self._socket.sendto(datagram, self._address)

    debug = info = warning = error = msg


def rendered(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    """An event as the datagram of it; the last of structlog's processors."""
    fields: dict[str, str] = {
        "MESSAGE": _message(event),
        "PRIORITY": str(_PRIORITIES.get(str(event.get("level")), 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        WHOLE: json.dumps(event, default=str),
    }
    for name, value in event.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        fields.setdefault(_field(name), text)
    return b"".join(_line(name, text) for name, text in fields.items())


def _message(event: Mapping[str, Any]) -> str:
    """The event and its parts as one line, and below it the traceback when there is one."""
    parts = [f"{name}={value}" for name, value in event.items() if name not in _OWN]
    line = "  ".join([str(event.get("event", "")), *parts])
    return f"{line}\n{event['exception']}" if event.get("exception") else line


def _field(name: str) -> str:
    """A name as journald takes it: capitals, digits and underscores, 64 at most."""
    return (PREFIX + re.sub(r"[^A-Z0-9_]", "_", name.upper()))[:_NAME_CHARS_MAX]


def _line(name: str, text: str) -> bytes:
    value = text.encode("utf-8", "backslashreplace")
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
