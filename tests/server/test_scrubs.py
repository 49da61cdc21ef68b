"""When the scrub begins by itself: by the interval of the configuration, which may change at any time."""

from __future__ import annotations

import pytest

from cosession.config import Config, StoreConfig
from cosessiond.process.configuration import Configuration
from cosessiond.server.scrubs import FIRST_S, Scrubs
from cosessiond.store.engine import Scrubbed
from cosessiond.store.leases import Deadlines
from virtual import World


class Passes:
    """A store of which a pass is one slice; when each began."""

    queued = 0

    def __init__(self, world):
        self.world = world
        self.begun = []

    def run(self, _slice, done):
        self.begun.append(self.world.clock.monotonic() - self.since)
        done(Scrubbed("", 0, ("", "", ""), 5, ()))


class Scene:
    def __init__(self, interval_s):
        self.world = World(1)
        self.passes = Passes(self.world)
        self.passes.since = self.world.clock.monotonic()
        self.file = self.config(interval_s)
        self.configuration = Configuration(self.file, load=lambda: self.file)
        deadlines = Deadlines(self.world.clock, self.world)
        self.scrubs = Scrubs(self.passes, None, deadlines, self.world.clock, self.configuration)
        self.scrubs.begin()

    def config(self, interval_s):
        return Config(store=StoreConfig(scrub_interval_s=interval_s))

    def change(self, interval_s):
        self.file = self.config(interval_s)
        self.configuration.reload()

    def after(self, seconds):
        self.world.advance(seconds)
        return self.passes.begun


@pytest.mark.parametrize(
    ("interval_s", "begun"),
    [(1_000, [FIRST_S, FIRST_S + 1_000, FIRST_S + 2_000]), (900, [600, 1_500, 2_400]), (1_300, [600, 1_900]), (0, [])],
)
def test_a_pass_begins_after_each_interval_and_never_without_one(interval_s, begun):
    assert Scene(interval_s).after(2_700) == begun


def test_a_short_interval_holds_for_the_first_pass_as_well():
    assert Scene(60).after(130) == [60, 120]


def test_a_change_of_the_interval_applies_at_once():
    scene = Scene(0)
    scene.after(5_000)
    scene.change(100)
    assert scene.after(250) == [5_100, 5_200]
    scene.change(10_000)
    assert scene.after(9_000) == [5_100, 5_200]
    scene.change(0)
    assert scene.after(20_000) == [5_100, 5_200]


def test_without_an_interval_it_is_still_there_for_who_asks():
    scene = Scene(0)
    told = []
    scene.scrubs.ask(lambda *found: told.append(found))
    assert told == [(5, 0)]
    assert scene.after(1_000_000) == [0]
