"""How long upkeep holds up a commit: told for each group that waited, and for none that did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosessiond.store.commit import Ticket, Worker
from cosessiond.store.engine import Window
from cosessiond.store.stalls import NEWEST, Stalls
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


def test_the_longest_stays_and_the_percentile_is_of_the_newest() -> None:
    stalls = Stalls()
    assert (stalls.longest_s, stalls.percentile_s(0.99), stalls.counters()) == (0.0, 0.0, {})
    stalls.add(9.0)
    for number in range(NEWEST):
        stalls.add(number / NEWEST)
    assert (stalls.longest_s, stalls.percentile_s(0.99), stalls.percentile_s(1.0)) == (9.0, 0.99, 0.999)
    assert stalls.counters() == {"commit_stall_ms.max": 9_000.0, "commit_stall_ms.p99": 990.0}
