"""One deadline over all the requests of a verb, against a daemon made of a script. No time is measured: the clock of
the verb is turned by the script, between two answers."""

from __future__ import annotations

import pytest

from cosession import Conflict, TimedOut, aio, sync
from cosession.errors import error_from
from cosession.messages.past import HistoryReply
from cosession.messages.store import GetReply, RangeReply
from cosession.model import Entry, Version

ALLOWED_S = 1_000.0


class Clock:
    """`now` of both flavours, which goes on by itself and by `turn`."""

    def __init__(self, monkeypatch):
        self._ahead_s = 0.0
        real = sync.series.now
        for flavour in (sync, aio):
            for module in (flavour.series, flavour.contended):
                monkeypatch.setattr(module, "now", lambda: real() + self._ahead_s)

    def turn(self, seconds):
        self._ahead_s += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def after(clock, answer, seconds):
    """A scripted action: time passes, then the answer comes."""

    def action(_daemon, _connection, protocol, call):
        clock.turn(seconds)
        if isinstance(answer, Exception):
            protocol.fail(call, answer, 7)
        else:
            protocol.reply(call, answer)

    return action


def page(number):
    entry = Entry(key=f"k{number}", value=0, version=1, create_revision=1, mod_revision=1)
    return RangeReply(revision=7, read_revision=7, entries=[entry], more=True)


def versions(number):
    return HistoryReply(
        revision=7, versions=[Version(kind="put", version=number, create_revision=1, mod_revision=number)], more=True
    )


def entry():
    return GetReply(revision=7, entry=Entry(key="k", value=1, version=1, create_revision=1, mod_revision=1))


def conflict():
    current = {"key": "k", "value": 5, "version": 2, "create_revision": 1, "mod_revision": 2}
    return error_from("conflict", "it changed", {"current": current})


@pytest.mark.parametrize("pages", [("range", page), ("history", versions)], ids=["range", "history"])
def test_all_pages_share_one_deadline(connect, run, scripted, clock, pages):
    verb, answer = pages
    scripted.script += [after(clock, answer(number), ALLOWED_S * 0.4) for number in range(9, 0, -1)]

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(TimedOut, match="give it more time"):
                await getattr(client, verb)("k", timeout_s=ALLOWED_S)

    run(body())
    assert len(scripted.calls) == 3, "the third page came after 1.2 times what was allowed"


def test_the_client_has_a_time_for_all_of_it_too(connect, run, scripted, clock):
    scripted.script += [after(clock, page(number), ALLOWED_S * 0.4) for number in range(9)]

    async def body():
        async with connect(scripted.path, timeout_s=ALLOWED_S) as client:
            with pytest.raises(TimedOut):
                await client.range("k")

    run(body())
    assert len(scripted.calls) == 3


def test_an_update_whose_time_is_over_sends_no_write(connect, run, scripted, clock):
    """It would be sent in vain and end in UnknownOutcome."""
    scripted.script += [after(clock, entry(), ALLOWED_S * 1.1)]

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(TimedOut):
                await client.update("k", lambda value: value, timeout_s=ALLOWED_S)

    run(body())
    assert [call.method for call in scripted.calls] == ["get"]


def test_what_the_function_takes_counts(connect, run, scripted, clock):
    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(TimedOut):
                await client.update("k", lambda _: clock.turn(ALLOWED_S * 1.1), timeout_s=ALLOWED_S)

    run(body())
    assert [call.method for call in scripted.calls] == ["get"]


def test_an_update_does_not_try_again_without_time(connect, run, scripted, clock):
    """What it met is said: nothing was written, and this is what stands."""
    scripted.script += [entry(), *[after(clock, conflict(), ALLOWED_S * 0.6) for _ in range(9)]]

    async def body():
        async with connect(scripted.path) as client:
            with pytest.raises(Conflict) as caught:
                await client.update("k", lambda value: value, timeout_s=ALLOWED_S)
            assert caught.value.current.value == 5

    run(body())
    assert [call.method for call in scripted.calls] == ["get", "put", "put"]
