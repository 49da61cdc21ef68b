"""What SQLite says when the disk gives no more room.

It has a code for a full disk, ENOSPC. A quota that is used up (EDQUOT) it calls an I/O error while writing, and Python
does not tell the number of the system; so the file system is asked, and only one that refuses room now is believed to
have refused it then. A write that was refused has written nothing that counts: the frame that commits comes last.

Rule: every other error is one of the disk, whose outcome nobody knows.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cosessiond.process.reserve import refuses_to_grow


def is_full(error: sqlite3.Error, db: sqlite3.Connection) -> bool:
    """Whether `error`, met while writing `db`, means that there was no room, and nothing else."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return True
    if code != sqlite3.SQLITE_IOERR_WRITE:
        return False
    _, _, file = db.execute("PRAGMA database_list").fetchone()
    return refuses_to_grow(Path(file).parent)
