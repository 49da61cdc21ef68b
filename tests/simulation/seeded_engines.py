"""The seeded bugs of the engine: each an engine around another that does one thing wrong.

Rule: the engine inside is a real one; what is wrong is done to batches on their way in or outcomes on their way out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import msgpack
from msgspec.structs import replace

from cosessiond.store.engine import Add, Append, Batch, Committed, Engine, Entry, EntryId, Outcome, Purged, Put, Write
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.record import Attached
from simulation.disk import EPOCH, Wrap


class Around:
    """An engine around another."""

    def __init__(self, engine: Any) -> None:
        self._inside = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


class Volatile(Around):
    """Acknowledges before the commit: the newest group reaches the disk only with the next one."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self._window = engine._window
        self._synced: list[Batch] = []
        self._unsynced: list[Batch] = []

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        self._synced += self._unsynced
        self._unsynced = list(batches)
        found: list[Outcome] = self._inside.apply(batches, records)
        return found

    def power_cut(self) -> None:
        self._inside = MemoryEngine(EPOCH, self._window)
        self._inside.apply(self._synced)
        self._unsynced = []


class Blind(Around):
    """Does not look at the compares of writes."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        found: list[Outcome] = self._inside.apply([replace(batch, compares=()) for batch in batches], records)
        return found


class Forgetful(Around):
    """Keeps request ids in memory only."""

    def power_cut(self) -> None:
        self._inside._requests.clear()


class Halving(Around):
    """Leaves the last write of a larger batch out now and then."""

    count = 0

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        found: list[Outcome] = self._inside.apply([self._half(batch) for batch in batches], records)
        return found

    def _half(self, batch: Batch) -> Batch:
        if len(batch.then) < 2 or batch.origin.operation != "txn":
            return batch
        self.count += 1
        return batch if self.count % 3 else replace(batch, then=batch.then[:-1])


class Spending(Around):
    """Takes a revision for a batch that turned out to have nothing to do."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        self._inside.apply([], [(None, record) for index, record in records if index is None])
        return [self._spend(self._inside.apply([batch])[0]) for batch in batches]

    def _spend(self, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Committed) or outcome.changes or outcome.repeated:
            return outcome
        self._inside._revision += 1
        return replace(outcome, revision=self._inside._revision)


class Early(Around):
    """Evaluates one kind of write by what stood before its group."""

    kind: type[Add | Append]

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        before = {entry.id: entry for entry in self._inside.entries()}
        early = [replace(batch, then=tuple(self._done(write, before) for write in batch.then)) for batch in batches]
        found: list[Outcome] = self._inside.apply(early, records)
        return found

    def _done(self, write: Write, before: dict[EntryId, Entry]) -> Write:
        entry = before.get(write.id)
        if not isinstance(write, self.kind) or entry is None:
            return write
        operand = write.number if isinstance(write, Add) else write.values
        values = msgpack.decode(entry.value), msgpack.decode(operand)
        if type(values[0]) is not type(values[1]):
            return write
        return self._written(entry, msgpack.encode(values[0] + values[1]))

    def _written(self, entry: Entry, value: bytes) -> Put:
        return Put(entry.id, value, entry.ttl_ms, entry.owner)


class EarlySum(Early):
    kind = Add


class EarlyList(Early):
    kind = Append


class Detaching(EarlySum):
    """An add leaves the entry without its lease; one batch at a time, so that the sum is right."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        self._inside.apply([], [(None, record) for index, record in records if index is None])
        return [super(Detaching, self).apply([batch])[0] for batch in batches]

    def _written(self, entry: Entry, value: bytes) -> Put:
        return Put(entry.id, value)


class Overruling(Around):
    """Does not look at what a revert was decided on."""

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        bare = [replace(each, compares=()) if each.origin.operation == "revert" else each for each in batches]
        found: list[Outcome] = self._inside.apply(bare, records)
        return found


class Sparing(Around):
    """Purges the versions and not the log."""

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:
        log = self._inside._log
        found: Purged | None = self._inside.purge(id, before=before, after=after, rows_max=rows_max)
        self._inside._log = log
        return found


class Greedy(Around):
    """Purges all versions, whatever was asked for."""

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:  # noqa: ARG002 - so it is
        found: Purged | None = self._inside.purge(id, before=1 << 62, after=after, rows_max=rows_max)
        return found


class Keeping(Around):
    """Keeps what is left of a key that was deleted below the window."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        engine._drop_ended = lambda: None


class Ending(Around):
    """Drops what is below a deletion that left the window, also of a key that was put again in time."""

    def trim(self, rows_max: int, *, settle_rows: int = 0) -> int:
        done: int = self._inside.trim(rows_max, settle_rows=settle_rows)
        for versions in self._inside._versions.values():
            begin = self._inside.position().compact_revision
            below = [at for at, v in enumerate(versions) if v.change.kind != "put" and v.batch.revision < begin]
            del versions[: below[-1] + 1 if below else 0]
        return done


def around(kind: Callable[[Any], Any]) -> Wrap:
    def wrap(engine: Engine) -> Engine:
        wrapped: Engine = kind(engine)
        return wrapped

    return wrap
