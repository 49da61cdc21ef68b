"""Where the fast way ends: no daemon at the path. Looks where the lock says it is, and starts one through the library.

Rule: how a daemon is found and started is `cosession.reach`'s affair; here is only the waiting, with a word to the
person who waits when it takes long.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import msgspec

from cosession.cli.progress import Progress
from cosession.reach import opening, target_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from cosession.cli.options import Given


def connected(
    given: Given,
    named: str,
    deadline: float,
    *,
    spawn: bool,
    again: bool = False,
    force: bool = False,
    env: Mapping[str, str] = os.environ,
    sleep: Callable[[float], None] | None = None,
) -> socket.socket:
    """A connection to a daemon of ours, started if need be and allowed; raises Unreachable or NotAllowed.

    `named`: the socket the user chose, "" for the usual one. `deadline` is of the monotonic clock. `again`: the daemon
    was there a moment ago and may be on its way back. `force`: see `reach.Target`. `sleep`: how to wait, for a
    verb that shows that itself.
    """
    target = target_of(named or None, spawn=spawn, env=env)
    steps = opening(msgspec.structs.replace(target, force=force), deadline, again=again)
    what = "waiting for the daemon to start" if spawn else "waiting for the daemon"
    try:
        with contextlib.nullcontext() if sleep else Progress(given, what):
            while True:
                (sleep or time.sleep)(next(steps))
    except StopIteration as stop:
        found: socket.socket = stop.value
        return found
    finally:
        steps.close()
