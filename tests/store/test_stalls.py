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


@pytest.mark.parametrize("ends_in_time", [True, False], ids=["as it is", "whatever it takes"])
def test_a_slow_machine_gets_smaller_pieces_and_not_longer_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ends_in_time: bool
) -> None:
    """Ten times slower than what a slice was measured with: what is known of the pace keeps the gaps short."""
    if not ends_in_time:
        monkeypatch.setattr(pacing.Pace, "took", lambda *_: None)
    told, place = Told(), Place("sqlite", tmp_path)
    engine = place.open(Window(log_revisions=20, versions=2))
    now = [0.0]
    row_s = pacing.GAP_S / pacing.SLICE_ROWS
    settle, trim = engine.settle, engine.trim

    def settle_slowly(rows_max: int) -> bool:
        before = engine.unsettled_rows
        done = settle(rows_max)
        now[0] += (before - engine.unsettled_rows) * row_s
        return done

    def trim_slowly(rows_max: int) -> int:
        rows = trim(rows_max)
        now[0] += rows * row_s
        return rows

    engine.settle, engine.trim = settle_slowly, trim_slowly  # type: ignore[method-assign]
    worker = Worker(engine, told, lambda tell, *facts: tell(*facts), None, lambda: now[0])  # type: ignore[arg-type]
    for number in range(40 * 256):
        worker.take(Ticket(batch(put(f"k{number % 7}")), lambda _: None, 0))
    while worker.waiting:
        worker.step()
    assert len(told.stalls) > 20
    usual = sorted(told.stalls)[len(told.stalls) * 9 // 10]
    assert (usual <= 1.5 * pacing.GAP_S) == ends_in_time
    place.close()


def test_the_longest_stays_and_the_percentile_is_of_the_newest() -> None:
    stalls = Stalls()
    assert (stalls.longest_s, stalls.percentile_s(0.99), stalls.counters()) == (0.0, 0.0, {})
    stalls.add(9.0)
    for number in range(NEWEST):
        stalls.add(number / NEWEST)
    assert (stalls.longest_s, stalls.percentile_s(0.99), stalls.percentile_s(1.0)) == (9.0, 0.99, 0.999)
    assert stalls.counters() == {"commit_stall_ms.max": 9_000.0, "commit_stall_ms.p99": 990.0}
