"""What passes and what is refused on a full disk, over both engines behind a disk of so many commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cosessiond.store import rationing
from cosessiond.store.commit import Worker
from cosessiond.store.engine import Batch, Committed, Conflicted, Engine, Outcome, Refused
from cosessiond.store.record import Attached
from cosessiond.store.room import Report, Room
from cosessiond.store.tickets import Ticket
from store.engines import Place, batch, delete, put
from store.test_room import GOAL, LOW, RESUME, STEP, Volume


class Full:
    """An engine on a volume: each group that writes takes COST bytes of it, and is refused when they are not there."""

    COST = 60

    def __init__(self, engine: Engine, volume: Volume) -> None:
        self.engine = engine
        self.volume = volume
        self.groups: list[int] = []
        self.hurried = False  # the space goes between the look and the write

    def apply(self, batches: Sequence[Batch], records: Sequence[Attached] = ()) -> list[Outcome]:
        self.groups.append(len(batches))
        if self.hurried:
            self.volume.free, self.hurried = 0, False
        if any(each.then for each in batches):
            if self.volume.free < self.COST:
                return [Refused(self.engine.position().revision, "disk_full", "full") for _ in batches]
            self.volume.free -= self.COST
        return self.engine.apply(batches, records)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


class Rig:
    """A worker over such an engine; what it tells is kept."""

    def __init__(self, engine: Engine, free: int) -> None:
        self.volume = Volume(free, GOAL)
        self.engine = Full(engine, self.volume)
        self.room = Room(self.volume)
        self.worker = Worker(self.engine, self, lambda told, *facts: told(*facts), self.room)  # type: ignore[arg-type]
        self.reports: list[Report] = []

    def roomed(self, report: Report) -> None:
        self.reports.append(report)

    def publish(self, tickets: Sequence[Ticket], outcomes: Sequence[Outcome], _took: object = None) -> None:
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            ticket.done(outcome)

    def tended(self, *_: object) -> None:
        pass

    def audited(self, *_: object) -> None:
        pass

    def broken(self, error: Exception) -> None:
        raise error

    def write(self, *batches: Batch) -> list[str]:
        """One group of batches; what became of each."""
        found: list[Outcome] = []
        for each in batches:
            self.worker.take(Ticket(each, found.append, 10))
        self.worker.step()
        assert len(found) == len(batches)
        return [word(outcome) for outcome in found]


def word(outcome: Outcome) -> str:
    if isinstance(outcome, Committed):
        return "repeated" if outcome.repeated else "done"
    return "conflict" if isinstance(outcome, Conflicted) else outcome.code


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened = Place(request.param, tmp_path).open()
    yield opened
    opened.close()


def ended(key: str, operation: str) -> Batch:
    """A write of the daemon that ends something."""
    each = batch(put(key, 0))
    return structs.replace(each, origin=structs.replace(each.origin, operation=operation))


def scenario(rig: Rig) -> None:
    """What a full disk does to a group, told by asserts; the seeded bugs below must each break one of them."""
    first = batch(put("kept", 1), request="one")
    assert rig.write(first, batch(put("more", 1)), batch(put("third", 1))) == ["done"] * 3
    rig.volume.free = LOW - 1
    position = rig.engine.position()
    assert rig.write(batch(put("a", 1)), first, batch(put("b", 1), request="two")) == [
        "disk_full",
        "repeated",
        "disk_full",
    ]
    assert rig.engine.position() == position
    assert rig.volume.free == LOW - 1, "nothing was written"
    assert [report.level for report in rig.reports] == ["low"]
    assert rig.write(batch(put("a", 1)), batch(delete("more")), ended("s", "session.close")) == [
        "disk_full",
        "done",
        "done",
    ]
    rig.volume.free = 0
    assert rig.write(batch(put("a", 1)), batch(delete("third"))) == ["disk_full", "done"], "out of the reserve"
    assert rig.volume.bytes == GOAL - STEP
    rig.volume.free = 0
    rig.volume.bytes = 0
    assert rig.write(batch(delete("kept"))) == ["disk_full"]
    assert rig.reports[-1].level == "spent"
    rig.volume.free = RESUME + GOAL
    assert rig.write(batch(put("a", 1)), batch(put("b", 1), request="two")) == ["done", "done"]
    assert rig.volume.bytes == GOAL
    assert rig.reports[-1].level == "enough"


def test_writes_are_refused_before_they_fail_and_what_ends_something_is_not(engine: Engine) -> None:
    scenario(Rig(engine, RESUME))


def test_a_group_that_did_not_fit_is_divided_and_what_releases_goes_on(engine: Engine) -> None:
    """The space went after the look: the engine refuses all, and nobody is refused who need not be."""
    rig = Rig(engine, RESUME)
    assert rig.write(batch(put("old", 1), request="one"), batch(put("other", 1))) == ["done", "done"]
    rig.engine.hurried = True
    again = batch(put("old", 1), request="one")
    assert rig.write(batch(put("a", 1)), batch(delete("old")), again) == ["disk_full", "done", "repeated"]
    assert rig.reports[-1].level == "low"


def test_the_message_says_what_is_so(engine: Engine) -> None:
    rig = Rig(engine, RESUME)
    rig.write(batch(put("k", 1)))
    rig.volume.free = rig.volume.bytes = 0
    outcomes = rationing.apply(rig.engine, rig.room, [batch(put("a", 1)), batch(delete("k"))], [])  # type: ignore[arg-type]
    refused, kept = outcomes
    assert isinstance(refused, Refused)
    assert isinstance(kept, Refused)
    assert "free space" in refused.message
    assert "the reserve is spent" in kept.message


def test_a_failed_upkeep_is_paid_by_half_of_the_reserve_and_stops_writes(engine: Engine) -> None:
    rig = Rig(engine, RESUME)
    tried: list[int] = []

    def act() -> bool:
        tried.append(rig.volume.bytes)
        return False

    assert not rationing.tend(rig.room, act)
    assert rig.volume.bytes == GOAL / 2
    assert len(tried) == GOAL / 2 / STEP + 1
    assert rig.room.report.level == "low"
    rig.volume.bytes = GOAL
    assert rationing.tend(rig.room, lambda: rig.volume.bytes < GOAL)
    assert rig.volume.bytes == GOAL - STEP, "no more than it takes"


def looks_not(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.room, "look", lambda: True)


def refuses_repeats(_: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rationing, "_without_writes", lambda _: batch(when=(rationing._NEVER,)))


def refuses_releases(_: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rationing, "releases", lambda _: False)


def writes_all(_: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rationing, "releases", lambda _: True)


def spends_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.room, "spend", lambda **_: False)


def resumes_without_reserve(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def resume(*given: Any) -> None:
        if given[1] >= LOW:
            rig.room._level = "enough"

    monkeypatch.setattr(rig.room, "_resume", resume)


BUGS: tuple[Callable[[Rig, pytest.MonkeyPatch], None], ...] = (
    looks_not,
    refuses_repeats,
    refuses_releases,
    writes_all,
    spends_nothing,
    resumes_without_reserve,
)


@pytest.mark.parametrize("bug", BUGS)
def test_each_seeded_bug_is_caught(
    bug: Callable[[Rig, pytest.MonkeyPatch], None], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(engine, RESUME)
    bug(rig, monkeypatch)
    with pytest.raises(AssertionError):
        scenario(rig)
