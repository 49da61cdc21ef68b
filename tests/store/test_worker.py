"""What the commit thread does between groups, taken step by step over a real database: upkeep is never put off for
good, whoever is busy, and never spins when it can do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosessiond.store import commit, pacing
from cosessiond.store.commit import Worker
from cosessiond.store.engine import Window
from cosessiond.store.pacing import MOVE_DUE_BYTES, OVERDUE_TIMES
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.tickets import Slice, Ticket
from store.engines import EPOCH, batch, put

VALUE = "x" * 200_000


class Rig:
    """A worker without a thread; whatever it delivers is counted."""

    def __init__(self, engine: SqliteEngine) -> None:
        self.engine = engine
        self.worker = Worker(engine, self, self._deliver)  # type: ignore[arg-type]
        self.groups: list[int] = []
        self.read = 0
        self.tended_times = 0
        self.next: Callable[[], None] | None = None  # writes the next batch while a group is being committed

    def _deliver(self, told: Callable[..., object], *arguments: Any) -> None:
        told(*arguments)

    def publish(self, tickets: list[Ticket], outcomes: list[Any], _took: Any = None) -> None:
        assert len(tickets) == len(outcomes)
        self.groups.append(len(tickets))
        if self.next is not None:
            self.next()

    def tended(self, position: Any, surplus: Any, stored_bytes: int) -> None:  # noqa: ARG002
        self.tended_times += 1

    def broken(self, error: Exception) -> None:
        raise error

    def write(self, key: str, value: Any = VALUE) -> None:
        write = put(key, value)
        self.worker.take(Ticket(batch(write), lambda _: None, len(write.value)))

    def look(self) -> None:
        def count(_: object) -> None:
            self.read += 1

        self.worker.take(Slice(lambda engine: engine.position(), count))

    def ask(self) -> None:
        """As after a refusal, whether the request was committed before."""
        self.worker.take(Ticket(batch(), lambda _: None, 0, asks=True))

    def rest(self) -> int:
        """Steps until there is nothing to do, at most 1,000."""
        for steps in range(1_000):
            if not self.worker.has_work:
                return steps
            self.worker.step()
        raise AssertionError("the worker never rests")


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[[Window], Rig]]:
    opened: list[SqliteEngine] = []

    def make(window: Window) -> Rig:
        engine = SqliteEngine.open(tmp_path, window=window, new_epoch=lambda: EPOCH)
        opened.append(engine)
        return Rig(engine)

    yield make
    for engine in opened:
        engine.close()


@pytest.fixture
def rig(make_rig: Callable[[Window], Rig]) -> Rig:
    return make_rig(Window())


def test_a_few_large_writes_leave_no_large_log_behind(rig: Rig) -> None:
    """Each value is written three times, so twenty of them are more than a checkpoint's worth."""
    for number in range(20):
        rig.write(f"k{number}")
        rig.rest()
    assert rig.engine.unmoved_bytes < MOVE_DUE_BYTES


def test_the_log_stays_bounded_while_writers_never_pause(rig: Rig) -> None:
    rig.next = lambda: rig.write(f"k{len(rig.groups) % 7}")
    rig.next()
    largest = 0
    for _ in range(200):
        rig.worker.step()
        largest = max(largest, rig.engine.unmoved_bytes)
    assert MOVE_DUE_BYTES < largest < (OVERDUE_TIMES + 1) * MOVE_DUE_BYTES


def test_nor_do_reads_without_end_put_upkeep_off(rig: Rig) -> None:
    for number in range(60):
        rig.write(f"k{number % 7}")
        rig.look()
        rig.look()
        rig.look()
        rig.worker.step()
    assert rig.read >= 30
    assert rig.engine.unmoved_bytes < (OVERDUE_TIMES + 1) * MOVE_DUE_BYTES


def test_upkeep_does_not_put_reads_off(rig: Rig) -> None:
    for _ in range(3):
        for number in range(20):
            rig.write(f"k{number}")
        rig.look()
        rig.worker.step()
        rig.worker.step()
    assert rig.read >= 2


def test_a_checkpoint_that_can_move_nothing_is_not_tried_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: the log stays as it is."""
    tried = []
    monkeypatch.setattr(SqliteEngine, "move", lambda _: tried.append(1))
    for number in range(20):
        rig.write(f"k{number}")
    rig.rest()
    first = len(tried)
    assert 1 <= first <= rig.engine.unmoved_bytes // MOVE_DUE_BYTES
    rig.rest()
    assert len(tried) == first
    for number in range(20):
        rig.write(f"k{number}")
    rig.rest()
    assert first < len(tried) <= rig.engine.unmoved_bytes // MOVE_DUE_BYTES, "again when as much again has gathered"


def test_trimming_keeps_up_with_writers_that_never_pause(
    make_rig: Callable[[Window], Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "TRIM_DUE_BATCHES", 4)
    monkeypatch.setattr(pacing, "SLICE_ROWS", 8)
    rig = make_rig(Window(log_revisions=20, versions=2))
    rig.next = lambda: rig.write(f"k{len(rig.groups) % 3}", 1)
    rig.next()
    kept = 0
    for _ in range(600):
        rig.worker.step()
        position = rig.engine.position()
        kept = max(kept, position.revision - position.compact_revision)
    assert kept < 20 + 4 * pacing.BACKLOG_TIMES_MAX
    assert rig.tended_times > 20


def test_what_there_was_to_trim_at_the_start_holds_up_no_commit(
    make_rig: Callable[[Window], Rig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A smaller window after a restart: the old batches go one slice after each group, and the groups stay large."""
    monkeypatch.setattr(pacing, "TRIM_DUE_BATCHES", 4)
    monkeypatch.setattr(pacing, "SLICE_ROWS", 32)
    first = Rig(SqliteEngine.open(tmp_path, window=Window(), new_epoch=lambda: EPOCH))
    for number in range(400):
        first.write(f"k{number % 9}", number)
    first.rest()
    first.engine.close()
    rig = make_rig(Window(log_revisions=10))
    surplus = [rig.engine.surplus.batches]
    for number in range(60):
        for again in range(4):
            rig.write(f"k{again}", number)
        rig.worker.step()
        surplus.append(rig.engine.surplus.batches)
    assert rig.groups == [4] * 60
    assert surplus[-1] < surplus[0] / 2, "and meanwhile it shrinks"


@pytest.mark.parametrize("writes", [128, 1], ids=["wide", "narrow"])
def test_no_surplus_outgrows_its_bound_while_writers_never_pause(
    make_rig: Callable[[Window], Rig], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """128 writes in one batch are 128 times the work to trim: the groups become as small as that asks for."""
    monkeypatch.setattr(pacing, "TRIM_DUE_BATCHES", 2)
    monkeypatch.setattr(pacing, "SLICE_ROWS", 64)
    rig = make_rig(Window(log_revisions=20, versions=2))
    bound = 2 * pacing.BACKLOG_TIMES_MAX
    surplus = largest = 0
    for number in range(120):
        while rig.worker.waiting < 40:
            many = [put(f"k{number % 3}.{each}", number) for each in range(writes)]
            rig.worker.take(Ticket(batch(*many), lambda _: None, writes))
        rig.worker.step()
        surplus = rig.engine.surplus.batches
        largest = max(largest, surplus)
    assert largest <= bound + max(rig.groups)
    assert sum(rig.groups[-20:]) > 0, "and yet they go on"


def test_a_group_is_bounded_by_bytes_and_by_count(rig: Rig) -> None:
    for number in range(50):
        rig.write(f"k{number}")
    for number in range(600):
        rig.write(f"small/{number}", number)
    rig.rest()
    sizes = rig.groups
    assert sum(sizes) == 650
    assert sizes[0] == commit.COMMIT_GROUP_BYTES_MAX // (len(VALUE) + 5)
    assert max(sizes) == commit.COMMIT_GROUP_MAX


def test_who_writes_waits_for_none_of_those_who_ask_what_became_of_a_request(rig: Rig) -> None:
    for _ in range(480):
        rig.ask()
    rig.write("k", 1)
    rig.worker.step()
    assert rig.groups == [1, commit.ASKED_SLICE]
    rig.rest()
    assert sum(rig.groups) == 481
    assert max(rig.groups) <= commit.ASKED_SLICE


def test_who_asks_is_answered_when_all_that_was_there_before_is_committed(rig: Rig) -> None:
    writes = commit.COMMIT_GROUP_MAX + 1  # two groups
    for number in range(writes):
        rig.write(f"k{number}", 1)
    rig.ask()
    rig.write("after", 1)
    rig.worker.step()
    assert rig.groups == [commit.COMMIT_GROUP_MAX], "the second group may hold what it asks about"
    rig.worker.step()
    assert rig.groups[1:] == [2, 1]
