"""The engine as the disk of the simulation: it outlives the daemon, and fails as disks do.

With the memory engine the object itself is the disk. With SQLite a kill is a copy of the files as they are at that
moment, opened anew: what a SIGKILL leaves to the next process.

Rule: a batch is in the history when it is on the disk, and the moment it gets there is the moment it is recorded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from cosessiond.store.engine import Batch, Committed, Engine, EntryId, Outcome, Purged, Refused, StoreBroken
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.record import Attached
from cosessiond.store.sqlite import SqliteEngine
from simulation.history import History, Row, Trim
from simulation.knobs import Knobs
from simulation.scheduler import Scheduler

EPOCH = "epoch-of-the-simulation"
#: Between what lies underneath and the daemon: where bugs are seeded.
Wrap = Callable[[Engine], Engine]


class Disk:
    """Makes engines, records what they commit, and breaks them when the plan of faults says so."""

    def __init__(self, world: Scheduler, knobs: Knobs, history: History, directory: Path | None) -> None:
        self.world = world
        self.history = history
        self.full_until_s = 0.0
        self.submitted_s: dict[int, tuple[Batch, float]] = {}
        self.life = 0
        self.upkeeps = 0
        self.on_applied: Callable[[], None] = lambda: None
        self.wrap: Wrap = lambda engine: engine
        self._knobs = knobs
        self._directory = directory
        self._random = world.stream("disk")
        self._engine: Engine | None = None
        self._copies = 0

    def open(self) -> Engine:
        """The engine, for a daemon that starts."""
        self.life += 1
        if self._engine is None:
            if self._knobs.engine == "memory":
                self._engine = self.wrap(MemoryEngine(EPOCH, self._knobs.window()))
            else:
                self._engine = self.wrap(self._open_sqlite())
        return cast("Engine", Recorded(self, self._engine))

    @property
    def engine(self) -> Engine:
        """What lies underneath, for looking at."""
        assert self._engine is not None, "the disk has never been opened"
        return self._engine

    def killed(self) -> None:
        """The daemon is dead: what it did not commit is lost."""
        self.submitted_s.clear()
        power_cut = getattr(self._engine, "power_cut", None)
        if power_cut is not None:
            power_cut()
        if isinstance(self._engine, SqliteEngine):
            assert self._directory is not None
            self._copies += 1
            shutil.copytree(self._directory / str(self._copies - 1), self._directory / str(self._copies))
            self._engine._db.close()  # of the old files, which nobody reads any more
            self._engine = None

    def closed(self) -> None:
        """The daemon ended in order."""
        self.submitted_s.clear()
        if isinstance(self._engine, SqliteEngine):
            self._engine.close()
            self._engine = None

    def close(self) -> None:
        """The run is over."""
        if isinstance(self._engine, SqliteEngine):
            self._engine._db.close()

    def _open_sqlite(self) -> SqliteEngine:
        assert self._directory is not None, "SQLite needs a directory"
        place = self._directory / str(self._copies)
        place.mkdir(exist_ok=True)
        return SqliteEngine.open(place, window=self._knobs.window(), new_epoch=lambda: EPOCH)

    def refuses(self) -> bool:
        """Whether the disk is too full for this group; a smaller one may still find its place."""
        return self.world.now_s < self.full_until_s and self._random.random() < 0.7

    def breaks(self) -> str:
        """Whether this commit raises, and then "before" or "after" it happened."""
        if "io_error" in self._knobs.faults and self._random.random() < 0.004 and not self.history.quiet_from_s:
            return self._random.choice(("before", "after"))
        return ""

    def record(self, batches: Sequence[Batch], outcomes: Sequence[Outcome]) -> None:
        """A group is durable."""
        now_s = self.world.now_s
        for batch, outcome in zip(batches, outcomes, strict=True):
            if isinstance(outcome, Committed) and not outcome.repeated and self._is_new(outcome):
                _, submitted_s = self.submitted_s.get(id(batch), (batch, now_s))
                self.history.rows.append(Row(outcome.revision, batch, outcome, self.life, submitted_s, now_s))
        self.world.note(f"applied {len(batches)} -> {self.history.revision}")
        self.on_applied()

    def _is_new(self, outcome: Committed) -> bool:
        """Whether it took a revision, as it must when it changed something, and must not else."""
        return bool(outcome.changes) or outcome.revision > self.history.revision


class Recorded:
    """The engine as the daemon gets it."""

    def __init__(self, disk: Disk, engine: Engine) -> None:
        self._disk = disk
        self._engine = engine

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        """See `Engine.apply`."""
        disk = self._disk
        if disk.refuses():
            disk.world.note("disk full")
            refused: Outcome = Refused(disk.history.revision, "disk_full", "cannot write: the disk is full")
            return [refused for _ in batches]
        broken = disk.breaks()
        if broken != "before":
            outcomes = self._engine.apply(batches, records)
            disk.record(batches, outcomes)
            if not broken:
                return outcomes
        disk.world.note(f"commit raises {broken} it happened")
        raise StoreBroken("cannot commit: I/O error")

    def trim(self, rows_max: int, *, settle_rows: int = 0) -> int:
        """See `Engine.trim`."""
        self._disk.upkeeps += 1
        dropped = self._engine.trim(rows_max, settle_rows=settle_rows)
        if dropped:
            history = self._disk.history
            history.compact = self._engine.position().compact_revision
            history.trims.append(Trim(history.revision, history.compact))
            self._disk.world.note(f"trimmed {dropped}, compact {self._disk.history.compact}")
        return dropped

    def purge(self, id: EntryId, *, before: int, after: int, rows_max: int) -> Purged | None:
        """See `Engine.purge`."""
        if self._disk.refuses():
            return None
        purged = self._engine.purge(id, before=before, after=after, rows_max=rows_max)
        self._disk.world.note(f"purged {id[2]} {purged}")
        return purged

    def erase(self) -> bool:
        """See `Engine.erase`."""
        return not self._disk.refuses() and self._engine.erase()

    def move(self) -> None:
        """See `Engine.move`."""
        self._disk.upkeeps += 1
        self._disk.world.note(f"checkpoint of {self._engine.unmoved_bytes} bytes")
        self._engine.move()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
