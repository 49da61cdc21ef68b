"""When writing stops and resumes on a disk that fills up, by numbers: nothing here touches a file system."""

from __future__ import annotations

import pytest

from cosessiond.store.room import ASK_AGAIN_S, Held, Room

STEP = 100
GOAL = 800
LOW = GOAL
RESUME = 1_200


class Volume:
    """A file system of `free` bytes, part of which is held. `quota`: it refuses whatever it says is free."""

    bytes_max = GOAL
    step_bytes = STEP

    def __init__(self, free: int, held: int = 0) -> None:
        self.free = free
        self.bytes = held
        self.quota = False
        self.asked = 0

    def free_bytes(self) -> int:
        return self.free

    def grow(self) -> bool:
        self.asked += 1
        if self.quota or self.free < STEP:
            return False
        self.free -= STEP
        self.bytes += STEP
        return True

    def shrink(self) -> None:
        self.bytes -= STEP
        self.free += STEP


class Rig:
    def __init__(self, free: int, held: int = GOAL) -> None:
        self.volume = Volume(free, held)
        self.now_s = 0.0
        self.room = Room(self.volume, lambda: self.now_s)

    @property
    def level(self) -> str:
        return self.room.report.level


def test_where_there_is_no_disk_there_is_room() -> None:
    room = Room()
    room.ran_out()
    assert room.look()
    assert not room.spend()
    assert not room.wants
    assert room.news() is None
    assert room.report.level == "enough"


def test_the_reserve_is_held_step_by_step_as_long_as_enough_is_left_beside_it() -> None:
    rig = Rig(RESUME + 3 * STEP, held=0)
    assert rig.room.look()
    steps = 0
    while rig.room.wants:
        rig.room.hold()
        steps += 1
    assert rig.volume.bytes == 3 * STEP
    assert steps == 4, "the last one finds that it would take too much, and nothing spins"
    rig.volume.free += GOAL
    assert rig.room.look()
    assert rig.room.wants, "there is space again: it goes on"


def test_writes_are_refused_below_low_and_resume_only_well_above_it() -> None:
    rig = Rig(LOW)
    assert rig.room.look()
    rig.volume.free = LOW - 1
    assert not rig.room.look()
    assert rig.level == "low"
    for free in (LOW, RESUME - 1):
        rig.volume.free = free
        assert not rig.room.look(), "or it would stop and go"
    rig.volume.free = RESUME
    assert rig.room.look()
    assert rig.level == "enough"


def test_the_reserve_is_whole_before_writing_resumes() -> None:
    rig = Rig(LOW - 1)
    rig.room.look()
    assert rig.room.spend()
    assert rig.room.spend()
    rig.volume.free = RESUME + STEP
    assert not rig.room.look(), "it is enough to write and not for the reserve"
    assert rig.volume.bytes == GOAL - 2 * STEP
    rig.volume.free = RESUME + 2 * STEP
    assert rig.room.look()
    assert rig.volume.bytes == GOAL
    assert rig.volume.free == RESUME


def test_it_is_spent_a_step_at_a_time_and_that_is_said_when_nothing_is_left() -> None:
    rig = Rig(0)
    rig.room.look()
    for left in range(GOAL - STEP, -1, -STEP):
        assert rig.room.spend()
        rig.volume.free = 0  # somebody else is faster
        assert rig.volume.bytes == left
        assert rig.level == "low"
    assert not rig.room.spend()
    assert rig.level == "spent"
    assert not rig.room.look()
    assert rig.level == "spent"
    rig.volume.free = STEP
    rig.room.look()
    assert rig.level == "low", "something can be released again"


def test_upkeep_leaves_half_of_it_to_those_who_release_something() -> None:
    rig = Rig(0)
    rig.room.look()
    while rig.room.spend(upkeep=True):
        pass
    assert rig.volume.bytes == GOAL / 2
    assert rig.level == "low"
    assert rig.room.spend()


def test_a_refusal_counts_whatever_is_said_to_be_free_and_is_asked_about_once_a_second() -> None:
    """A quota: statvfs knows nothing of it."""
    rig = Rig(1_000_000)
    rig.volume.quota = True
    assert rig.room.look()
    rig.room.ran_out()
    for _ in range(5):
        assert not rig.room.look()
    assert rig.volume.asked == 1
    rig.now_s += ASK_AGAIN_S
    assert not rig.room.look()
    assert rig.volume.asked == 2
    rig.volume.quota = False
    assert not rig.room.look(), "not yet"
    rig.now_s += ASK_AGAIN_S
    assert rig.room.look()
    assert rig.volume.bytes == GOAL, "what was held to ask is given back"


def test_space_that_comes_back_is_noticed_at_once() -> None:
    rig = Rig(LOW - 1)
    rig.room.look()
    rig.room.spend()
    rig.volume.quota = True
    rig.volume.free = RESUME + STEP
    assert not rig.room.look()
    rig.volume.quota = False
    assert not rig.room.look(), "nothing has changed that it knows of"
    rig.volume.free += 1
    assert rig.room.look()


def test_news_are_told_once() -> None:
    rig = Rig(LOW, held=GOAL - STEP)
    assert rig.room.news() is None
    rig.volume.free = LOW - 1
    rig.room.look()
    report = rig.room.news()
    assert report is not None
    assert (report.level, report.free_bytes, report.reserve_bytes) == ("low", LOW - 1, GOAL - STEP)
    assert rig.room.news() is None
    rig.volume.free = LOW - 2
    rig.room.look()
    assert rig.room.news() is None, "free space changes all the time"


@pytest.mark.parametrize("free", [LOW - 1, LOW, RESUME - 1, RESUME, RESUME + STEP, RESUME + 2 * STEP])
@pytest.mark.parametrize("was", ["enough", "low"])
@pytest.mark.parametrize("spent", [0, 1])
def test_a_report_is_stale_exactly_when_a_look_would_say_something_else(free: int, was: str, spent: int) -> None:
    rig = Rig(LOW if was == "enough" else 0)
    rig.room.look()
    for _ in range(spent):
        rig.room.spend()
    report = rig.room.report
    rig.volume.free = free
    rig.room.look()
    assert report.is_stale(free) is (rig.level != report.level)


def _check_types(volume: Volume) -> Held:
    return volume
