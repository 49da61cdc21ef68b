"""The table of what applies when is what the daemon does: every limit, on an old connection and on a new one."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from cosession.config import APPLIES, Config
from cosession.messages.limits import FLOORS, LIMITS
from cosessiond.server import conversation
from rawclient import Pack
from server.inprocess import Inside, Line

NAMES = [key.removeprefix("limits.") for key in APPLIES if key.startswith("limits.")]


class Lowered:
    """A core and a connection to it, and the limits at their floors since."""

    def __init__(self) -> None:
        self.inside = Inside()
        self.old = self.inside.connect()
        self.limits(self.old)
        configuration = self.inside.core.configuration
        configuration._load = lambda: Config(limits=FLOORS)
        self.changed = {each.key for each in configuration.reload()}
        self.waiting = {each.key for each in configuration.restart_needed}

    def limits(self, line: Line) -> dict[str, Any]:
        line.send(Pack.encode(1, "hello", {}))
        ((answer,), _) = line.collect(1, to_end=False)
        limits: dict[str, Any] = answer.body["limits"]
        return limits


def judge(name: str) -> None:
    lowered = Lowered()
    old, new = lowered.limits(lowered.old)[name], lowered.limits(lowered.inside.connect())[name]
    before, after = getattr(LIMITS, name), getattr(FLOORS, name)
    found = {
        (after, after): "at_once",
        (before, after): "new_connections",
        (before, before): "restart",
    }[(old, new)]
    assert found == APPLIES[f"limits.{name}"]
    assert (f"limits.{name}" in lowered.waiting) == (found == "restart")
    assert (f"limits.{name}" in lowered.changed) == (found != "restart")


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_is_told_as_the_table_says(name: str) -> None:
    judge(name)


def test_a_connection_that_forgot_what_it_was_told_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "OF_CONNECTION", ())
    with pytest.raises(AssertionError):
        judge("watches_max")


def test_what_a_connection_was_told_holds_for_it() -> None:
    """Each watch beyond the new floor of 1 is still given, up to the 64 of old."""
    lowered = Lowered()
    for count in range(64):
        lowered.old.send(Pack.encode(2 + count, "watch", {"prefix": "k"}))
    lowered.old.send(Pack.encode(99, "watch", {"prefix": "k"}))
    (answers, _) = lowered.old.collect(129, to_end=False)
    kinds = [answer.code or answer.kind for answer in answers]
    assert (kinds.count("reply"), kinds.count("overloaded")) == (64, 1)
    new = lowered.inside.connect()
    for count in range(2):
        new.send(Pack.encode(1 + count, "watch", {"prefix": "k"}))
    (answers, _) = new.collect(3, to_end=False)
    assert [answer.code or answer.kind for answer in answers if answer.kind != "event"] == ["reply", "overloaded"]


def test_the_store_goes_by_them_at_once() -> None:
    lowered = Lowered()
    for key in ("a", "b"):
        lowered.old.send(Pack.encode(1, "put", {"key": key, "value": 1}))
    (answers, _) = lowered.old.collect(2, to_end=False)
    assert sorted(answer.code for answer in answers) == ["", "store_full"], "live_entries_max = 1"
    assert structs.asdict(lowered.inside.core.limits)["log_window_bytes"] == LIMITS.log_window_bytes
