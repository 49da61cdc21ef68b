"""The act `salvage`: every row that can still be proved, out of a damaged database into a new store in a new epoch.

Unlike a restore it needs no backup, and unlike `rescue` it takes a store that is not whole: what is missing is told by
revision and by key, and it is for a person to decide whether what is left will do. So it makes a file and leaves the
store alone, unless it is told to put it in place.

Rule: the damaged files are read and never written; --install moves them to quarantine as they are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from cosession.errors import CosessionError
from cosessiond.maintenance import swap
from cosessiond.maintenance.choosing import known_revisions
from cosessiond.maintenance.files import demand_room, size_of
from cosessiond.maintenance.task import Act, Task
from cosessiond.process.directories import private_directory
from cosessiond.process.files import open_plain
from cosessiond.store import salvaging, schema
from cosessiond.store.carving import Pages
from cosessiond.store.engine import Window
from cosessiond.store.proving import prove
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.verifying import Facts

REASON: Final = "salvage"


def run(task: Task) -> dict[str, Any]:
    """Salvage; `--from` another file than the store, `--out` into another directory than `salvaged`."""
    installs = task.flag("--install")
    swap.settle(task.state, task.state_fd)
    source = Path(task.options.get("--from") or task.state / swap.DATABASE)
    if not size_of(source):
        raise CosessionError(
            f"cannot salvage {source}: there is nothing in it; name a file with --from", code="not_found"
        )
    demand_room(task.state_fd, 2 * (size_of(source) + size_of(Path(f"{source}-wal"))), f"salvage {source}")
    place = swap.stage(task.state) if installs else _empty(task)
    found = _found(task, source)
    facts = _laid_down(task, place, found)
    said: dict[str, Any] = {
        "from": str(source),
        "entries": facts.entries,
        "versions": len(found.versions),
        "audit_records": len(found.audit),
        "lost_revisions": [list(gap) for gap in found.gaps()],
        "lost_keys": [{"key": key, "revision": revision} for key, revision in found.still_lost().items()],
        "epoch": facts.epoch,
        "revision": facts.revision,
    }
    if not installs:
        return {"installed": False, "store": str(place / swap.DATABASE), "quarantine": "", **said}
    task.progress("putting it in place")
    journal = swap.promise(task.state, REASON, facts, time_ms=task.clock.wall_ms(), why=said)
    quarantine = swap.swap(task.state, task.state_fd, journal)
    return {"installed": True, "store": str(task.state / swap.DATABASE), "quarantine": str(quarantine), **said}


def _empty(task: Task) -> Path:
    """The directory for the new store, which must not have one."""
    place = Path(task.options.get("--out") or task.state / "salvaged")
    os.close(private_directory(place))
    if any(place.iterdir()):
        raise CosessionError(
            f"cannot salvage into {place}: it is not empty; move it away, or name another place with --out",
            code="invalid_params",
        )
    return place


def _found(task: Task, source: Path) -> salvaging.Salvage:
    """What is in the database and its log. All of it is read into memory: a store has a bound, and this is rare."""
    task.progress("reading the damaged store")
    pages = Pages(_bytes(source), _bytes(Path(f"{source}-wal")))
    found = salvaging.Salvage()
    found.take(pages.rows())
    task.progress("following the log")
    found.follow()
    return found


def _bytes(path: Path) -> bytes:
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _laid_down(task: Task, place: Path, found: salvaging.Salvage) -> Facts:
    """The new store, in its epoch, proved like a backup."""
    task.progress("writing the new store")
    known = (found.revision, *known_revisions(task.state))
    schema.fill(place / swap.DATABASE, lambda db: salvaging.lay_down(db, found, epoch=task.new_epoch()))
    engine = SqliteEngine.open(place, window=Window(), new_epoch=task.new_epoch, was_used=True)
    engine.begin_epoch(task.new_epoch(), known=known, time_ms=task.clock.wall_ms())
    engine.close()
    return prove(place / swap.DATABASE, lambda done, total: task.progress("verifying what was salvaged", done, total))


SALVAGE: Final = Act(run, words=(0, 0), options={"--from": True, "--out": True, "--install": False}, changes=True)
