"""The acts on a stopped store that a recording has: `python acting.py BUG` makes a backup, then restores it.

Each is told on a socket once it is done, so that the trace has it in its order, as it has the answers of a daemon.

Rule: the functions of the daemon's own maintenance, as its commands call them.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cosession import paths
from cosessiond.maintenance import keeping
from cosessiond.maintenance.choosing import choose
from cosessiond.maintenance.restore import restore
from cosessiond.maintenance.task import Task
from power.serving import BUGS

#: Behind this comes the name of a backup.
BACKED_UP: Final = b"backed up "
RESTORED: Final = b"restored "


def main(bug: str) -> int:
    """Both acts."""
    os.umask(0o077)
    BUGS[bug]()
    here, _there = socket.socketpair()
    state = Path(paths.state_directory())
    task = Task(state, os.open(state, os.O_RDONLY | os.O_DIRECTORY), words=[], options={})
    kept = keeping.keep(task, "demand")
    here.send(BACKED_UP + kept.name.encode())
    done = restore(task, choose(state, [kept.name], latest=False))
    here.send(RESTORED + str(done["epoch"]).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
