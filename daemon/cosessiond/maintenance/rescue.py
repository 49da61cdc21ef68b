"""The act `rescue`: whatever is there, find the newest store that is whole, and have it in place.

In this order: a swap that was broken off is finished or undone; the store that stands is backed up and judged as a
start would; when it is not to be trusted, the newest backup that is whole takes its place, in a new epoch; without one,
what can be salvaged of the store does.

Rule: nothing of what is there is written or removed; what is replaced is moved to quarantine as it is.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cosession.errors import ConfigError, CosessionError
from cosessiond.maintenance import keeping, salvage, swap
from cosessiond.maintenance.choosing import Chosen
from cosessiond.maintenance.restore import restore, verified
from cosessiond.maintenance.task import Act, Task
from cosessiond.store import marks
from cosessiond.store.backup import DIRECTORY, BackupDirectory, Manifest
from cosessiond.store.engine import StoreBroken, Window
from cosessiond.store.marks import Mark
from cosessiond.store.migrations import SCHEMA
from cosessiond.store.proving import prove
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.verifying import Facts

REASON: Final = "rescue"


class Live(NamedTuple):
    """The store that stands: where it is, the backup made of it, and why it is not to be trusted ("" when it is)."""

    stands: dict[str, Any]
    backup: str
    trouble: str


def run(task: Task) -> dict[str, Any]:
    """Rescue; with --dry-run only say what that would do."""
    is_trial = task.flag("--dry-run")
    if not is_trial:
        swap.settle(task.state, task.state_fd)
    elif (task.state / swap.JOURNAL).exists():
        raise CosessionError(
            f"cannot look ahead: a restore was broken off, see {task.state / swap.JOURNAL}; run rescue without "
            "--dry-run, which finishes or undoes that first",
            code="damaged",
        )
    live = _judged(task, is_trial=is_trial)
    said: dict[str, Any] = {
        "live": live.stands or None,
        "trouble": live.trouble,
        "backup": live.backup,
        "tried": [],
        "quarantine": "",
        "store": str(task.state / swap.DATABASE),
        "backups": str(task.state / DIRECTORY),
    }
    if live.stands and not live.trouble:
        return {"action": "keep", **said, **live.stands}
    found, tried = _newest_whole(task)
    said["tried"] = tried
    if found is None and not keeping.bytes_of(task.state) and not tried:
        return {"action": "begin", **said, "epoch": "", "revision": 0, "entries": 0}
    if found is None:
        salvaged = _salvaged(task, is_trial=is_trial)
        if salvaged is None:
            raise _nothing(task, live, tried)
        return {"action": "salvage", **said, **salvaged}
    chosen, facts = found
    if is_trial:
        return {"action": "restore", **said, "from": chosen.name, **_stands(facts)}
    done = restore(task, chosen, reason=REASON)
    stands = {"epoch": done["epoch"], "revision": done["revision"], "entries": facts.entries}
    return {"action": "restore", **said, "from": chosen.name, "quarantine": done["quarantine"], **stands}


def _judged(task: Task, *, is_trial: bool) -> Live:
    """Back up the store that stands, and judge it by all that is in it and by its mark."""
    if not keeping.bytes_of(task.state):
        return Live({}, "", "there is no store" if _was_used(task) else "")
    stands: dict[str, Any] = {}
    name = ""
    try:
        if is_trial:
            tell = "verifying the store"
            stands = _stands(prove(keeping.folded(task), lambda done, total: task.progress(tell, done, total)))
        else:
            kept = keeping.keep(task, REASON)
            stands, name = _stands(kept.manifest), kept.name
        _open_copy_as_a_start(task)
    except (StoreBroken, ConfigError) as error:
        return Live(stands, name, str(error))
    except CosessionError as error:
        if error.code != "disk_full" or is_trial:
            raise
        return _judged_in_place(task)
    finally:
        swap.discard(task.state)
    return Live(stands, name, "")


def _judged_in_place(task: Task) -> Live:
    """Where there is no room for a copy: as the next start will open it, which changes nothing it cannot trust."""
    try:
        engine = SqliteEngine.open(
            task.state, window=Window(), new_epoch=task.new_epoch, was_used=True, mark=_mark(task)
        )
    except (StoreBroken, ConfigError) as error:
        return Live({}, "", str(error))
    here, entries = engine.position(), sum(1 for _ in engine.entries())
    engine.close()
    return Live({"epoch": here.epoch, "revision": here.revision, "entries": entries}, "", "")


def _open_copy_as_a_start(task: Task) -> None:
    """Raises StoreBroken, ConfigError when a start would not open the store."""
    task.progress("opening a copy of the store")
    place = keeping.folded(task).parent
    SqliteEngine.open(place, window=Window(), new_epoch=task.new_epoch, was_used=True, mark=_mark(task)).close()


def _mark(task: Task) -> Mark | None:
    found = marks.read(task.state)
    return found if isinstance(found, Mark) else None


def _newest_whole(task: Task) -> tuple[tuple[Chosen, Facts] | None, list[dict[str, str]]]:
    """The newest backup that is whole, and what is wrong with those that are newer."""
    if not (task.state / DIRECTORY).exists():  # it is not made for a look
        return None, []
    backups = BackupDirectory(task.state)
    try:
        names = [
            (each, backups.database(each.name))
            for each in reversed(backups.found())
            if each.state != "no_database" and (each.manifest is None or each.manifest.schema <= SCHEMA)
        ]
    finally:
        backups.close()
    tried: list[dict[str, str]] = []
    for each, path in names:
        chosen = Chosen(each.name, path, each.manifest)
        try:
            return (chosen, verified(task, chosen)), tried
        except (CosessionError, ConfigError) as error:
            tried.append({"name": each.name, "wrong": error.message})
    return None, tried


def _salvaged(task: Task, *, is_trial: bool) -> dict[str, Any] | None:
    """What can be proved of the damaged store, put in place unless this is a trial; None when that is nothing: a store
    is not begun anew in this way.
    """
    if not keeping.bytes_of(task.state):
        return None
    try:
        found = salvage.run(task.given({"--out": str(task.state / swap.STAGED)}))
        if not found["entries"] + found["versions"]:
            return None
    except (StoreBroken, ConfigError):
        return None
    finally:
        swap.discard(task.state)
    if not is_trial:
        found = salvage.run(task.given({"--install": ""}))
    names = ("quarantine", "entries", "lost_revisions", "lost_keys", "epoch", "revision")
    return {name: found[name] for name in names}


def _was_used(task: Task) -> bool:
    return _mark(task) is not None


def _stands(facts: Facts | Manifest) -> dict[str, Any]:
    return {"epoch": facts.epoch, "revision": facts.revision, "entries": facts.entries}


def _nothing(task: Task, live: Live, tried: list[dict[str, str]]) -> CosessionError:
    """The error where neither the store nor a backup is whole; all of it is left as it is."""
    what = live.trouble or "there is no store"
    backups = f"of {len(tried)} backups none is whole" if tried else "there is no backup"
    return CosessionError(
        f"cannot rescue: {what.rpartition('; ')[0] or what}; {backups}, nothing can be salvaged, nothing was changed; "
        f"bring a backup from elsewhere, or move {task.state} away to begin anew",
        code="damaged",
        data={"trouble": live.trouble, "tried": tried},
    )


RESCUE: Final = Act(run, words=(0, 0), options={"--dry-run": False}, changes=True)
