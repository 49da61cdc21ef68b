"""A daemon whose audit has one seeded bug, for its judge to see: `python audit_sabotage.py NAME`.

Each patches the installed daemon in its own process, before it starts, as those of `durability.sabotage` do: the
records of a group leave its transaction, with a pause between the two in which a kill is likely.

Rule: a sabotage breaks exactly one half of "one is there if and only if the other is".
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from cosessiond.__main__ import main as serve
from cosessiond.store.record import Record
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.writes import Group

#: How long there is one without the other.
APART_S: Final = 0.02


def none() -> None:
    """No bug."""


def record_first() -> None:
    """The records are durable before their batches: a record without its batch."""

    def write(self: SqliteEngine, group: Group, audit: Sequence[Record]) -> None:
        with self._transaction():
            self._audit.write(audit)
        time.sleep(APART_S)
        with self._transaction():
            group.write(self._db)

    SqliteEngine._write = write  # type: ignore[method-assign]


def batch_first() -> None:
    """The batches are durable before their records: a batch without its record."""

    def write(self: SqliteEngine, group: Group, audit: Sequence[Record]) -> None:
        with self._transaction():
            group.write(self._db)
        time.sleep(APART_S)
        with self._transaction():
            self._audit.write(audit)

    SqliteEngine._write = write  # type: ignore[method-assign]


#: By name; what the judge must say stands in test_audit_kills.py.
SABOTAGES: Final[dict[str, Callable[[], None]]] = {each.__name__: each for each in (none, record_first, batch_first)}


if __name__ == "__main__":
    os.umask(0o077)
    SABOTAGES[sys.argv[1]]()
    sys.exit(serve([]))
