"""The library as `watch` uses it: a client made from the options of a command.

Rule: the blocking client only, imported here and nowhere else in the command line but by the demo.
"""

from __future__ import annotations

import gc

from cosession import paths
from cosession.cli import holder
from cosession.cli.scope import project_of_command
from cosession.errors import TimedOut

# Loading the library allocates much and drops nothing: collecting garbage meanwhile is a sixteenth of the whole start.
gc.disable()
try:
    from cosession import sync
finally:
    gc.enable()

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cosession.cli.options import Given


def open_client(given: Given) -> sync.Client:
    """A connected client; raises Unreachable, NotAllowed, TimedOut."""
    named = given.text("--socket")
    try:
        return sync.connect(
            socket=named or None,
            project=project_of_command(given),
            timeout_s=given.timeout_s(),
            spawn=not given.flag("--no-spawn"),
        )
    except TimedOut:
        why = f"gave no answer within {given.timeout_s():g} s"
        raise holder.silence(named or paths.socket_path(), 0, why) from None
