"""The database file under a long churn: bounded by live data, window and history, whatever the shape of the writes.

Rule: counted in batches and bytes, with a small window, so that it is written through many times in seconds. That the
bound would be broken is shown by trimming that is one unit too slow.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosessiond.store import pacing
from cosessiond.store.commit import Worker
from cosessiond.store.engine import Batch, Window
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.tickets import Ticket
from cosessiond.store.trimming import Trimming
from store.engines import EPOCH, batch, delete, put

WINDOW = Window(log_revisions=40, log_bytes=200_000, versions=3, request_ids=50)
VALUE = "x" * 200
ROUNDS = 160
GROUP = 8
#: A row besides its value, and how full pages are.
ROW_BYTES = 400
SLACK = 2.0
SPARE_BYTES = 200_000


def narrow(number: int) -> Batch:
    return batch(put(f"k{number * 7 % 300}", VALUE), request=f"r{number}")


def hot(number: int) -> Batch:
    return batch(put("hot", VALUE + str(number)), request=f"r{number}")


def wide(number: int) -> Batch:
    return batch(*[put(f"k{(number * 5 + each) % 300}", number) for each in range(24)])


def deletes(number: int) -> Batch:
    keys = [f"k{(number // 2 * 16 + each) % 300}" for each in range(16)]
    return batch(*[delete(key) if number % 2 else put(key, VALUE) for key in keys])


def large(number: int) -> Batch:
    return batch(put(f"k{number % 5}", VALUE * 100))


SHAPES: dict[str, tuple[Callable[[int], Batch], int, int, int]] = {
    # the shape, its keys, the bytes of a value, writes of a batch
    "narrow": (narrow, 300, 200, 1),
    "one hot key": (hot, 1, 210, 1),
    "wide": (wide, 300, 4, 24),
    "deletes": (deletes, 300, 200, 16),
    "large values": (large, 5, 20_000, 1),
}


class Churn:
    """A worker whose writers never pause."""

    def __init__(self, directory: Path) -> None:
        self.engine = SqliteEngine.open(directory, window=WINDOW, new_epoch=lambda: EPOCH)
        self._worker = Worker(self.engine, self, lambda told, *facts: told(*facts))  # type: ignore[arg-type]
        self._file = directory / "store.db"

    def publish(self, *_: object) -> None:
        """A group is durable."""

    def tended(self, *_: object) -> None:
        """Upkeep was done."""

    def broken(self, error: Exception) -> None:
        """It must not."""
        raise error

    def run(self, shape: Callable[[int], Batch]) -> int:
        """Rounds of a full queue; the largest size of the file in bytes."""
        largest = 0
        for number in range(ROUNDS * GROUP):
            self._worker.take(Ticket(shape(number), lambda _: None, 0))
            if self._worker.waiting >= GROUP:
                self._worker.step()
                largest = max(largest, self._file.stat().st_size)
        self.engine.close()
        return max(largest, self._file.stat().st_size)


def bound(keys: int, value_bytes: int, writes: int) -> int:
    """Live data and history; the window and what may be surplus, as log and as versions; request ids."""
    row = value_bytes + ROW_BYTES
    batches = WINDOW.log_revisions + pacing.BACKLOG_TIMES_MAX * pacing.TRIM_DUE_BATCHES + 2 * GROUP
    kept = keys * (1 + WINDOW.versions) * row + 2 * batches * writes * row + WINDOW.request_ids * writes * ROW_BYTES
    return int(SLACK * kept + SPARE_BYTES)


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "TRIM_DUE_BATCHES", 2)
    monkeypatch.setattr(pacing, "BACKLOG_TIMES_MAX", 8)
    monkeypatch.setattr(pacing, "SETTLE_DUE_ROWS", 256)
    monkeypatch.setattr(pacing, "MOVE_DUE_BYTES", 100_000)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_file_stays_within_live_data_window_and_history(tmp_path: Path, shape: str) -> None:
    make, *facts = SHAPES[shape]
    assert Churn(tmp_path).run(make) < bound(*facts)


@pytest.mark.parametrize("shape", ["one hot key", "large values"])
def test_trimming_that_is_too_slow_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    """Half a batch for each one that comes, and a policy that does not hear of it."""
    whole = Trimming.trim
    turns = iter(range(1_000_000))

    def slow(self: Trimming, meta: object, settled: object, _: int) -> int:
        return 1 if next(turns) % 16 else whole(self, meta, settled, 1)  # type: ignore[arg-type]

    monkeypatch.setattr(Trimming, "trim", slow)
    monkeypatch.setattr(pacing, "share", lambda _: 1.0)
    make, *facts = SHAPES[shape]
    assert Churn(tmp_path).run(make) > bound(*facts)
