"""Checks of room: the disk of the state directory, and how full each limit is.

Rule: bytes and shares as the system and the daemon say them; a share is of what this user may have.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen

#: Of the disk, and of a limit, in per cent.
DISK_WARNS: Final = 85.0
LIMIT_WARNS: Final = 80.0
#: With less the daemon refuses writes soon: its reserve, and as much beside it.
FREE_BYTES_MIN: Final = 16 * 1024 * 1024
_INODES_WARN: Final = 95.0
_MIB: Final = 1024 * 1024

#: Each number of `status` that a limit bounds, and the key of that limit.
GAUGES: Final = (
    ("connections", "limits.connections_max"),
    ("entries", "limits.live_entries_max"),
    ("live_bytes", "limits.live_bytes_max"),
    ("database_bytes", "limits.database_bytes_max"),
)


class Volume:
    """How full the disk is on which a path lies, or would."""

    def __init__(self, path: Path) -> None:
        place = path
        while not place.exists() and place != place.parent:
            place = place.parent
        found = os.statvfs(place)
        self.free_bytes: Final = found.f_bavail * found.f_frsize
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self.used: Final = 100.0 * used / (used + self.free_bytes) if used + self.free_bytes else 0.0
        self.used_inodes: Final = 100.0 * (1 - found.f_favail / found.f_files) if found.f_files else 0.0

    def __str__(self) -> str:
        return f"{self.used:.0f} % used, {self.free_bytes / _MIB:,.0f} MiB free"


def disk(ground: Ground) -> Seen:
    """Is there room for the store and its backups?"""
    volume = Volume(ground.state)
    told = (ground.status or {}).get("disk", "enough")
    if told != "enough" or volume.free_bytes < FREE_BYTES_MIN:
        refused = ": the daemon refuses writes" if told != "enough" else ", so a daemon refuses writes"
        return Seen(FAILURE, f"{volume}{refused}", f"free space on the disk of {ground.state}; it goes on by itself")
    if volume.used_inodes > _INODES_WARN:
        return Seen(
            WARNING,
            f"{volume}, but {volume.used_inodes:.0f} % of its files",
            "remove files; a new one soon finds no place",
        )
    if volume.used > DISK_WARNS:
        return Seen(
            WARNING,
            f"{volume}, which is over {DISK_WARNS:.0f} %",
            "free space, or keep fewer backups: backup.bytes_max in the configuration",
        )
    return Seen(OK, str(volume))


def limits(ground: Ground) -> Seen:
    """Is anything near its limit?"""
    if ground.status is None:
        return _of_files(ground)
    full = [*_gauges(ground.status), *_projects(ground.status)]
    near = [f"{name} at {share:.0f} %" for name, share in full if share > LIMIT_WARNS]
    if near:
        return Seen(
            WARNING,
            f"near a limit: {', '.join(near[:5])}",
            "delete what is not needed, see: cosession status; `cosession compact` makes the log smaller",
        )
    name, share = max(full, key=lambda each: each[1])
    refused = {key: count for key, count in ground.status.get("counters", {}).items() if key.startswith("limit.")}
    met = f"; refused since the start: {', '.join(sorted(refused))}" if refused else ""
    return Seen(OK, f"the fullest is {name} at {share:.1f} %{met}")


def _gauges(status: dict[str, Any]) -> list[tuple[str, float]]:
    config = status.get("config", {})
    return [(name, 100.0 * status[name] / config[key]) for name, key in GAUGES if name in status and config.get(key)]


def _projects(status: dict[str, Any]) -> list[tuple[str, float]]:
    config, found = status.get("config", {}), []
    for each in status.get("usage", []):
        for name in ("bytes", "entries"):
            limit = config.get(f"limits.project_{name}_max")
            if limit:
                found.append((f"{name} of {each['project']}", 100.0 * each[name] / limit))
    return found


def _of_files(ground: Ground) -> Seen:
    """Without a daemon there is only the size of the database to be judged."""
    size = sum(path.stat().st_size for name in ("store.db", "store.db-wal") if (path := ground.state / name).exists())
    share = 100.0 * size / ground.config().limits.database_bytes_max
    evidence = f"the database has {share:.1f} % of what it may have; no daemon is there to tell of the others"
    if share > LIMIT_WARNS:
        return Seen(WARNING, evidence, "start it and delete what is not needed: cosession start, cosession status")
    return Seen(OK, evidence)
