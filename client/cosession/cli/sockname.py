"""`cosession sockname`: where the socket is, or will be.

Rule: asks nobody; the path follows from the environment alone.
"""

from __future__ import annotations

from cosession import paths
from cosession.cli import render
from cosession.cli.options import Given, Verb


def run(given: Given) -> int:
    """Print the path as it is, for use in `$(...)`."""
    path = given.text("--socket") or paths.socket_path()
    if given.flag("--json"):
        render.json_line({"socket": path})
    else:
        render.line(path)
    return 0


SOCKNAME = Verb(
    "sockname",
    "",
    run,
    summary="Print the path of the daemon's socket, whether or not a daemon is running.",
    examples=(
        ('echo \'{"jsonrpc":"2.0","id":1,"method":"ping"}\' | nc -U "$(cosession sockname)"', "talk to it by hand"),
    ),
)
