"""How long upkeep holds up a commit: told for each group that waited, and for none that did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cosessiond.store import pacing
from cosessiond.store.commit import Worker
from cosessiond.store.engine import Window
from cosessiond.store.stalls import NEWEST, Stalls
from cosessiond.store.tickets import Ticket
from store.engines import Place, batch, put


class Told:
    """A subscriber that keeps what it is told of stalls."""

    def __init__(self) -> None:
        self.stalls: list[float] = []

    def stalled(self, stall_s: float) -> None:
        self.stalls.append(stall_s)

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def test_a_group_that_waited_is_told_of_and_one_that_found_a_pause_is_not(tmp_path: Path) -> None:
    told, place = Told(), Place("sqlite", tmp_path)
    engine = place.open(Window(log_revisions=4))
    now = [0.0]
    settle = engine.settle

    def slow(rows_max: int) -> bool:
        now[0] += 0.25
        return settle(rows_max)

    engine.settle = slow  # type: ignore[method-assign]
    worker = Worker(engine, told, lambda tell, *facts: tell(*facts), None, lambda: now[0])  # type: ignore[arg-type]
    for number in range(300):
        worker.take(Ticket(batch(put(f"k{number}")), lambda _: None, 0))
    worker.step()
    assert now[0] >= 0.25
    assert told.stalls == [], "the first waited for nobody"
    spent = now[0]
    worker.step()
    assert told.stalls == [spent]
    while worker.has_work:
        worker.step()
    worker.step()
    worker.take(Ticket(batch(put("later")), lambda _: None, 0))
    worker.step()
    assert len(told.stalls) == 1, "a pause holds up nobody"
    place.close()


@pytest.mark.parametrize("slices_max", [pacing.SLICES_MAX, 4])
def test_what_a_gap_takes_is_bounded_in_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, slices_max: int
) -> None:
    """A clock that goes on by the rows of upkeep: two slices between two groups, where four would be twice as long."""
    bound_rows = pacing.SLICES_MAX * pacing.SLICE_ROWS
    monkeypatch.setattr(pacing, "SLICES_MAX", slices_max)
    told, place = Told(), Place("sqlite", tmp_path)
    engine = place.open(Window(log_revisions=20, versions=2))
    now = [0.0]
    tend = engine._tend  # type: ignore[attr-defined]

    def tend_by_rows(settle_rows: int, trim_rows: int) -> int | None:
        now[0] += settle_rows + trim_rows
        return tend(settle_rows, trim_rows)  # type: ignore[no-any-return]

    engine._tend = tend_by_rows  # type: ignore[attr-defined]
    worker = Worker(engine, told, lambda tell, *facts: tell(*facts), None, lambda: now[0])  # type: ignore[arg-type]
    for number in range(20 * 256):
        worker.take(Ticket(batch(put(f"k{number % 7}")), lambda _: None, 0))
    while worker.waiting:
        worker.step()
    assert len(told.stalls) > 10
    assert (max(told.stalls) <= bound_rows) == (slices_max == 2)
    place.close()


def test_the_longest_stays_and_the_percentile_is_of_the_newest() -> None:
    stalls = Stalls()
    assert (stalls.longest_s, stalls.percentile_s(0.99), stalls.counters()) == (0.0, 0.0, {})
    stalls.add(9.0)
    for number in range(NEWEST):
        stalls.add(number / NEWEST)
    assert (stalls.longest_s, stalls.percentile_s(0.99), stalls.percentile_s(1.0)) == (9.0, 0.99, 0.999)
    assert stalls.counters() == {"commit_stall_ms.max": 9_000.0, "commit_stall_ms.p99": 990.0}
