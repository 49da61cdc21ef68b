"""The check of the wall clock, which retention, backups and the display of times go by; leases do not.

Rule: it is held against what was written here before, since there is no other clock to ask without a network.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen

#: 2025-01-01: this program is younger.
_EARLIEST_S: Final = 1_735_689_600.0
#: File systems and steps of a time service may differ by that much.
_AHEAD_S: Final = 60.0


def clock(ground: Ground) -> Seen:
    """Is now behind all that was written?"""
    now = time.time()
    said = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if now < _EARLIEST_S:
        return Seen(FAILURE, f"{said}, which is before this program was written", "set the clock of the machine")
    newest = max(_times(ground.state), default=(0.0, ""))
    if newest[0] > now + _AHEAD_S:
        return Seen(
            WARNING,
            f"{said}, but {newest[1]} was written {newest[0] - now:,.0f} s later: the clock was set back",
            "set the clock of the machine; leases do not go by it, retention and the times shown do",
        )
    return Seen(OK, f"{said}, behind everything that was written")


def _times(state: Path) -> list[tuple[float, str]]:
    found = []
    for name in ("daemon.lock", "mark", "store.db", "store.db-wal", "log/daemon.log"):
        try:
            found.append(((state / name).stat().st_mtime, name))
        except OSError:
            continue
    return found
