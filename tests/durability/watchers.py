"""The watchers of the kill loop: one that keeps up and whose log is judged, and slow ones, which lag and are cut.

Rule: each resumes behind what it has, through all kills; what a slow one was told must be what the quick one was told.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Final

from msgspec import msgpack

from cosession.errors import CosessionError
from cosession.messages.watches import Watch, WatchEvent
from durability.link import Link, LinkLost, open_when_ready
from durability.loop import READY_S
from durability.oracle import Found

#: How long a slow watcher reads nothing, between two times that it reads what is there.
SLOW_S: Final = (0.05, 0.8)
_decode_event = msgpack.Decoder(WatchEvent).decode


class Watcher(threading.Thread):
    """Follows everything from `start` on through all kills, resuming behind what it has; `log` holds the events."""

    def __init__(self, socket: Path, *, start: int, epoch: str, found: Found, seed: int) -> None:
        super().__init__(name="watcher", daemon=True)
        self._socket = socket
        self._next = start
        self._epoch = epoch
        self._found = found
        self._random = random.Random(f"{seed}/watcher")
        self._stopping = threading.Event()
        self.log: list[bytes] = []
        self.resumed = 0

    @property
    def reached(self) -> int:
        """The newest revision seen."""
        return self._next - 1

    def run(self) -> None:
        """Until `stop`, or until the watch breaks a promise that makes going on pointless."""
        while not self._stopping.is_set():
            try:
                with open_when_ready(self._socket, within_s=READY_S, given_up=self._stopping.is_set) as link:
                    # Sometimes late, so that there is something to catch up with.
                    self._stopping.wait(self._random.choice((0.0, 0.0, 0.02, 0.05)))
                    link.call(Watch(start_revision=self._next, epoch=self._epoch))
                    self.resumed += 1
                    while not self._stopping.is_set():
                        for body in link.events(0.1):
                            self._take(body)
            except LinkLost:
                continue
            except CosessionError as error:
                self._found.add("watch", f"resuming at {self._next} was answered {error.code}: {error.message}")
                return

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self._stopping.set()
        if self.is_alive():
            self.join(READY_S)

    def wait_for(self, revision: int, within_s: float) -> bool:
        """Whether it gets as far as `revision` in time, and before anything is found wrong."""
        deadline = time.monotonic() + within_s
        while self.reached < revision and self.is_alive() and not self._found and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.reached >= revision

    def _take(self, body: bytes) -> None:
        event = _decode_event(body)
        if event.kind == "changes":
            if event.revision > self._next:
                self._found.add("gap", f"the watch went from {self._next - 1} to {event.revision}")
                self.log.extend(
                    [msgpack.encode(WatchEvent(kind="changes", revision=0))] * (event.revision - self._next)
                )
            elif event.revision < self._next:
                self._found.add("duplicate", f"the watch sent {event.revision} again, {self._next} was next")
                return
            self.log.append(body)
            self._next = event.revision + 1
        elif event.kind == "progress":
            if event.revision >= self._next:
                self._found.add("gap", f"the watch is at {event.revision} by its own word, but {self._next} never came")
        else:
            self._found.add("watch", f"it sent {event.kind} {event.code} {event.message}")


class SlowWatcher(threading.Thread):
    """Follows everything from `start` on, but seldom reads: it lags, catches up from the log, is cut, is too late.

    `told` keeps of each revision what it was told, as a hash: a round has many.
    """

    def __init__(self, socket: Path, *, start: int, epoch: str, found: Found, seed: str) -> None:
        super().__init__(name=f"slow watcher {seed}", daemon=True)
        self._socket = socket
        self._next = start
        self._epoch = epoch
        self._found = found
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self.told: dict[int, int] = {}
        self.compacted: list[int] = []

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopping.is_set():
            try:
                with open_when_ready(self._socket, within_s=READY_S, given_up=self._stopping.is_set) as link:
                    link.call(Watch(start_revision=self._next, epoch=self._epoch))
                    self._follow(link)
            except LinkLost:
                continue
            except CosessionError as error:
                if error.code == "future_revision" or not self._too_late(error.code, error.data):
                    self._found.add("watch", f"a slow one resuming at {self._next} was answered {error.code}")
                    return

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self._stopping.set()
        if self.is_alive():
            self.join(READY_S)

    def judge(self, first: int, log: list[bytes], compact_revision: int) -> None:
        """Compare with the log, which begins at `first`; it may have been too late for what is below the window."""
        for revision, told in self.told.items():
            if not 0 <= revision - first < len(log) or hash(log[revision - first]) != told:
                self._found.add("log", f"a slow watch was told something else of revision {revision}")
        for revision in self.compacted:
            if revision >= compact_revision:
                self._found.add("gap", f"a slow watch was told that {revision} is gone, but it is there")

    def _follow(self, link: Link) -> None:
        while not self._stopping.wait(self._random.uniform(*SLOW_S)):
            for body in link.events(0.05):
                event = _decode_event(body)
                if event.kind == "end":
                    if not self._too_late(event.code, event.data):
                        self._found.add("watch", f"a slow one was ended with {event.code}: {event.message}")
                    return
                if event.kind != "changes":
                    continue
                if event.revision != self._next:
                    kind = "gap" if event.revision > self._next else "duplicate"
                    self._found.add(kind, f"a slow watch was sent {event.revision}, {self._next} was next")
                    return
                self.told[event.revision] = hash(body)
                self._next = event.revision + 1

    def _too_late(self, code: str, data: dict[str, object]) -> bool:
        """Whether it was told that what comes next is no longer there; it goes on with the oldest that is."""
        if code != "compacted":
            return code in ("slow_consumer", "overloaded")
        self.compacted.append(self._next)
        self._next = int(str(data["compact_revision"]))
        return True
