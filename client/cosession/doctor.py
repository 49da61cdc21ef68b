"""Doctor: a table of checks, each of which says what it saw, what that means and what to do; it changes nothing.

It works with the daemon down, which is when it is needed most: then the files are judged as a start would judge them,
by a child that opens a copy. Beside a daemon that serves, the daemon is asked.

Rule: a check never raises and never guesses; what it could not see is a warning with the reason. To add one, write a
function and give it a row in CHECKS.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from cosession.errors import CosessionError

OK, WARNING, FAILURE = "ok", "warning", "failure"
#: The exit code by the worst of all.
EXIT: Final = {OK: 0, WARNING: 1, FAILURE: 2}


class Seen(NamedTuple):
    """What one check came to."""

    status: str
    evidence: str
    remedy: str = ""


class Ground(NamedTuple):
    """Where to look. `status` is that of the daemon, None when none serves; `ask` asks it, `act` looks at the files;
    both raise CosessionError. `deep`: read everything, however long it takes.
    """

    state: str
    status: dict[str, Any] | None
    ask: Callable[[str], dict[str, Any]]
    act: Callable[..., dict[str, Any]]
    deep: bool


class Check(NamedTuple):
    """One row of the table."""

    id: str
    run: Callable[[Ground], Seen]


def _daemon(ground: Ground) -> Seen:
    if ground.status is None:
        return Seen(OK, "none is running; the first client starts one")
    return Seen(OK, f"pid {ground.status['pid']}, version {ground.status['version']}, it answers")


def _store(ground: Ground) -> Seen:
    if ground.status is not None:
        return _served(ground, ground.status)
    found = ground.act("rescue", "--dry-run")
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
        found = ground.ask("admin.scrub")
        damage, looked = found["damage"], f"; {found['rows']:,} rows were looked at"
    if damage:
        return Seen(
            FAILURE,
            "; ".join(damage) + looked,
            "what is damaged is not served; cosession rescue looks for a copy that is whole, "
            "cosession backup restore puts one in place",
        )
    return Seen(OK, f"serves revision {status['revision']} of epoch {status['epoch']}{looked}")


def _mark(ground: Ground) -> Seen:
    try:
        with open(os.path.join(ground.state, "mark"), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as paths.py
            mark = json.load(file)
        where = f"epoch {mark['epoch']} at revision {mark['revision']}"
        damage = mark.get("damage", "")
    except FileNotFoundError:
        if not os.path.exists(os.path.join(ground.state, "store.db")):  # noqa: PTH110, PTH118
            return Seen(OK, "there is no store to be marked")
        return Seen(WARNING, "there is none: a lost end of the store could not be noticed", "the next write brings one")
    except (OSError, ValueError, KeyError, TypeError):
        return Seen(WARNING, "it is torn, and proves nothing", "the next write brings another")
    if damage:
        return Seen(FAILURE, f"the daemon had to stop: {damage}", "run: cosession rescue")
    return Seen(OK, where)


def _backups(ground: Ground) -> Seen:
    found = ground.act("verify")["backups"]
    wrong = [f"{each['name']}: {each['wrong']}" for each in found if each["wrong"]]
    if wrong:
        return Seen(FAILURE, "; ".join(wrong), "make a new one: cosession backup now")
    if not found:
        return Seen(WARNING, "there is none", "make one: cosession backup now")
    return Seen(OK, f"{len(found)}, all read from end to end and whole; the newest is {found[-1]['name']}")


def _quarantine(ground: Ground) -> Seen:
    try:
        found = sorted(os.listdir(os.path.join(ground.state, "quarantine")))  # noqa: PTH118, PTH208 - as paths.py
    except FileNotFoundError:
        found = []
    if not found:
        return Seen(OK, "nothing was ever put aside")
    return Seen(OK, f"{len(found)} stores were put aside, the last is {found[-1]}")


CHECKS: Final = (
    Check("daemon", _daemon),
    Check("store", _store),
    Check("mark", _mark),
    Check("backups", _backups),
    Check("quarantine", _quarantine),
)


def examine(ground: Ground, checks: Iterable[Check] = CHECKS) -> list[dict[str, Any]]:
    """Every check with its id, status, evidence, remedy and duration."""
    found: list[dict[str, Any]] = []
    for check in checks:
        began = time.monotonic()
        try:
            seen = check.run(ground)
        except CosessionError as error:
            cause, _, remedy = error.message.rpartition("; ")
            seen = Seen(FAILURE if error.code == "damaged" else WARNING, cause or error.message, remedy)
        found.append({"id": check.id, **seen._asdict(), "duration_s": round(time.monotonic() - began, 3)})
    return found
