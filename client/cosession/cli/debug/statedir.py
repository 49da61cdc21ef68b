"""`cosession debug statedir`: what lies in the state directory, what each file is for, and whether its mode is right.

Rule: names, sizes and modes; no file is opened. It works without a daemon.
"""

from __future__ import annotations

import os
import stat
import time

from cosession import paths
from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Verb
from cosession.errors import CosessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What each file is, by its name.
PURPOSES = {
    "store.db": "the store",
    "store.db-wal": "what was committed and is not in its place yet",
    "store.db-journal": "of a step of SQLite that was broken off",
    "daemon.lock": "who serves this directory",
    "secret": "the key of the session tokens",
    "mark": "how far the store was",
    "reserve": "space for a full disk",
    "stopped": "it was stopped on purpose",
    "failstops": "failures of the disk, counted",
    "latch": "read-only after three of them",
    "backups": "backups and their manifests",
    "quarantine": "what was put aside",
    "log": "the log of a daemon in the background",
    "spool": "events from where the socket is out of reach",
    "journal": "of a restore under way",
}
ENTRIES_MAX = 1_000


def run(given: Given) -> int:
    """List the directory that the daemon serves, or would."""
    directory, running = _directory(given)
    found = _entries(directory)
    if given.flag("--json"):
        render.json_line({"state_directory": directory, "running": running, "files": found})
        return 0
    render.line(f"{render.escape(directory)}{'' if running else '  (no daemon is running)'}")
    now = time.time()
    rows = [
        (
            each["name"],
            each["mode"] + ("" if each["private"] else " others may enter"),
            render.size(each["size_bytes"]),
            render.ago(each["time"], now),
            each["purpose"],
        )
        for each in found
    ]
    render.table(("NAME", "MODE", "SIZE", "CHANGED", "WHAT IT IS"), rows)
    return 0


def _directory(given: Given) -> tuple[str, bool]:
    try:
        return str(Line(given, spawn=False).ask("status", {})["state_directory"]), True
    except CosessionError as error:
        if error.code != "unreachable" or given.text("--socket"):
            raise
        return paths.state_directory(), False


def _entries(directory: str) -> list[dict[str, Any]]:
    try:
        names = sorted(os.listdir(directory))[:ENTRIES_MAX]  # noqa: PTH208  # of the light half
    except FileNotFoundError:
        raise CosessionError(
            f"cannot look into {directory}: it is not there, since no daemon has ever run here; do: cosession start",
            code="not_found",
            data={"path": directory},
        ) from None
    found = []
    for name in names:
        try:
            about = os.lstat(os.path.join(directory, name))  # noqa: PTH118  # of the light half
        except FileNotFoundError:
            continue  # gone meanwhile
        found.append(
            {
                "name": name,
                "mode": stat.filemode(about.st_mode),
                "private": not stat.S_IMODE(about.st_mode) & 0o077,
                "size_bytes": about.st_size,
                "time": round(about.st_mtime, 3),
                "purpose": _purpose(name),
            }
        )
    return found


def _purpose(name: str) -> str:
    """What a file is; what another program left is called so."""
    return PURPOSES.get(name) or ("unfinished, removed at the next start" if ".partial" in name else "not of cosession")


STATEDIR = Verb(
    "debug statedir",
    "",
    run,
    summary="Show what lies in the state directory, what it is for, and whether it is private.",
    text="It opens no file, and works without a daemon. Never open or copy store.db while the daemon runs.",
    examples=(("cosession debug statedir", "what takes the room"),),
)
