"""Opening any engine by name, and short words for the batches that tests send.

Rule: what a test says about one engine it can say about all of them; the differences between engines end here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from msgspec import msgpack

from cosessiond.store.engine import (
    BATCH_FORMAT,
    Add,
    Append,
    Batch,
    Committed,
    Compare,
    CompareField,
    Delete,
    Engine,
    EntryCompare,
    EntryId,
    Merge,
    Origin,
    Outcome,
    Put,
    RangeCompare,
    Window,
    Write,
)
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.record import Attached
from cosessiond.store.sqlite import SqliteEngine

#: "settled" is the SQLite engine that never leaves its tables behind the log.
NAMES = ("memory", "sqlite", "settled")
EPOCH = "epoch-1"
DEFAULT_WINDOW = Window()
UNBOUNDED = 1 << 40


class Place:
    """Where one engine is opened, and opened again as after a restart of the daemon."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._engine: Engine | None = None
        self._window = DEFAULT_WINDOW

    def open(self, window: Window = DEFAULT_WINDOW) -> Engine:
        """A new store; the one opened before here must be another's or closed."""
        self._window = window
        if self.name == "memory":
            self._engine = MemoryEngine(EPOCH, window)
        else:
            self._engine = self._kind.open(self.directory, window=window, new_epoch=lambda: EPOCH)
        return self._engine

    @property
    def _kind(self) -> type[SqliteEngine]:
        return Settled if self.name == "settled" else SqliteEngine

    def reopen(self) -> Engine:
        """The same store after a close. A store in memory has no file to be opened again: it stays as it is."""
        assert self._engine is not None
        self._engine.close()
        if self.name != "memory":
            self._engine = self._kind.open(self.directory, window=self._window, new_epoch=_another_epoch)
        return self._engine

    def crash(self) -> Engine:
        """The same store as a SIGKILL leaves it: opened from a copy of its files, without a close before."""
        assert isinstance(self._engine, SqliteEngine)
        copy = Path(tempfile.mkdtemp(dir=self.directory))
        for file in self.directory.glob("store.db*"):
            shutil.copy(file, copy)
        self.close()
        self.directory = copy
        self._engine = self._kind.open(copy, window=self._window, new_epoch=_another_epoch, was_used=True)
        return self._engine

    def close(self) -> None:
        """Close what is open here."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


class Settled(SqliteEngine):
    """Writes what follows from each group at once."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """See `Engine`."""
        outcomes = super().apply(batches, records)
        while self.unsettled_rows:
            assert self.settle(1)
        return outcomes


def _another_epoch() -> str:
    raise AssertionError("a store that exists was given a new epoch")


def id_of(key: str, space: str = "context", project: str = "p") -> EntryId:
    """The id of an entry, by default in one space and project."""
    return (space, project, key)


def raw(value: Any) -> bytes:
    """`value` as the store keeps it."""
    return msgpack.encode(value)


def put(key: str, value: Any = 1, *, ttl_ms: int = 0, owner: str = "") -> Put:
    """Write `value` under `key`."""
    return Put(id_of(key), raw(value), ttl_ms, owner)


def delete(key: str, kind: Literal["delete", "expire"] = "delete") -> Delete:
    """Remove `key`."""
    return Delete(id_of(key), kind)


def merge(key: str, patch: Any) -> Merge:
    """Merge `patch` into `key`."""
    return Merge(id_of(key), raw(patch))


def add(key: str, number: float) -> Add:
    """Add `number` to `key`."""
    return Add(id_of(key), raw(number))


def append(key: str, *values: Any) -> Append:
    """Append `values` to `key`."""
    return Append(id_of(key), raw(values))


def expect(key: str, field: CompareField, value: int) -> EntryCompare:
    """Compare a field of `key`."""
    return EntryCompare(id_of(key), field, value)


def nothing_newer(prefix: str, revision: int) -> RangeCompare:
    """Nothing under `prefix` is newer than `revision`."""
    return RangeCompare("context", "p", prefix, revision)


def batch(
    *writes: Write,
    when: tuple[Compare, ...] = (),
    otherwise: tuple[Write, ...] = (),
    request: str = "",
    content: bytes = b"",
    session: str = "s1",
    time_ms: int = 1_000,
) -> Batch:
    """A batch; `request` and `content` are the request id and hash of its origin."""
    origin = Origin("h", session, "i", "put", request, content)
    return Batch(BATCH_FORMAT, time_ms, origin, when, writes, otherwise)


def one(engine: Engine, each: Batch) -> Outcome:
    """Apply one batch as a group of its own."""
    (outcome,) = engine.apply([each])
    return outcome


def commit(engine: Engine, *writes: Write, **named: Any) -> Committed:
    """Apply one batch of `writes` that must commit; `named` as in `batch`."""
    outcome = one(engine, batch(*writes, **named))
    assert isinstance(outcome, Committed), outcome
    return outcome


def _now(engine: Engine) -> int:
    return max(1, engine.position().revision)  # there is no revision 0 to read at


def value_now(engine: Engine, key: str) -> Any:
    """The value under `key` as it stands, decoded; None when absent."""
    entry = engine.entry_at(id_of(key), _now(engine))
    return None if entry is None else cast("Any", msgpack.decode(entry.value))


def keys_now(engine: Engine, **named: Any) -> list[str]:
    """The keys of a range as it stands; `named` as in `Engine.range_at`."""
    given: dict[str, Any] = {"prefix": "", "after": "", "limit": 1_000, "revision": _now(engine)} | named
    return [entry.id[2] for entry in engine.range_at("context", "p", **given).entries]


def trim_all(engine: Engine, rows_max: int = 1_000) -> int:
    """Trim until nothing is left to do; returns how many rows went."""
    total = 0
    while dropped := engine.trim(rows_max):
        total += dropped
    return total
