"""Checks of what is kept: the store, its mark, the backups, what was put aside.

Rule: beside a daemon that serves, the daemon is asked; without one the files are judged by a child, as a start would.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen
from cosession.errors import CosessionError

_NOW: Final = "make one: cosession backup now"
#: Older than so many times the pause between two is not fresh, and never less than an hour.
_PAUSES: Final = 2
_AGE_S_MIN: Final = 3_600.0
#: Where backups are made on demand only.
_AGE_S_ON_DEMAND: Final = 7 * 86_400.0
#: When a daemon that serves should have written a mark.
_SOON_S: Final = 30.0
_MANIFEST_BYTES_MAX: Final = 1024 * 1024


def store(ground: Ground) -> Seen:
    """Is it whole?"""
    if ground.status is not None:
        return _served(ground, ground.status)
    if not any((ground.state / name).exists() for name in ("store.db", "mark", "restore.journal")):
        return Seen(OK, "there is none yet")
    living = ground.living()
    if living is not None:
        who = f"pid {living.pid}, which does not answer"
        return Seen(WARNING, f"not looked at: it is in use by {who}", "see to that one first, then run it again")
    try:
        found = ground.act("rescue", "--dry-run")
    except CosessionError as error:
        trouble = error.data.get("trouble")
        if not trouble:
            raise
        # Nothing is whole: what is wrong with the store itself says more than that. It was looked at in a copy.
        cause, _, remedy = str(trouble).replace("/staged/", "/").rpartition("; ")
        return Seen(FAILURE, cause or str(trouble), remedy)
    if found["action"] in ("keep", "begin") and not found["trouble"]:
        return Seen(OK, f"whole at revision {found['revision']}" if found["action"] == "keep" else "there is none yet")
    instead = f"; the newest backup that is whole, {found['from']}, ends at revision {found['revision']}"
    return Seen(
        FAILURE,
        found["trouble"] + (instead if found["action"] == "restore" else "; there is no backup that is whole"),
        "cosession rescue puts that backup in place; `cosession salvage` saves what can be proved of the store itself, "
        "which may be newer"
        if found["action"] == "restore"
        else "cosession salvage saves what can be proved, and says what is lost",
    )


def _served(ground: Ground, status: dict[str, Any]) -> Seen:
    """What the daemon has met, and with --deep what it meets when it looks through all of it."""
    looked = ""
    damage = status.get("damage", [])
    if ground.deep:
        found = ground.ask("admin.scrub", {})
        damage, looked = found["damage"], f"; {found['rows']:,} rows were looked at"
    if damage:
        return Seen(
            FAILURE,
            "; ".join(damage) + looked,
            "what is damaged is not served; cosession rescue looks for a copy that is whole, "
            "cosession backup restore puts one in place",
        )
    return Seen(OK, f"serves revision {status['revision']} of epoch {status['epoch']}{looked}")


def mark(ground: Ground) -> Seen:
    """The record that proves how far the store once was."""
    try:
        found = json.loads((ground.state / "mark").read_bytes())
        where = f"epoch {found['epoch']} at revision {found['revision']}"
        damage = found.get("damage", "")
    except FileNotFoundError:
        if not (ground.state / "store.db").exists():
            return Seen(OK, "there is no store to be marked")
        if (ground.status or {}).get("uptime_s", _SOON_S) < _SOON_S:
            return Seen(OK, "there is none yet; it is written within seconds of the first write")
        return Seen(WARNING, "there is none: a lost end of the store could not be noticed", "the next write brings one")
    except (OSError, ValueError, KeyError, TypeError):
        return Seen(WARNING, "it is torn, and proves nothing", "the next write brings another")
    if damage:
        return Seen(FAILURE, f"the daemon had to stop: {damage}", "run: cosession rescue")
    return Seen(OK, where)


def backups(ground: Ground) -> Seen:
    """Are they whole, and is the newest fresh? With --deep each is read from end to end."""
    found = (
        ground.ask("backup.list", {})["backups"] if ground.status is not None else _on_disk(ground.state / "backups")
    )
    valid = [each for each in found if each["state"] == "valid"]
    read = ""
    if ground.deep and found:
        looked = ground.act("verify")["backups"]
        wrong = [f"{each['name']}: {each['wrong']}" for each in looked if each["wrong"]]
        read = f", all {len(looked)} read from end to end and whole"
    else:
        wrong = [f"{each['name']}: {each['state']}" for each in found if each["state"] != "valid"]
    if wrong:
        return Seen(FAILURE, "; ".join(wrong[:5]), _NOW.replace("make one", "make a new one"))
    failed = ((ground.status or {}).get("backups") or {}).get("error", "")
    if failed:
        return Seen(FAILURE, f"the last one failed: {failed}", "see to that, then: cosession backup now")
    revision = _revision(ground)
    if not valid and not revision:
        return Seen(OK, "there is none, and nothing to back up")
    if not valid and ground.status and ground.status["uptime_s"] < 60.0 * ground.config().backup.every_min:
        return Seen(OK, "there is none yet; one is made every so often, and when the daemon stops")
    if not valid:
        return Seen(WARNING, "there is none", _NOW)
    newest = max(valid, key=lambda each: (each["revision"], each["time"]))
    age_s = time.time() - newest["time"]
    evidence = f"{len(valid)}, each verified before it got its name{read}; the newest is {newest['name']}"
    if newest["revision"] < revision and age_s > _age_max(ground):
        behind = revision - newest["revision"]
        return Seen(WARNING, f"{evidence}, {age_s / 3600:.0f} h old, and {behind} revisions are in none", _NOW)
    return Seen(OK, evidence)


def _age_max(ground: Ground) -> float:
    every_min = ground.config().backup.every_min
    return max(_PAUSES * 60.0 * every_min, _AGE_S_MIN) if every_min else _AGE_S_ON_DEMAND


def _revision(ground: Ground) -> int:
    """How far the store is known to be: by the daemon, else by its mark."""
    if ground.status is not None:
        return int(ground.status["revision"])
    try:
        return int(json.loads((ground.state / "mark").read_bytes())["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1 if (ground.state / "store.db").exists() else 0


def _on_disk(directory: Path) -> list[dict[str, Any]]:
    """The backups as `backup.list` would tell them, by the files alone."""
    found = []
    for path in sorted(directory.glob("*.db")):
        size = path.stat().st_size
        try:
            with path.with_suffix(".json").open("rb") as file:
                manifest = json.loads(file.read(_MANIFEST_BYTES_MAX))
            is_whole = manifest["verified"] is True and manifest["size_bytes"] == size
            revision, time_s = int(manifest["revision"]), manifest["time_ms"] / 1000
        except (OSError, ValueError, KeyError, TypeError):
            found.append({"name": path.stem, "state": "no_manifest", "revision": 0, "time": 0.0})
            continue
        state = "valid" if is_whole else "damaged"
        found.append({"name": path.stem, "state": state, "revision": revision, "time": time_s})
    return found


def quarantine(ground: Ground) -> Seen:
    """What was put aside because it was damaged or replaced."""
    try:
        found = sorted(path.name for path in (ground.state / "quarantine").iterdir())
    except FileNotFoundError:
        found = []
    if not found:
        return Seen(OK, "nothing was ever put aside")
    return Seen(OK, f"{len(found)} stores were put aside, the last is {found[-1]}")
