"""Check of the spool: calls that nobody takes in, and what was refused out of it.

Rule: names are counted, and nothing in it is opened.
"""

from __future__ import annotations

from pathlib import Path

from cosession import paths
from cosession import spool as spooling
from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Seen
from cosession.doctor.places import directory_fault


def spool(ground: Ground) -> Seen:
    """Does what is left there get to the daemon?"""
    path = Path(paths.spool_directory(ground.env))
    fault = directory_fault(path)
    if fault:
        return Seen(FAILURE, fault.why, fault.remedy)
    said = (ground.status or {}).get("spool", {})
    served = said.get("directory") or str(path)
    waiting = spooling.waiting(ground.env)
    refused = sum(1 for each in (path / "refused").glob("*.call")) if (path / "refused").is_dir() else 0
    if said.get("error"):
        return Seen(FAILURE, said["error"], "mend that; until then nothing that is spooled is taken in")
    if served != str(path):
        return Seen(
            WARNING,
            f"the daemon takes in {served}, what is spooled here goes to {path} ({waiting} wait)",
            "set COSESSION_SPOOL to the same directory for both, then: cosession restart",
        )
    if waiting and ground.status is None:
        return Seen(WARNING, f"{waiting} calls wait in {path}, and no daemon answers", "do: cosession start")
    if refused:
        return Seen(
            WARNING,
            f"{refused} calls were refused out of the spool; each has its reason beside it in {path / 'refused'}",
            "read why; do what should still be done by hand, then remove them",
        )
    return Seen(OK, f"{waiting} calls wait in {path}" if waiting else f"nothing waits in {path}")
