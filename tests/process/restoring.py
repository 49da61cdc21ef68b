"""A home with a backup and a store that went on after it, and what a store holds as a client sees it.

Rule: made once for all tests and copied, since a daemon takes its time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from cosessiond.maintenance import keeping, swap
from cosessiond.maintenance.task import Task
from cosessiond.store.backup import BackupDirectory, Reason
from cosessiond.store.proving import prove
from data import states
from durability.loop import ScriptedDaemon
from harness import Daemon, private_home
from process import killing
from process.maintaining import COMMAND
from process.starting import environment, tree
from rawclient import Pack

#: What the backup holds and what became of it.
THEN: Final = {"kept": "same", "changed": "then", "gone": "then"}
NOW: Final = {"kept": "same", "changed": "now", "new": "now"}
REVISION_THEN: Final = 4
REVISION_NOW: Final = 7


def kept(home: Path, reason: Reason = "demand") -> keeping.Kept:
    """A backup of the store that lies there."""
    state = home / "state"
    descriptor = os.open(state, os.O_RDONLY)
    try:
        return keeping.keep(Task(state, descriptor, words=[], options={}), reason)
    finally:
        os.close(descriptor)


def with_backup(home: Path) -> str:
    """Make `home` one whose store holds NOW, killed behind its last write, with a backup that holds THEN; its name."""
    for place in ("run", "state", "state/backups"):
        (home / place).mkdir(mode=0o700)
    for name, content in _made().items():
        path = home / name
        path.write_bytes(content)
        path.chmod(0o600)
    return next(name for name in _made() if name.endswith(".db") and "backups" in name)[len("state/backups/") : -3]


@cache
def _made() -> dict[str, bytes]:
    with private_home() as home:
        daemon = Daemon(home)
        with daemon, Pack(daemon.socket) as peer:
            peer.reply("put", key="changed", value="before")
            for key, value in THEN.items():
                peer.reply("put", key=key, value=value)
        kept(home)
        daemon.start()
        with Pack(daemon.socket) as peer:
            peer.reply("put", key="changed", value="now")
            peer.reply("delete", key="gone")
            peer.reply("put", key="new", value="now")
        daemon.kill()
        found = sorted(
            path
            for path in (home / "state").rglob("*")
            if path.name != "reserve" and "-shutdown." not in path.name  # large, means nothing; of the stop above
        )
        return {str(path.relative_to(home)): path.read_bytes() for path in found if path.is_file()}


def held(home: Path) -> tuple[str, dict[str, Any], list[Any]]:
    """What a daemon shows of the store: its epoch, its entries, and the versions of `changed`, oldest first."""
    with ScriptedDaemon(home, forked=True) as daemon, Pack(daemon.socket) as peer:
        epoch = peer.reply("ping")["epoch"]
        entries = {each["key"]: each["value"] for each in peer.reply("range")["entries"]}
        versions = [each["value"] for each in peer.reply("history", key="changed")["versions"]]
    return epoch, entries, versions[::-1]


def store_bytes(place: Path) -> dict[str, bytes]:
    """The files of a store in a directory."""
    return {name: (place / name).read_bytes() for name in ("store.db", "store.db-wal") if (place / name).exists()}


def untouched(home: Path, act: Callable[[], Any]) -> Any:
    """What `act` returns, which must change nothing but the name in the lock."""
    before = tree(home, ignored=("state/daemon.lock", "state", "state/backups"))
    found = act()
    assert tree(home, ignored=("state/daemon.lock", "state", "state/backups")) == before
    return found


def copied(source: Path, target: Path) -> Path:
    """A copy of a file, private."""
    shutil.copyfile(source, target)
    target.chmod(0o600)
    return target


def epoch_of(home: Path) -> str:
    """Of the store as it lies there; a copy is read."""
    return states.recorded(home / "state")[0]


def settled(home: Path, before: str) -> None:
    """After a restore of THEN that was broken off the store is wholly the old one or wholly the new one, nothing of it
    is left over, and every backup is one.
    """
    epoch, entries, versions = held(home)
    if epoch == before:
        assert (entries, versions) == (NOW, ["before", "then", "now"])
    else:
        assert (entries, versions) == (THEN, ["before", "then"])
    left = {path.name for path in (home / "state").iterdir()}
    assert not left & {swap.JOURNAL, swap.STAGED}, left
    backups = BackupDirectory(home / "state")
    for each in backups.valid():
        prove(backups.database(each.name))
    backups.close()


def killed_restore(home: Path, point: killing.Point) -> bool:
    """Kill a restore there; whether it came so far. Raises AssertionError when the next start finds anything amiss."""
    backup = with_backup(home)
    before = epoch_of(home)
    is_killed = killing.killed([*COMMAND, "restore", backup], environment(home), point)
    settled(home, before)
    return is_killed


def restore_points() -> list[killing.Point]:
    """The system calls of a restore that change something."""
    with private_home() as home:
        backup = with_backup(home)
        return killing.points([*COMMAND, "restore", backup], environment(home), home)
