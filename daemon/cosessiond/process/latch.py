"""The latch: a daemon whose disk has failed again and again comes back read-only, until a user says that it is well.

Each fail-stop is noted in `failstops`, the newest few; three of one boot within 10 minutes write `latch`. Both are in
the state directory; where that cannot be written (it is the disk that failed) the note goes beside the socket, which is
elsewhere as a rule, and the next start takes it in. Where even that fails a stop is not counted. Times are those of the
monotonic clock, in which a step of the wall clock changes nothing; of another boot nobody knows how long ago it was,
so that those do not count together.

Rule: whatever stands in the place of the latch is one, also when it cannot be read; only `clear` removes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from cosession.errors import ConfigError
from cosessiond.process.durable import sync_directory, write_whole
from cosessiond.process.files import open_plain
from cosessiond.process.sidecar import BYTES_MAX, sealed, unsealed

LATCH: Final = "latch"
STOPS: Final = "failstops"
#: So many fail-stops within so many seconds write the latch.
STOPS_MAX: Final = 3
WINDOW_S: Final = 600.0
_REASON_CHARS_MAX: Final = 400


class FailStop(Struct, frozen=True, order=True):
    """One time that a daemon had to stop at once. `time_ms` is of the wall clock, for people only."""

    boot_id: str
    monotonic_s: float
    time_ms: int
    reason: str


class Stops(Struct, frozen=True):
    """The file `failstops`, oldest first; and the file `latch`, which shows what wrote it."""

    stops: list[FailStop]


def too_many(stops: Sequence[FailStop]) -> bool:
    """Whether the newest of them are so many in so short a time that nobody should try on."""
    last = stops[-STOPS_MAX:]
    if len(last) < STOPS_MAX or len({stop.boot_id for stop in last}) > 1:
        return False
    return 0.0 <= last[-1].monotonic_s - last[0].monotonic_s <= WINDOW_S


class Latch:
    """The latch of one state directory (`directory`: its open descriptor); `beside`: the directory of the socket."""

    def __init__(self, state: Path, directory: int, beside: Path) -> None:
        self._state = state
        self._directory = directory
        self._beside = beside

    def reason(self) -> str:
        """Why nothing is to be written, "" when all may be; takes in what was noted beside the socket."""
        stops = self._stops()
        self._take_in(stops)
        if not os.path.lexists(self._state / LATCH) and not too_many(stops):
            return ""
        why = f"; the last was: {stops[-1].reason}" if stops else ""
        return (
            f"the store is read-only since its disk has failed {STOPS_MAX} times within {WINDOW_S / 60:.0f} min{why}; "
            "see that the disk is well, then: cosession start --force"
        )

    def note(self, stop: FailStop) -> bool:
        """A fail-stop, at the moment of it; whether it could be noted anywhere. Raises nothing."""
        stop = FailStop(stop.boot_id, stop.monotonic_s, stop.time_ms, stop.reason[:_REASON_CHARS_MAX])
        try:
            stops = [*self._stops(), stop][-STOPS_MAX:]
            self._write(stops)
        except (OSError, ConfigError):
            return self._note_beside(stop)
        return True

    def clear(self) -> bool:
        """Forget all of it; whether there was a latch. Raises OSError."""
        was = bool(self.reason())
        for path in (self._state / LATCH, self._state / STOPS, self._beside / STOPS):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        sync_directory(self._directory)
        return was

    def _take_in(self, stops: list[FailStop]) -> None:
        """What lies beside the socket goes where it belongs, if that can be done."""
        if not os.path.lexists(self._beside / STOPS):
            return
        with contextlib.suppress(OSError):
            self._write(stops)
            (self._beside / STOPS).unlink()

    def _write(self, stops: list[FailStop]) -> None:
        write_whole(self._directory, STOPS, sealed(Stops(stops)))
        if too_many(stops):
            write_whole(self._directory, LATCH, sealed(Stops(stops)))

    def _note_beside(self, stop: FailStop) -> bool:
        """Without a sync: it need not outlive the boot, and the disk may be the one that hangs."""
        new = self._beside / f"{STOPS}.new"
        try:
            stops = [*_read(self._beside / STOPS), stop][-STOPS_MAX:]
            with os.fdopen(open_plain(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                file.write(sealed(Stops(stops)))
            new.replace(self._beside / STOPS)
        except (OSError, ConfigError):
            return False
        return True

    def _stops(self) -> list[FailStop]:
        """The newest of both places, each once, oldest first; those of the newest boot last."""
        stops = _read(self._state / STOPS)
        stops += [stop for stop in _read(self._beside / STOPS) if stop not in stops]
        return stops[-STOPS_MAX:]


def _read(path: Path) -> list[FailStop]:
    """What stands there; nothing when it cannot be believed."""
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            found = unsealed(file.read(BYTES_MAX), Stops)
    except (OSError, ConfigError):
        return []
    return found.stops if found is not None else []
