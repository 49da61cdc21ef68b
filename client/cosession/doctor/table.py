"""The checks of `doctor`, of `preflight` and of `checklist`, in the order in which they are run and shown.

Rule: a row for each check, and nothing else; what comes first explains what comes after.
"""

from __future__ import annotations

from typing import Final

from cosession.doctor.engine import LONG_S, Check

DOCTOR: Final = (
    Check("install", "cosession.doctor.installation:install"),
    Check("versions", "cosession.doctor.installation:versions"),
    Check("sandbox", "cosession.doctor.installation:sandbox"),
    Check("config", "cosession.doctor.settings:config"),
    Check("socket", "cosession.doctor.places:socket"),
    Check("stale", "cosession.doctor.places:stale"),
    Check("state", "cosession.doctor.places:state"),
    Check("spool", "cosession.doctor.spool:spool"),
    Check("lock", "cosession.doctor.processes:lock"),
    Check("daemon", "cosession.doctor.processes:daemon"),
    Check("orphans", "cosession.doctor.processes:orphans"),
    Check("disk", "cosession.doctor.room:disk"),
    Check("limits", "cosession.doctor.room:limits"),
    Check("store", "cosession.doctor.store:store", LONG_S),
    Check("mark", "cosession.doctor.store:mark"),
    Check("backups", "cosession.doctor.store:backups", LONG_S),
    Check("quarantine", "cosession.doctor.store:quarantine"),
    Check("clock", "cosession.doctor.clock:clock"),
    Check("units", "cosession.doctor.units:units", 12.0),
    Check("log", "cosession.doctor.log:errors", 12.0),
)

#: `compliance` has the time that the user gives it, and that beside.
PREFLIGHT: Final = (
    Check("daemon", "cosession.doctor.processes:daemon"),
    Check("git", "cosession.doctor.worktree:git", 12.0),
    Check("rights", "cosession.doctor.worktree:rights"),
    Check("room", "cosession.doctor.worktree:room"),
    Check("lock", "cosession.doctor.worktree:lock"),
    Check("claims", "cosession.doctor.worktree:claims", 12.0),
    Check("compliance", "cosession.doctor.compliance:compliance", 3_700.0),
)

#: What of the doctor's is on the page for the day; it takes no long looks.
HEALTH: Final = tuple(each for each in DOCTOR if each.id not in ("store", "backups", "units", "log", "orphans"))
