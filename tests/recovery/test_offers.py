"""When a recovery is offered: at once, later each time, not in a loop, and as before after an hour."""

from __future__ import annotations

import pytest

from cosessiond.recovery.offers import offer_of
from cosessiond.sessions.records import counted


@pytest.mark.parametrize(
    ("crashes", "now_s", "state", "wait_s"),
    [
        ([], 0, "open", 0),
        ([0], 0, "open", 0),
        ([0, 100], 100, "waiting", 30),
        ([0, 100], 129, "waiting", 1),
        ([0, 100], 130, "open", 0),
        ([0, 400, 800], 800, "waiting", 60),
        ([0, 400, 800, 1200], 1200, "waiting", 120),
        ([0, 400, 800, 1200, 1600], 1600, "waiting", 240),
        ([0, 400, 800, 1200, 1600, 2000, 2400], 2400, "waiting", 600),
        ([0, 100, 200, 300, 400], 400, "loop", 3200),
        ([0, 100, 200, 300, 400], 3599, "loop", 1),
        ([0, 100, 200, 300, 400], 3600, "open", 0),
        ([0, 225, 450, 675, 901], 901, "waiting", 240),
        ([500, 9000], 100, "waiting", 30),  # the clock was set back: they are now
    ],
)
def test_the_offer(crashes, now_s, state, wait_s):
    offer = offer_of(crashes, now_s)
    assert (offer.state, offer.wait_s) == (state, wait_s)


def test_crashes_count_for_an_hour_and_the_last_few_are_remembered():
    found = ()
    for number in range(20):
        found = counted(found, float(number), crashed=True)
    assert found == tuple(map(float, range(12, 20)))
    assert counted(found, 3615.0) == (16.0, 17.0, 18.0, 19.0)
    assert counted((5000.0,), 10.0) == (10.0,)


def test_a_session_that_comes_back_and_crashes_is_offered_later_each_time(world):
    world.session("b")
    for number in range(3):
        world.session("a")
        world.die("a")
        offer = world.recover("a").offer
        assert (offer.crashes, offer.state) == (number + 1, "open" if number == 0 else "waiting")
        world.world.advance(100)
