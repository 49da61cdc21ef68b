"""The power-loss explorer: what the daemon recovers from any state that a power cut could leave, against its answers.

Behind each call of a recorded daemon the power may go: `disk` says what may be left then, `opened` opens it with the
daemon's own recovery and judges. At each moment first the corners (all that was not synced is there, nothing is, only
the last, all but the last, each file alone), then states by chance.

Rule: everything random comes from the seed and the recording; a state is opened and counted once for all that is known
by then, however many cuts leave it.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import msgpack

from cosession.messages.limits import SENT_FRAME_BYTES_MAX
from cosession.wire import MsgpackCodec
from cosessiond.store import sqlite
from harness import private_home
from power.acting import BACKED_UP, RESTORED
from power.disk import LENGTH_ONLY, Choice, Disk, File, Left
from power.opened import Known, Opening, judge_served
from power.recording import Recording
from power.trace import Event

SHARED_MEMORY: Final = Path("/dev/shm")
#: About how many corners a moment has, and how many states by chance at least; more where there are few moments.
CORNERS: Final = 8
CHANCES_MIN: Final = 4
LAID_OUT_BYTES: Final = 16 * 1024
#: What asyncio sends to itself, through a socket as well.
WAKE_UP: Final = b"\0"
SHARES: Final = (0.02, 0.1, 0.5, 0.9, 0.98)

FilesChoice = Callable[[int, File], Choice]


class Moment(NamedTuple):
    """Behind this event the power goes; what was known by then."""

    event: int
    known: Known


class Told:
    """What the daemon has said to anybody so far."""

    def __init__(self) -> None:
        self._codec = MsgpackCodec()
        self._streams: dict[str, bytearray] = {}
        self.known = Known()

    def take(self, event: Event) -> bool:
        """Follow what was said; whether more is known now."""
        before = self.known
        if event.data == WAKE_UP:
            return False
        if event.data.startswith(BACKED_UP):
            self.known = self.known._replace(backup=event.data[len(BACKED_UP) :].decode())
            return True
        if event.data.startswith(RESTORED):
            self.known = self.known._replace(restored=event.data[len(RESTORED) :].decode())
            return True
        stream = self._streams.setdefault(event.path, bytearray())
        stream += event.data
        while (frame := self._codec.split(stream, SENT_FRAME_BYTES_MAX)) is not None:
            body = msgpack.decode(self._codec.decode_answer(frame).body)
            revision = max(self.known.revision, body.get("revision", 0))
            made = body.get("backup")
            if made:
                self.known = self.known._replace(backup=made["name"])
            self.known = self.known._replace(told=self.known.told or "epoch" in body, revision=revision)
        return self.known != before


def moments(events: Sequence[Event]) -> list[Moment]:
    """Behind which events a power cut may leave something new."""
    disk, told = Disk(), Told()
    found = [Moment(-1, Known())]
    for number, event in enumerate(events):
        if told.take(event) if event.kind == "said" else disk.take(event):
            found.append(Moment(number, told.known))
    return found


def corners(disk: Disk) -> Iterator[Left]:
    """What is most likely to show a missing sync."""
    chance = random.Random(0)
    files = len(disk.dirty())

    def left(choice: FilesChoice, names: float) -> Left:
        return disk.left(choice, lambda *_: names, chance)

    for names in (1.0, 0.0):
        yield left(lambda *_: _all, names)
        yield left(lambda *_: _none, names)
        yield left(lambda *_: lambda *_: LENGTH_ONLY, names)
        yield left(lambda *_: lambda index, count: float(index == count - 1), names)
        yield left(lambda *_: lambda index, count: float(index < count - 1), names)
    if files > 1:
        for alone in range(files):
            yield left(lambda index, _, alone=alone: _all if index == alone else _none, 1.0)  # type: ignore[misc]
            yield left(lambda index, _, alone=alone: _none if index == alone else _all, 1.0)  # type: ignore[misc]


def chances(disk: Disk, chance: random.Random) -> Iterator[Left]:
    """States by chance, without end."""
    while True:
        names = chance.choice((0.0, 0.5, 0.9, 1.0))
        choices = [_chosen(chance) for _ in disk.dirty()]
        yield disk.left(lambda index, _, choices=choices: choices[index], lambda *_, n=names: n, chance)  # type: ignore[misc]


def _all(_index: int, _count: int) -> float:
    return 1.0


def _none(_index: int, _count: int) -> float:
    return 0.0


def _chosen(chance: random.Random) -> Choice:
    """How one file fares."""
    kind = chance.randrange(5)
    share, cut = chance.choice(SHARES), chance.random()
    if kind == 0:
        return _all
    if kind == 1:
        return _none
    if kind == 2:  # up to some change, which is torn
        return lambda index, count: 1.0 if index < int(cut * count) else share if index == int(cut * count) else 0.0
    if kind == 3:  # of each change a part
        return lambda *_: share
    return lambda *_: chance.choice((1.0, 0.0, share))


class Explorer:
    """Explores one recording. `seed` chooses the moments and what is left to chance."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self._recording = recording
        self._seed = seed
        self._random = random.Random(seed)
        self._opening = Opening(recording.truth, has_acts=_has_acts(recording))
        self._seen: set[tuple[bytes, Known]] = set()
        self.states = 0
        self.moments = 0
        self.served = 0

    def explore(self, count: int, *, served_in: int = 0) -> Iterator[list[str]]:
        """About `count` states: of each what is wrong with it, in words. One in `served_in` (0: none) is also opened by
        a real daemon.
        """
        chosen = moments(self._recording.events)
        wanted = max(1, count // (CORNERS + CHANCES_MIN))
        if len(chosen) > wanted:
            chosen = sorted(self._random.sample(chosen, wanted))
        each = max(CHANCES_MIN, count // len(chosen) - CORNERS)
        disk, at = Disk(), 0
        with _place() as place:
            for moment in chosen:
                while at <= moment.event:
                    disk.take(self._recording.events[at])
                    at += 1
                self.moments += 1
                for left in self._states(disk, each, moment):
                    wrong = self._opened(left, moment, place / "state")
                    self.states += 1
                    if served_in and self.states % served_in == 0:
                        wrong += self._served(left, moment)
                    where = f"seed {self._seed}, power cut behind event {moment.event}, {moment.known}"
                    yield [f"{where}: {word}" for word in wrong]

    def _states(self, disk: Disk, each: int, moment: Moment) -> Iterator[Left]:
        """The corners of this moment and some states by chance, of which some are of earlier moments as well."""
        by_chance = itertools.islice(chances(disk, random.Random(f"{self._seed}/{moment.event}")), each)
        for left in itertools.chain(corners(disk), by_chance):
            state = left.signature(), moment.known
            if state not in self._seen:
                self._seen.add(state)
                yield left

    def _opened(self, left: Left, moment: Moment, state: Path) -> list[str]:
        state.mkdir(mode=0o700)
        try:
            left.write(state)
            return self._opening.judge(state, moment.known, self._random)
        finally:
            shutil.rmtree(state)

    def _served(self, left: Left, moment: Moment) -> list[str]:
        self.served += 1
        with private_home() as home:
            (home / "state").mkdir(mode=0o700)
            left.write(home / "state")
            return judge_served(home, self._recording.truth, moment.known)


def _has_acts(recording: Recording) -> bool:
    return any(event.data.startswith(BACKED_UP) for event in recording.events if event.kind == "said")


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """A directory in memory, where it costs nothing to sync."""
    laid_out = sqlite.WAL_BYTES
    sqlite.WAL_BYTES = LAID_OUT_BYTES  # type: ignore[misc]  # each opening lays a log out, which nobody uses here
    try:
        with tempfile.TemporaryDirectory(
            prefix="cs-power-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        ) as at:
            yield Path(at)
    finally:
        sqlite.WAL_BYTES = laid_out  # type: ignore[misc]
