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
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec import structs

from cosessiond import opening
from cosessiond.__main__ import main as serve
from cosessiond.maintenance import swap
from cosessiond.process import durable
from cosessiond.store import backup, copying, marking, marks, pacing, schema, sqlite
from cosessiond.store.engine import Position
from durability import sabotage

KIB: Final = 1024


def smaller() -> None:
    """Rounds of the log that a few dozen batches fill, and marks in between."""
    sqlite.WAL_BYTES = 256 * KIB  # type: ignore[misc]
    pacing.MOVE_DUE_BYTES = 192 * KIB  # type: ignore[misc]
    pacing.SETTLE_DUE_ROWS = 64  # type: ignore[misc]
    pacing.TRIM_DUE_BATCHES = 16  # type: ignore[misc]
    marking.MARK_REVISIONS = 7  # type: ignore[misc]


def none() -> None:
    """No bug."""


def synchronous_normal() -> None:
    """P1: a commit is not synced; the next checkpoint is."""
    schema._SETTINGS = tuple(  # type: ignore[misc]
        ("synchronous", "NORMAL", 1) if each[0] == "synchronous" else each for each in schema._SETTINGS
    )


def names_unsynced() -> None:
    """P10: a name that the daemon itself has given may be gone again."""
    for module in (durable, backup, swap):
        module.sync_directory = lambda _: None  # type: ignore[attr-defined]


def copies_unsynced() -> None:
    """P10: a backup has its name before it has its bytes."""
    copying.sync = lambda _: None  # type: ignore[attr-defined]


def mark_ahead() -> None:
    """P14: while it works, the mark says one revision more than there is; in the end it is right."""
    write, mark = marks.Marker.write, opening._mark
    ends: list[bool] = []

    def ahead(self: marks.Marker, position: Position) -> None:
        write(self, position if ends else structs.replace(position, revision=position.revision + 1))

    def at_an_end(*given: Any) -> None:
        ends.append(True)
        mark(*given)
        ends.clear()

    marks.Marker.write = ahead  # type: ignore[method-assign]
    opening._mark = at_an_end


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
    "names_unsynced": names_unsynced,
    "copies_unsynced": copies_unsynced,
    "mark_ahead": mark_ahead,
    "failed_commits_ignored": failed_commits_ignored,
    "acknowledge_before_commit": sabotage.acknowledge_before_commit,
}


def main(arguments: list[str]) -> int:
    """The daemon with this bug."""
    os.umask(0o077)
    smaller()
    BUGS[arguments[0]]()
    return serve([])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
