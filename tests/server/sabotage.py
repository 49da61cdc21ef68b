"""A daemon with one seeded bug, to show that the floods see it: `python sabotage.py NAME`.

Rule: each is what a bound that is not kept would do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from cosessiond.__main__ import main as serve
from cosessiond.server import listener

STALLED_S: Final = 25.0


def none() -> None:
    """No bug."""


def hoard() -> None:
    """What a peer does not read is kept for it, however much it is, and room for as much again."""
    kept: list[bytearray] = []
    send = listener.Connection.send

    def send_and_keep(self: listener.Connection, data: bytes) -> None:
        kept.append(bytearray(8 * len(data)))
        send(self, data)

    listener.Connection.send = send_and_keep  # type: ignore[method-assign]
    listener.Connection.unsent = lambda _: 0  # type: ignore[method-assign]


def stall() -> None:
    """Who is refused is spoken to for as long as it likes."""
    refuse = listener._refuse

    def refuse_slowly(*arguments: Any) -> None:
        time.sleep(STALLED_S)
        refuse(*arguments)

    listener._refuse = refuse_slowly


SABOTAGES: Final[dict[str, Callable[[], None]]] = {each.__name__: each for each in (none, hoard, stall)}


if __name__ == "__main__":
    os.umask(0o077)
    SABOTAGES[sys.argv[1]]()
    sys.exit(serve([]))
