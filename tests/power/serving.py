"""The daemon of a recording and of a fault sweep: `python serving.py BUG`; BUG is "none" or a seeded bug.

Its log is laid out and moved in smaller pieces than the product's, so that a short run has many rounds of it; all else
is the daemon as it is.

Rule: a bug breaks exactly one promise.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from sqlite3 import OperationalError
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cosessiond.__main__ import main as serve
from cosessiond.process import durable
from cosessiond.store import pacing, schema, sqlite
from durability import sabotage

KIB: Final = 1024


def smaller() -> None:
    """Rounds of the log that a few dozen batches fill."""
    sqlite.WAL_BYTES = 256 * KIB  # type: ignore[misc]
    pacing.MOVE_DUE_BYTES = 192 * KIB  # type: ignore[misc]
    pacing.SETTLE_DUE_ROWS = 64  # type: ignore[misc]
    pacing.TRIM_DUE_BATCHES = 16  # type: ignore[misc]


def none() -> None:
    """No bug."""


def synchronous_normal() -> None:
    """P1: a commit is not synced; the next checkpoint is."""
    schema._SETTINGS = tuple(  # type: ignore[misc]
        ("synchronous", "NORMAL", 1) if each[0] == "synchronous" else each for each in schema._SETTINGS
    )


def directories_unsynced() -> None:
    """P1: what the daemon itself puts in its place may be gone again."""
    durable.sync_directory = lambda _: None  # type: ignore[assignment]


def failed_commits_ignored() -> None:
    """P13: an I/O error in a commit is taken for none."""

    @contextlib.contextmanager
    def transaction(self: sqlite.SqliteEngine) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except OperationalError:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    sqlite.SqliteEngine._transaction = transaction  # type: ignore[method-assign]


BUGS: Final[dict[str, Callable[[], None]]] = {
    "none": none,
    "synchronous_normal": synchronous_normal,
    "directories_unsynced": directories_unsynced,
    "failed_commits_ignored": failed_commits_ignored,
    "acknowledge_before_commit": sabotage.acknowledge_before_commit,
}


if __name__ == "__main__":
    os.umask(0o077)
    smaller()
    BUGS[sys.argv[1]]()
    sys.exit(serve([]))
