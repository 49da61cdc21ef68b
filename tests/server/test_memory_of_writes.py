"""What an answered call leaves behind: nothing, also without the help of the collector, which rarely comes round."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from cosessiond.server.conversation import Call
from rawclient import Pack
from server.inprocess import Inside

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "a put": ("put", {"key": "k", "value": "x" * 10_000}),
    "a put with a request id": ("put", {"key": "k", "value": "x" * 10_000, "request_id": "r1"}),
    "a conflict": ("put", {"key": "k", "value": "x" * 10_000, "expect_revision": 99}),
    "a refused put": ("put", {"key": "", "value": "x" * 10_000, "request_id": "r2"}),
    "a merge": ("merge", {"key": "m", "patch": {"x": "y" * 10_000}}),
    "a transaction": ("txn", {"then": [{"op": "put", "key": "k", "value": "x" * 10_000}]}),
    "a range of the past": ("range", {"prefix": "", "at_revision": 1}),
    "a history": ("history", {"key": "k"}),
}


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> int:
    """Calls that are still in memory, and with each its request."""
    return sum(isinstance(each, Call) for each in gc.get_objects())


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(("method", "params"), CALLS.values(), ids=CALLS.keys())
def test_an_answered_call_is_forgotten(method: str, params: dict[str, Any]) -> None:
    inside = Inside()
    line = inside.connect()

    def say(id: int, name: str, given: dict[str, Any]) -> None:
        line.conversation.received(Pack.encode(id, name, given))

    say(1, "put", {"key": "first", "value": 1})
    inside.world.run_until_idle()
    before = held()
    for id in range(2, 12):
        say(id, method, {**params, **({"request_id": f"r{id}"} if "request_id" in params else {})})
        inside.world.run_until_idle()
    assert held() <= before + 1, "one may still be in a local variable of whoever worked last"
