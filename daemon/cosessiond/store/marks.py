"""The mark: the recorded (epoch, revision, chain hash) that proves how far the store once was.

SQLite takes a log that lost its end, or one flipped bit, for a shorter log, and a copy of last week for the store
itself. So beside the database lies a small file that says what it must contain. It is written off the commit path (5 s
after the first unmarked revision, every 1,000, and at the end), of what is durable already, so that it is never ahead.

A mark that is missing or torn proves nothing, and is no damage: the hashes of the store stand alone then. One of an
older epoch is explained by how epochs begin, which is above every mark.

Rule: a mark is read and written whole; what it means for a store is decided by `judge`, which touches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct, structs

from cosession.errors import ConfigError
from cosessiond.process.durable import write_whole
from cosessiond.process.files import open_plain
from cosessiond.process.sidecar import sealed, unsealed
from cosessiond.store.engine import Position, StoreDamaged

NAME: Final = "mark"
#: A mark has about 250 bytes; a file with more is none.
BYTES_MAX: Final = 4096
DAMAGE_CHARS_MAX: Final = 500


class Mark(Struct, frozen=True, kw_only=True):
    """`chain_hash` is in hexadecimal. `claimed_revision`: a client has proved that this epoch went so far, though the
    store does not (0: nobody has). `damage`: why the daemon had to stop; the store is not served again as it is.
    """

    epoch: str
    revision: int
    chain_hash: str
    claimed_revision: int = 0
    damage: str = ""


def read(state: Path) -> Mark | str:
    """The mark in a state directory; in words why there is none to go by."""
    try:
        with os.fdopen(open_plain(state / NAME, os.O_RDONLY), "rb") as file:
            mark = unsealed(file.read(BYTES_MAX), Mark)
    except FileNotFoundError:
        return "there is none"
    except (OSError, ConfigError) as error:
        return f"it cannot be read: {error}"
    return mark or "it is torn, or does not match its hash"


class Marker:
    """Writes the mark of one running store. Called by whoever owns the engine, one call at a time."""

    def __init__(self, state_fd: int) -> None:
        self._state_fd = state_fd
        self._written: Mark | None = None
        self._claimed_revision = 0
        self._damage = ""

    def write(self, position: Position) -> None:
        """Record how far the store is; does nothing when that is recorded. Raises OSError: the old mark stays."""
        mark = Mark(
            epoch=position.epoch,
            revision=position.revision,
            chain_hash=position.chain_hash.hex(),
            claimed_revision=self._claimed_revision,
            damage=self._damage,
        )
        if mark != self._written and (position.revision or self._written):  # an empty store proves nothing
            write_whole(self._state_fd, NAME, sealed(mark))
            self._written = mark

    def found(self, mark: Mark) -> None:
        """What stands there was read: it need not be written again."""
        self._written = mark

    def forget(self) -> None:
        """What was read is gone: another store is in the place of the one that was marked."""
        self._written = None

    def claimed(self, revision: int) -> None:
        """A client remembers `revision` of this epoch, which the store does not have; goes with the next mark."""
        self._claimed_revision = max(self._claimed_revision, revision)

    def damaged(self, why: str) -> None:
        """The daemon stops for damage, and nobody uses the engine any more; the mark says so. Raises OSError."""
        if self._written:
            self._damage = why[:DAMAGE_CHARS_MAX]
            write_whole(self._state_fd, NAME, sealed(structs.replace(self._written, damage=self._damage)))


def judge(mark: Mark, position: Position, chain_at: Callable[[int], bytes | None]) -> None:
    """Raises StoreDamaged when the store is not the one that was marked, or no longer reaches as far.

    `chain_at` gives the chain hash of a revision that the log still has.
    """
    if mark.epoch != position.epoch:
        if position.revision < mark.revision:  # an epoch begins above every mark there was
            raise StoreDamaged(
                f"cannot trust the store: it is another one, of epoch {position.epoch} at revision "
                f"{position.revision}, where revision {mark.revision} of epoch {mark.epoch} was marked"
            )
        return
    if mark.damage:
        raise StoreDamaged(mark.damage)
    if position.revision < mark.revision:
        raise StoreDamaged(
            f"cannot trust the store: it ends at revision {position.revision}, {mark.revision} was marked: "
            f"{mark.revision - position.revision} acknowledged revisions are lost",
            lost=(position.revision + 1, mark.revision),
        )
    found = chain_at(mark.revision)
    if found is not None and found.hex() != mark.chain_hash:
        raise StoreDamaged(
            f"cannot trust the store: its revision {mark.revision} is not the one that was marked; "
            "the file was exchanged"
        )
