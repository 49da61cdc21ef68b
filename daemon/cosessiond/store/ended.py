"""The versions of keys that were deleted: they go, whole, once the log window has passed the deletion.

A key has ended when its newest version is a deletion and the batch of that leaves the log. From the transaction on in
which it does nobody is shown anything of it, whether or not the key is put again later. Its versions go in the same
transaction, and where they are too many the key is noted in `ended` and they go with the next slices; oldest first, so
that reads in the window find the deletion to the last.

The sweep is one pass over all keys, for what had ended before anybody looked: in a store of an earlier schema, or in
the epoch before. Its place is noted too, so that it is finished once and for all.

Rule: what is noted is what the tables hold; `begin` and `keep` stand around a transaction, and one that is rolled back
has changed nothing here.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from cosessiond.store.behind import Behind
from cosessiond.store.engine import EntryId, StoreBroken, Window
from cosessiond.store.hash import record_hash

#: What frees about as much as a small row costs.
PAGE_BYTES: Final = 4096
#: Rows of work that the look at one key of a sweep is.
SWEEP_ROWS: Final = 2

_OF: Final = "FROM versions WHERE space = ?1 AND project = ?2 AND key = ?3"
_NEWER: Final = f"SELECT EXISTS (SELECT 1 {_OF} AND mod_revision > ?4)"
_OLDER: Final = f"SELECT rowid, length(value) {_OF} AND mod_revision < ?4 ORDER BY mod_revision LIMIT ?5"
_SURPLUS: Final = (
    f"SELECT rowid, length(value) {_OF} AND mod_revision < ?4 AND mod_revision <"  # of constants
    f" (SELECT mod_revision {_OF} ORDER BY mod_revision DESC LIMIT 1 OFFSET ?5) ORDER BY mod_revision LIMIT ?6"
)
_DROP: Final = "DELETE FROM versions WHERE rowid = ?"
_NEWEST: Final = f"SELECT kind, mod_revision {_OF} ORDER BY mod_revision DESC LIMIT 1"
_NEXT_KEY: Final = (
    "SELECT space, project, key FROM versions WHERE (space, project, key) > (?, ?, ?)"
    " ORDER BY space, project, key LIMIT 1"
)
_NOTED: Final = "SELECT space, project, key, before_revision, hash FROM ended"
_NOTE: Final = "INSERT OR REPLACE INTO ended (space, project, key, before_revision, hash) VALUES (?, ?, ?, ?, ?)"
_UNNOTE: Final = "DELETE FROM ended WHERE space = ? AND project = ? AND key = ?"
_DONE: Final = "DELETE FROM sweep"
_SWEPT: Final = "INSERT OR REPLACE INTO sweep (id, space, project, key) VALUES (1, ?, ?, ?)"


def begin_sweep(db: sqlite3.Connection) -> None:
    """Have all keys looked at again, in the transaction of the caller."""
    db.execute(_SWEPT, ("", "", ""))


class _State(NamedTuple):
    """What is noted: of each key that has ended, below which revision it goes; how far the sweep is, None: done."""

    before: dict[EntryId, int]
    swept: EntryId | None


class Ended:
    """Which keys have ended and are still there, and where the sweep stands."""

    def __init__(self, db: sqlite3.Connection, behind: Behind, window: Window) -> None:
        self._db = db
        self._behind = behind
        self._window = window
        swept = db.execute("SELECT space, project, key FROM sweep").fetchone()
        self._now = self._next = _State(dict(map(_checked, db.execute(_NOTED))), swept)

    @property
    def left(self) -> int:
        """How much there is to do: the keys noted, and the sweep as one."""
        return len(self._now.before) + (self._now.swept is not None)

    def before(self, id: EntryId) -> int:
        """Nothing of this key below that revision is shown; 0: all is."""
        return self._now.before.get(id, 0)

    def begin(self) -> None:
        """A transaction has begun; what an earlier one did and did not keep never was."""
        self._next = _State(dict(self._now.before), self._now.swept)

    def keep(self) -> None:
        """It has committed."""
        self._now = self._next

    def end(self, id: EntryId, revision: int, rows_max: int) -> int:
        """The deletion of `id` at `revision` leaves the window: drop its versions unless it was put again. Returns how
        many rows of work that was; what is above `rows_max` is noted instead.
        """
        if self._is_newer(id, revision):
            return 1
        before = revision + 1
        done, is_over = self._drop(id, before, rows_max) if rows_max > 0 else (0, False)
        if not is_over:
            self._next.before[id] = before
            self._db.execute(_NOTE, (*id, before, record_hash(*id, before)))
        return done + 1

    def drop(self, rows_max: int) -> int:
        """Go on with the keys that are noted; returns how many rows of work that was."""
        done = 0
        for id, before in self._now.before.items():
            if done >= rows_max:
                break
            dropped, is_over = self._drop(id, before, rows_max - done)
            done += dropped + 1
            if is_over:
                del self._next.before[id]
                self._db.execute(_UNNOTE, id)
        return done

    def sweep(self, compact_revision: int, rows_max: int) -> int:
        """Go on with the pass over all keys; returns how many rows of work that was."""
        swept, done = self._next.swept, 0
        while swept is not None and done < rows_max:
            id = self._db.execute(_NEXT_KEY, swept).fetchone()
            done += SWEEP_ROWS
            if id is None:
                swept = None
                break
            kind, revision = self._db.execute(_NEWEST, id).fetchone()
            left = max(1, rows_max - done)
            if kind != "put" and revision < compact_revision and not self._is_newer(id, revision):
                dropped, is_over = self._drop(id, revision + 1, left)
            else:
                dropped, is_over = self.drop_surplus(id, compact_revision, left)
            done += dropped
            if not is_over:
                break
            swept = id
        if swept != self._next.swept:
            self._db.execute(_SWEPT, swept) if swept else self._db.execute(_DONE)
            self._next = self._next._replace(swept=swept)
        return done

    def drop_surplus(self, id: EntryId, revision: int, rows_max: int) -> tuple[int, bool]:
        """Of the versions of a key before `revision`, those that are not among the newest; how many rows of work that
        was, and whether none is left.
        """
        newest = self._window.versions_in(id[0])
        return self._drop_these(_SURPLUS, (*id, revision, newest - 1), rows_max)

    def _drop(self, id: EntryId, before: int, rows_max: int) -> tuple[int, bool]:
        return self._drop_these(_OLDER, (*id, before), rows_max)

    def _drop_these(self, which: str, bounds: tuple[object, ...], rows_max: int) -> tuple[int, bool]:
        rows = self._db.execute(which, (*bounds, rows_max)).fetchall()
        done = 0
        dropped: list[tuple[int]] = []
        for rowid, value_bytes in rows:
            if done >= rows_max:
                break
            dropped.append((rowid,))
            done += 1 + value_bytes // PAGE_BYTES
        if dropped:
            self._db.executemany(_DROP, dropped)
        return done, len(dropped) == len(rows) < rows_max

    def _is_newer(self, id: EntryId, revision: int) -> bool:
        """Whether anything happened to the key after `revision`."""
        return bool(self._behind.versions_of(id) or self._db.execute(_NEWER, (*id, revision)).fetchone()[0])


def _checked(row: tuple[str, str, str, int, bytes]) -> tuple[EntryId, int]:
    space, project, key, before, digest = row
    if record_hash(space, project, key, before) != digest:
        raise StoreBroken(f"cannot trust the store: what is left of {key!r} of {space} does not match its hash")
    return (space, project, key), before
