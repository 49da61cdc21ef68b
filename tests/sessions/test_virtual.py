"""The virtual world itself: time moves only by hand, lanes keep order, the seed decides the rest."""

from __future__ import annotations

import pytest

from virtual import World


def test_time_stands_still_until_it_is_advanced():
    world = World(1)
    seen = []
    world.call_after(5.0, lambda: seen.append(world.clock.monotonic()))
    world.run_until_idle()
    assert seen == []
    world.advance(4.999)
    assert seen == []
    world.advance(10.0)
    assert seen == [1005.0]
    assert world.clock.monotonic() == pytest.approx(1014.999)


def test_timers_run_in_order_of_their_moments_and_may_set_others():
    world = World(2)
    seen = []
    world.call_after(2.0, lambda: seen.append("b"))
    world.call_after(1.0, lambda: (seen.append("a"), world.call_after(0.5, lambda: seen.append("a+"))))
    world.advance(3.0)
    assert seen == ["a", "a+", "b"]


def test_a_cancelled_timer_is_silent_even_in_its_own_moment():
    world = World(3)
    seen = []
    timers = [world.call_after(1.0, lambda: (seen.append(0), timers[1].cancel()))]
    timers.append(world.call_after(1.0, lambda: (seen.append(1), timers[0].cancel())))
    world.advance(2.0)
    assert len(seen) == 1


def test_a_lane_keeps_its_order_and_lanes_are_mixed_by_the_seed():
    def run(seed):
        world = World(seed)
        seen = []
        for number in range(20):
            world.call_soon(lambda n=number: seen.append(("left", n)), lane="left")
            world.call_soon(lambda n=number: seen.append(("right", n)), lane="right")
        world.run_until_idle()
        for lane in ("left", "right"):
            assert [n for name, n in seen if name == lane] == list(range(20))
        return seen, world.digest

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_late_timers_are_never_early():
    world = World(4, late_s=0.5)
    late = []
    for _ in range(100):
        due = world.clock.monotonic() + 1.0
        world.call_at(due, lambda due=due: late.append(world.clock.monotonic() - due))
    world.advance(2.0)
    assert len(late) == 100
    assert 0 <= min(late) < max(late) <= 0.5


def test_the_wall_clock_steps_alone():
    world = World(5)
    before = world.clock.monotonic()
    world.clock.step_wall(-3_600_000)
    world.advance(1.0)
    assert world.clock.monotonic() == before + 1.0
    assert world.clock.wall_ms() == 1_800_000_000_000 - 3_600_000 + 1_000


def test_a_loop_without_end_is_noticed():
    world = World(6)

    def again():
        world.call_soon(again)

    again()
    with pytest.raises(AssertionError, match="not idle"):
        world.run_until_idle(steps_max=1_000)
