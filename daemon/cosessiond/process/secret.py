"""The key of all session tokens: 32 random bytes in a file of the state directory, made once.

Rule: it is in its place whole and synced before anything is derived from it: a token that was handed out must hold
after a power cut too. It is made once the first store stands, so where it is, an empty database has lost what it held.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cosessiond.process.durable import write_whole
from cosessiond.process.files import open_plain

NAME: Final = "secret"
BYTES: Final = 32


def was_made(state: Path) -> bool:
    """Whether something stands in its place, whatever it is."""
    return os.path.lexists(state / NAME)


def read_or_make(state: Path, directory: int, random_bytes: Callable[[int], bytes]) -> bytes:
    """The secret of the state directory (`directory`: its open descriptor); one that was cut is made anew.

    Raises ConfigError for anything but a plain file of ours, OSError where it cannot be written.
    """
    path = state / NAME
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            found = file.read(BYTES)
        if len(found) == BYTES:
            return found
    except FileNotFoundError:
        pass
    made = random_bytes(BYTES)
    write_whole(directory, NAME, made)
    return made
