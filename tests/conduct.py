"""Programs that test_zygote.py has forked: one that ends as it is told to."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Do what the first word says."""
    match arguments:
        case ["exit", code]:
            sys.exit(int(code))
        case ["show"]:
            descriptors = sorted(int(each.name) for each in Path("/proc/self/fd").iterdir())
            print(os.environ["SHOWN"], Path.cwd(), os.getsid(0) == os.getpid(), descriptors[:4])
        case ["raise"]:
            raise RuntimeError("as it was told to")
        case ["wait"]:
            signal.pause()
        case ["late", path]:
            time.sleep(0.01)
            Path(path).write_text("begun", encoding="utf-8")
    return 0
