"""Backups under kill -9: a daemon that is killed again and again while it makes them, and what lies there afterwards.

Each cycle asks for a backup while another client writes, waits until the backup has come to the phase that was hit
least, and kills the daemon then or a moment later. Which phase was hit is told by what lies there, and not by what was
aimed at. Whatever has a final name then must be whole, verified and the store as it stood at its revision; one that
was told of must be there, and one that was valid must not have been the last; after the next start nothing half made
may be left.

Rule: everything random comes from the seed; what is found wrong is returned as sentences.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, Literal, get_args

from msgspec import Struct, field

from cosession.errors import ConfigError
from cosessiond.store.backup import DATABASE, MANIFEST, PARTIAL, BackupDirectory
from cosessiond.store.engine import Entry, StoreBroken
from cosessiond.store.proving import differs, prove
from cosessiond.store.sqlite import SqliteEngine
from durability.loop import ScriptedDaemon
from rawclient import Ended, Pack

#: "publishing": one of the two has its final name, or the manifest is being written.
Phase = Literal["copying", "proving", "publishing"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
#: What the store holds: more than is proved within the daemon itself, so that the process for that is killed as well.
ENTRIES: Final = 300
FILLING: Final = "x" * 4_000
#: How long a phase may be waited for before the daemon is killed wherever it is.
AIM_S: Final = 20.0
#: How much later than the beginning of its phase a kill may come.
LATER_S: Final[dict[Phase, float]] = {"copying": 0.01, "proving": 0.2, "publishing": 0.0}
#: Where a database says that it has no WAL, which a whole copy does (https://www.sqlite.org/fileformat.html).
_VERSION_AT: Final = 18
_SABOTAGE: Final = Path(__file__).parent / "backup_sabotage.py"


class Found(Struct):
    """What came of a loop: kills, those of them that hit each phase, and the backups that got a final name."""

    cycles: int = 0
    hits: dict[Phase, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    published: int = 0
    wrong: list[str] = []


class Loop:
    """One state directory over its kills; `sabotage` is a seeded bug, see backup_sabotage.py."""

    def __init__(self, home: Path, seed: int, sabotage: str = "") -> None:
        self.found = Found()
        self._home = home
        self._draw = random.Random(seed)
        command = [sys.executable, str(_SABOTAGE), sabotage] if sabotage else []
        self._daemon = ScriptedDaemon(home, command=command, forked=True)
        self._acked: dict[int, tuple[str, Any]] = {}
        self._seen: set[str] = set()

    def cycle(self) -> None:
        """One kill, and a look at what it has left."""
        if not self._acked:
            self._fill()
        phase = min(PHASES, key=lambda each: (self.found.hits[each], PHASES.index(each)))
        self._daemon.start()
        before = names(self._home)
        self.found.wrong += [f"a start has left {name}" for name in before if half_made(name, before)]
        writer = threading.Thread(target=self._write, args=(self._draw.randrange(1 << 32),))
        told = ""
        with Pack(self._daemon.socket) as peer:
            writer.start()
            peer.post("backup.now", wait_s=10.0)
            reach(self._home, phase, before)
            time.sleep(self._draw.uniform(0, LATER_S[phase]))
            self._daemon.kill()
            with contextlib.suppress(Ended, TimeoutError):
                answer = peer.next()  # it may have been told before the end
                told = (answer.body.get("backup") or {}).get("name", "")
        writer.join()
        self.found.cycles += 1
        if hit := lying(self._home, before):
            self.found.hits[hit] += 1
        self._judge(told)

    def close(self) -> None:
        """Leave no daemon behind, also when a cycle was broken off."""
        if self._daemon.running:
            self._daemon.kill()

    def _fill(self) -> None:
        self._daemon.start()
        with Pack(self._daemon.socket) as peer:
            for number in range(ENTRIES):
                peer.post("put", key=f"k{number}", value=[number, FILLING])
            for number, answer in enumerate(peer.take(ENTRIES)):
                self._acked[answer.body["written"]["mod_revision"]] = f"k{number}", [number, FILLING]
        self._daemon.kill()

    def _write(self, seed: int) -> None:
        """Until the daemon is gone; what it acknowledges is what a backup must have."""
        draw = random.Random(seed)
        with contextlib.suppress(OSError, Ended), Pack(self._daemon.socket) as peer:
            while True:
                key, value = f"k{draw.randrange(ENTRIES)}", [draw.random(), FILLING]
                self._acked[peer.reply("put", key=key, value=value)["written"]["mod_revision"]] = key, value

    def _judge(self, told: str) -> None:
        wrong, fresh = judge(self._home, self._acked, self._seen)
        self.found.wrong += wrong
        if told and told not in self._seen:
            self.found.wrong.append(f"{told} was told of and is not there")
        with contextlib.closing(BackupDirectory(self._home / "state")) as directory:
            if self.found.published and not directory.valid():
                self.found.wrong.append("there was a valid one, and there is none any more")
        self.found.published += fresh


def reach(home: Path, phase: Phase, before: set[str]) -> None:
    """Return as soon as a backup has come to this phase, or is over."""
    end, is_begun = time.monotonic() + AIM_S, False
    while time.monotonic() < end:
        fresh = names(home) - before
        if phase == "publishing":  # looked for nearly without a pause: it is over soon
            time.sleep(0.0001)
            if any(not name.endswith(PARTIAL) for name in fresh) or (is_begun and not fresh):
                return
        else:
            now = lying(home, before)
            if PHASES.index(now) >= PHASES.index(phase) if now else is_begun:
                return
            time.sleep(0.0005)
        is_begun = is_begun or bool(fresh)


def names(home: Path) -> set[str]:
    """What lies there."""
    try:
        return set(os.listdir(home / "state" / "backups"))  # noqa: PTH208 - a third of the time
    except FileNotFoundError:
        return set()


def half_made(name: str, all_: set[str]) -> bool:
    """Whether this is none of two that belong together."""
    if name.endswith(DATABASE):
        return name.removesuffix(DATABASE) + MANIFEST not in all_
    return not name.endswith(MANIFEST) or name.removesuffix(MANIFEST) + DATABASE not in all_


def lying(home: Path, before: set[str]) -> Phase | Literal[""]:
    """The phase of the backup of which something lies there half made, "" when none does."""
    found = names(home)
    left = [name for name in found - before if half_made(name, found)]
    partial = [name for name in left if name.endswith(PARTIAL)]
    if len(left) > len(partial):
        return "publishing"
    for name in partial:
        with contextlib.suppress(FileNotFoundError), (home / "state" / "backups" / name).open("rb") as file:
            return "proving" if file.read(_VERSION_AT + 1)[_VERSION_AT:] == b"\x01" else "copying"
    return ""


def judge(home: Path, acked: dict[int, tuple[str, Any]], seen: set[str]) -> tuple[list[str], int]:
    """What is wrong with the backups that lie there and were not looked at before, and how many those are."""
    wrong, fresh = [], 0
    with contextlib.closing(BackupDirectory(home / "state")) as directory:
        for each in directory.found():
            if each.state == "no_database" or each.name in seen:
                continue  # a manifest alone is what a kill between the two names leaves
            seen.add(each.name)
            fresh += 1
            if each.manifest is None or each.state != "valid":
                wrong.append(f"{each.name} has its name and is {each.state}")
                continue
            path = directory.database(each.name)
            try:
                facts = prove(path)
            except (StoreBroken, ConfigError) as error:
                wrong.append(f"{each.name}: {error}")
                continue
            if said := differs(each.manifest, facts):
                wrong.append(f"{each.name}: {said}")
            if said := strays(list(SqliteEngine.rehearse(path).entries()), facts.revision, acked):
                wrong.append(f"{each.name}: not the store as it stood at {facts.revision}: {said}")
    return wrong, fresh


def strays(entries: list[Entry], revision: int, acked: dict[int, tuple[str, Any]]) -> str:
    """Where these entries are not what the writes up to `revision` have left, "" when they are. A write that was never
    answered may be among them: of its key there is then something newer than what was acknowledged.
    """
    stood = {key: number for number, (key, _) in sorted(acked.items()) if number <= revision}
    held = {entry.id[2]: entry.mod_revision for entry in entries}
    if held.keys() != stood.keys():
        return f"it has other keys: {sorted(held.keys() ^ stood.keys())[:5]}"
    for key, number in held.items():
        if number != stood[key] and (number < stood[key] or number in acked or number > revision):
            return f"{key} is of {number}, acknowledged was {stood[key]}"
    return ""
