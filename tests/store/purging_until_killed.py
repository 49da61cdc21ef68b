"""Purges the secret of `test_purging` in a directory, slice by slice, and is killed after so many; for that test."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from cosessiond.store.engine import Window
from cosessiond.store.sqlite import SqliteEngine


def main(directory: Path, slices: int) -> None:
    """Purge for so many slices, or until the file is written anew, and die."""
    engine = SqliteEngine.open(directory, window=Window(), new_epoch=str)
    after, more = 0, True
    while more and slices:
        done = engine.purge(("context", "p", "secret"), before=1 << 40, after=after, rows_max=16)
        assert done is not None
        after, more, slices = done.reached, done.more, slices - 1
    if not more:
        assert engine.erase()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
