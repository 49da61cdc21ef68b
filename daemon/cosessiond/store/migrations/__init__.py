"""Numbered migrations: module `mNNN` brings the schema from N-1 to N in one transaction.

Rule: a released migration never changes. A new one is a new module, and joins `MIGRATIONS`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from cosessiond.store.migrations import m001, m002, m003

MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    m001.migrate,
    m002.migrate,
    m003.migrate,
)
SCHEMA: Final = len(MIGRATIONS)
