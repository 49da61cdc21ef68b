"""The floods in long form, for `make prove`: counts connections that gave nothing and cost nobody anything.

Rule: one daemon takes all of them, so that what a crowd leaves behind adds up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import Daemon
from proof.tally import Tally, counting, parser
from server import floods
from server.daemons import serving

HALF_OPEN: Final = 10_000
NO_DESCRIPTORS: Final = 200
NEVER_READING: Final = 16
WRITES: Final = 5_000

FLOODS: Final[dict[int, Callable[[Daemon], None]]] = {
    HALF_OPEN: lambda daemon: floods.half_open(daemon, HALF_OPEN),
    NO_DESCRIPTORS: lambda daemon: floods.without_descriptors(daemon, NO_DESCRIPTORS),
    NEVER_READING: lambda daemon: floods.never_reading(daemon, NEVER_READING, writes=WRITES),
}


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Flood a daemon with connections that give nothing.").parse_args(arguments)
    with counting(given) as tally:
        try:
            with serving() as daemon:
                _run(tally, daemon)
        except floods.TooFew as few:
            tally.skip(str(few))
        except AssertionError as error:
            tally.violation(f"at its end: {error}")
        return tally.end()


def _run(tally: Tally, daemon: Daemon) -> None:
    while not tally.over:
        for count, flood in FLOODS.items():
            if tally.over:
                return
            try:
                flood(daemon)
            except (AssertionError, OSError) as error:
                tally.violation(f"{count} connections: {error!r}")
                return
            tally.count(count)


if __name__ == "__main__":
    sys.exit(main())
