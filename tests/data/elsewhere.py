"""A daemon that believes it runs on the host `example`, and at another time: `python elsewhere.py [WALL_MS]`.

Stores that are committed to the repository are made on no particular machine, and what they say of time (request ids
are kept for a day) must be testable for ever.

Rule: nothing else is changed.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from cosessiond.__main__ import main as serve
from cosessiond.clock import SystemClock

HOST = "example"


def pretend(wall_ms: int) -> None:
    """From now on it is `wall_ms`, and time goes on from there."""
    began_s = time.monotonic()

    def now(_self: SystemClock) -> int:
        return wall_ms + int((time.monotonic() - began_s) * 1000)

    SystemClock.wall_ms = now  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    os.umask(0o077)
    socket.gethostname = lambda: HOST
    if len(sys.argv) > 1:
        pretend(int(sys.argv[1]))
    sys.exit(serve([]))
