"""Where the fast way ends: no daemon at the path. Looks where the lock says it is, and starts one through the library.

Rule: how a daemon is found and started is `cosession.reach`'s affair; here is only the waiting, with a word to the
person who waits when it takes long.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from cosession.cli import render
from cosession.reach import opening, target_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

PATIENCE_S = 1.0


def connected(
    named: str, deadline: float, *, spawn: bool, again: bool = False, env: Mapping[str, str] = os.environ
) -> socket.socket:
    """A connection to a daemon of ours, started if need be and allowed; raises Unreachable or NotAllowed.

    `named`: the socket the user chose, "" for the usual one. `deadline` is of the monotonic clock. `again`: the daemon
    was there a moment ago and may be on its way back.
    """
    steps = opening(target_of(named or None, spawn=spawn, env=env), deadline, again=again)
    began = time.monotonic()
    said = False
    try:
        while True:
            time.sleep(next(steps))
            if not said and time.monotonic() - began > PATIENCE_S and sys.stderr is not None and sys.stderr.isatty():
                render.note("waiting for the daemon to start ...")
                said = True
    except StopIteration as stop:
        found: socket.socket = stop.value
        return found
    finally:
        steps.close()
