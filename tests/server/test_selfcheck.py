"""The word to the service watchdog: given by a daemon that is well, and by no other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cosessiond.server import selfcheck
from cosessiond.server.selfcheck import SelfCheck


class Ground:
    """One daemon as far as it looks at itself: a clock, a store's thread that may have stopped, a listener."""

    def __init__(self, *, watchdog_s: float = 60.0) -> None:
        self.now_s = 0.0
        self.slices = []
        self.told: list[str] = []
        self.logged: list[str] = []
        self.due = None
        self.listener = SimpleNamespace(is_open=True)
        self.core = SimpleNamespace(
            clock=SimpleNamespace(monotonic=lambda: self.now_s),
            store=SimpleNamespace(run=self._run, revision=7),
            deadlines=SimpleNamespace(after=self._after),
            running="",
            read_only="",
            conversations={},
            identity=SimpleNamespace(version="1"),
        )
        notices = SimpleNamespace(
            watchdog_s=watchdog_s,
            alive=lambda: self.told.append("alive"),
            status=self.told.append,
        )
        log = SimpleNamespace(error=lambda _, reason: self.logged.append(reason))
        self.check = SelfCheck(self.core, notices, self.listener, log)

    def _after(self, _name, delay_s, action):
        self.due = (self.now_s + delay_s, action)

    def _run(self, _run, done, *, has_place):
        assert has_place
        self.slices.append(done)

    def answer(self):
        while self.slices:
            self.slices.pop()(None)

    def pass_time(self, seconds, *, answers=True):
        """What happens in so much time; the words of it."""
        self.told.clear()
        end = self.now_s + seconds
        while self.due is not None and self.due[0] <= end:
            self.now_s, action = self.due
            if answers:
                self.answer()
            action()
        self.now_s = end
        return self.told.count("alive")


def test_a_daemon_that_is_well_says_so_twice_in_the_time():
    ground = Ground()
    ground.check.begin()
    assert ground.told == ["alive", "1: revision 7, 0 connections"]
    assert ground.pass_time(600) == 20
    assert ground.logged == []
    assert ground.told == ["alive"] * 20, "what has not changed is said once"


def test_without_a_service_watchdog_nothing_runs():
    ground = Ground(watchdog_s=0.0)
    ground.check.begin()
    assert ground.due is None
    assert ground.told == []


def test_a_store_that_says_nothing_for_long_is_no_daemon():
    ground = Ground()
    ground.check.begin()
    assert ground.pass_time(120, answers=False) == 4, "a slow disk is waited for"
    assert ground.pass_time(600, answers=False) == 0
    assert ground.logged == ["the store has said nothing for over 120 s"], "and that is said once"
    assert ground.told[-1].startswith("not well: ")
    assert ground.pass_time(60) == 2, "it may come back"


@pytest.mark.parametrize("running", ["purge: the database is written anew"])
def test_what_is_known_to_take_long_may(running):
    ground = Ground()
    ground.core.running = running
    ground.check.begin()
    assert ground.pass_time(600, answers=False) == 20


def test_a_socket_that_is_closed_is_no_daemon():
    ground = Ground()
    ground.check.begin()
    ground.listener.is_open = False
    assert ground.pass_time(60) == 0
    assert ground.logged == ["its socket is closed"]


def test_a_seeded_look_that_asks_nobody_is_noticed(monkeypatch):
    """The tests above can fail: a self-check that never waits for the store says that all is well for ever."""
    monkeypatch.setattr(selfcheck.SelfCheck, "_ask", lambda _: None)
    ground = Ground()
    ground.check.begin()
    assert ground.pass_time(600, answers=False) == 20
