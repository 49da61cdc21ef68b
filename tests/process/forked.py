"""The command `cosessiond` in a forked child, see `maintaining.act`.

Rule: it imports nothing that was not imported before the fork.
"""

from __future__ import annotations

import os
import sys

from cosessiond.__main__ import main


def become(arguments: list[str], env: dict[str, str], out: str, err: str) -> None:
    """Run the command with standard output and error going to files; ends the process."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir("/")
    for descriptor, name in enumerate((os.devnull, out, err)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), descriptor)
    sys.exit(main(arguments))
