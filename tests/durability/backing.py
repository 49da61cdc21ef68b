"""Backups while the kill loop runs: one is asked for again and again, and whatever got its final name is read whole.

Rule: a kill may end any of them; none that is listed may be wrong for it.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Final

from cosession.errors import CosessionError
from cosession.messages.backup import BackupList, BackupNow, BackupVerify
from durability.link import LinkLost, open_when_ready
from durability.loop import READY_S
from durability.oracle import Found

PAUSE_S: Final = (0.0, 0.5)
#: Of those listed at the end of a round, so many of the newest are read from end to end.
VERIFIED_MAX: Final = 5


class Backer(threading.Thread):
    """Asks for one backup after another until `stop`; `made` counts those that were answered."""

    def __init__(self, socket: Path, *, found: Found, seed: str) -> None:
        super().__init__(name="backer", daemon=True)
        self._socket = socket
        self._found = found
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self.made = 0

    def run(self) -> None:
        """Until `stop`, or until one fails for another reason than a killed daemon."""
        while not self._stopping.wait(self._random.uniform(*PAUSE_S)):
            try:
                with open_when_ready(self._socket, within_s=READY_S, given_up=self._stopping.is_set) as link:
                    reply = link.call(BackupNow(wait_s=5.0))
                    self.made += reply.backup is not None
            except LinkLost:
                continue
            except CosessionError as error:
                self._found.add("backup", f"asked for one, it answered {error.code}: {error.message}")
                return

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self._stopping.set()
        if self.is_alive():
            self.join(READY_S)

    def judge(self) -> None:
        """Every one that is listed was proved before it was named, and the newest are still as they were."""
        with open_when_ready(self._socket) as link:
            backups = link.call(BackupList()).backups
            names = [backup.name for backup in backups]
            for name in names[:VERIFIED_MAX]:
                reply = link.call(BackupVerify(name=name, wait_s=8.0))
                if reply.phase == "over" and reply.wrong:
                    self._found.add("backup", f"{name} was listed and is wrong: {reply.wrong}")
            if self.made and not names:
                self._found.add("backup", f"{self.made} backups were acknowledged, none is listed")
