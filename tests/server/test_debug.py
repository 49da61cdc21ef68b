"""debug.*: what the daemon says of itself, in a virtual world: traffic, traces, levels, tables, and their bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cosession.messages import REQUESTS
from cosession.messages.limits import (
    LIMITS,
    TAIL_BYTES_MAX,
    TAIL_FRAME_BYTES_MAX,
    TAIL_FRAMES_MAX,
    TAIL_IDLE_S,
    TAILS_MAX,
    TRACES_MAX,
)
from cosession.wire import JsonCodec, MsgpackCodec
from cosessiond.metrics import BOUNDS_S, Metrics
from cosessiond.server import showing
from cosessiond.server.tails import GATHER_S
from cosessiond.server.tracing import Tracing
from cosessiond.store.tickets import Took
from rawclient import ENCODINGS, Answer, Json, Pack, Peer
from server.inprocess import Inside, Line

SECRET = "0123456789abcdef" * 2


class Client:
    """One connection in the virtual world, in an encoding."""

    def __init__(self, inside: Inside, encoding: type[Peer] = Pack) -> None:
        self.line: Line = inside.connect()
        self._encoding = encoding
        self._next = 1

    def post(self, method: str, **params: Any) -> None:
        self.line.send(self._encoding.encode(self._next, method, params))
        self._next += 1

    def call(self, method: str, **params: Any) -> Answer:
        self.post(method, **params)
        (found,), _ = self.line.collect(1, to_end=False)
        return found

    def reply(self, method: str, **params: Any) -> dict[str, Any]:
        found = self.call(method, **params)
        assert found.kind == "reply", found
        return found.body

    def watch(self, prefix: str) -> None:
        self.post("watch", prefix=prefix)
        self.line.collect(2, to_end=False)  # the reply, and the end of the snapshot

    def tail(self, **params: Any) -> dict[str, Any]:
        return self.reply("debug.tail", **params)


@pytest.fixture
def inside() -> Iterator[Inside]:
    inside = Inside()
    yield inside
    assert not inside.bugs


def brief(frames: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(each["by"], each["kind"], each["method"]) for each in frames]


# -- traffic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_tail_shows_what_passes_and_hides_values(inside, encoding):
    one, looker = Client(inside, encoding), Client(inside)
    one.reply("get", key="before")
    began = looker.tail()
    assert (began["began"], began["frames"]) == (True, []), "it begins with nothing"
    one.reply("put", key="k", value={"pin": 4711, "deep": [SECRET]})
    one.reply("get", key="k")
    one.call("get", kee="k")
    one.line.send(b"{nothing}\n" if encoding is Json else b"\x00\x00\x00\x01\xc0")
    one.line.collect(1, to_end=False)
    found = looker.tail()
    assert brief(found["frames"]) == [
        ("client", "call", "put"),
        ("daemon", "reply", "put"),
        ("client", "call", "get"),
        ("daemon", "reply", "get"),
        ("client", "call", "get"),
        ("daemon", "error", "get"),
        ("client", "unreadable", ""),
        ("daemon", "error", ""),
    ]
    assert found["frames"][0]["body"] == {"key": "k", "value": "<map, 2>"}
    assert found["frames"][3]["body"]["entry"]["value"] == "<map, 2>"
    assert {each["encoding"] for each in found["frames"]} == {encoding.encoding}
    assert [each["number"] for each in found["frames"]] == list(range(1, 9))
    assert SECRET not in str(found)
    assert "4711" not in str(found)
    assert not found["began"]
    shown = looker.tail(values=True)
    assert shown["began"], "another filter begins anew"
    one.reply("get", key="k")
    assert looker.tail(values=True)["frames"][1]["body"]["entry"]["value"] == {"pin": 4711, "deep": [SECRET]}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_session_token_is_never_shown(inside, encoding):
    one, looker = Client(inside, encoding), Client(inside)
    looker.tail(values=True)
    one.reply("hello", session="s", session_token=SECRET)
    one.call("session.heartbeat", session="s", session_token=SECRET)
    found = looker.tail(values=True)["frames"]
    assert len(found) == 4
    assert SECRET not in str(found)
    assert [each["body"].get("session_token") for each in found[::2]] == ["<hidden>", "<hidden>"]


def test_a_token_that_was_not_hidden_would_be_noticed(inside, monkeypatch):
    monkeypatch.setattr(showing, "NEVER", frozenset())
    with pytest.raises(AssertionError):
        test_a_session_token_is_never_shown(inside, Pack)


def test_filters(inside):
    one, other, looker = Client(inside), Client(inside, Json), Client(inside)
    number = one.reply("debug.clients")["client"]
    looker.tail(client=number, methods="p")
    one.reply("put", key="k", value=1)
    one.reply("get", key="k")
    one.reply("ping")
    other.reply("ping")
    assert brief(looker.tail(client=number, methods="p")["frames"]) == [
        ("client", "call", "put"),
        ("daemon", "reply", "put"),
        ("client", "call", "ping"),
        ("daemon", "reply", "ping"),
    ]
    assert looker.tail(pid=7)["began"]
    one.reply("ping")
    assert looker.tail(pid=7)["frames"] == [], "of no such process"


def test_who_tails_is_not_shown_and_watches_are(inside):
    one, looker, other = Client(inside), Client(inside), Client(inside)
    looker.tail()
    other.tail()
    one.watch("p/")
    one.post("put", key="p/1", value=SECRET)
    one.line.collect(2, to_end=False)
    other.tail()
    found = looker.tail()["frames"]
    assert {each["client"] for each in found if each["method"] == "debug.tail"} <= {3}, "the first call of the other"
    events = [each for each in found if each["kind"] == "event"]
    assert [each["body"]["kind"] for each in events] == ["snapshot_end", "changes"]
    assert events[1]["body"]["changes"][0]["value"] == "<string, 32>"
    assert events[1]["id"] == 1


def test_a_tail_waits_for_something_to_pass(inside):
    one, looker = Client(inside), Client(inside)
    looker.tail()
    looker.post("debug.tail", wait_s=20.0)
    inside.world.advance(3.0)
    assert not looker.line.transport.sent
    one.reply("ping")
    (found,), _ = looker.line.collect(1, to_end=False)
    assert len(found.body["frames"]) == 2
    began_s = inside.world.clock.monotonic()
    assert looker.tail(wait_s=5.0)["frames"] == []
    assert inside.world.clock.monotonic() - began_s == pytest.approx(5.0)
    looker.post("debug.tail", wait_s=20.0)
    looker.post("debug.tail", wait_s=0.5)
    answers, _ = looker.line.collect(2, to_end=False)
    assert [each.kind for each in answers] == ["reply", "reply"], "one waits at most, and none is forgotten"


def test_a_tail_that_asks_at_once_takes_a_bounded_part_of_the_time(inside):
    one, looker = Client(inside), Client(inside)
    looker.tail()
    for _ in range(TAIL_FRAMES_MAX // 2):
        one.reply("ping")
    began_s = inside.world.clock.monotonic()
    pages = [looker.tail(wait_s=5.0) for _ in range(4)]
    assert [len(page["frames"]) for page in pages] == [256] * 4
    assert inside.world.clock.monotonic() - began_s == pytest.approx(3 * GATHER_S)


@pytest.mark.parametrize("wrong", [{"wait_s": 1e9}, {"wait_s": -1.0}, {"limit": 0}, {"limit": 10**6}])
def test_what_a_tail_cannot_do_is_refused(inside, wrong):
    assert Client(inside).call("debug.tail", **wrong).code == "invalid_params"


def test_whoever_does_not_ask_loses_frames_and_holds_a_bounded_part(inside):
    one, looker = Client(inside), Client(inside)
    looker.tail(values=True)
    for _ in range(TAIL_FRAMES_MAX):
        one.reply("ping")
    found = looker.tail(values=True)
    assert found["lost"] == TAIL_FRAMES_MAX
    assert (len(found["frames"]), found["more"]) == (256, True)
    assert found["frames"][0]["number"] == TAIL_FRAMES_MAX + 1, "the newest are kept"
    assert looker.tail(values=True)["lost"] == 0, "told once"
    big = "x" * 200_000
    for _ in range(2 * TAIL_BYTES_MAX // len(big)):
        one.reply("put", key="big", value=big)
        assert inside.core.tails.kept_bytes <= TAIL_BYTES_MAX
    found = looker.tail(values=True)
    assert found["lost"] > 0
    size = sum(each["size"] for each in found["frames"])
    assert size < 2 * len(big) + 256 * 1024, "an answer ends where it has enough"


def test_of_a_frame_too_large_the_size_is_shown():
    inside = Inside(structs.replace(LIMITS, frame_bytes_max=1024 * 1024))
    one, looker = Client(inside), Client(inside)
    looker.tail()
    then = [{"op": "put", "key": f"k{index}", "value": "x" * 200_000} for index in range(3)]
    one.reply("txn", then=then)
    found = looker.tail()["frames"]
    assert [(each["left_out"], each["body"] is None) for each in found] == [(True, True), (False, False)]
    assert found[0]["size"] > TAIL_FRAME_BYTES_MAX


def test_whoever_does_not_ask_for_long_is_cut(inside):
    one, looker = Client(inside), Client(inside)
    looker.tail()
    inside.world.advance(TAIL_IDLE_S - 1)
    looker.tail()
    looker.post("debug.tail", wait_s=20.0)  # who waits is not idle
    inside.world.advance(TAIL_IDLE_S - 1)
    assert len(inside.core.tails) == 1
    inside.world.advance(2)
    answers, ended = looker.line.collect(2, to_end=True)
    assert ended
    assert [each.code for each in answers] == ["", "overloaded"]
    assert len(inside.core.tails) == 0
    assert inside.core.metrics.snapshot()["tails.cut"] == 1
    one.reply("ping")
    assert one.line.conversation._protocol.observer is None, "nothing is observed any more"


def test_there_are_only_so_many_tails_and_a_connection_that_ends_gives_its_back(inside):
    lookers = [Client(inside) for _ in range(TAILS_MAX)]
    for each in lookers:
        each.tail()
    assert Client(inside).call("debug.tail").code == "overloaded"
    lookers[0].line.transport.close()
    inside.world.run_until_idle()
    Client(inside).tail()
    assert len(inside.core.tails) == TAILS_MAX
    late = Client(inside)
    late.reply("ping")
    assert lookers[1].tail()["frames"], "a connection that came later is seen as well"


def test_at_the_end_a_tail_is_answered(inside):
    looker = Client(inside)
    looker.tail()
    looker.post("debug.tail", wait_s=20.0)
    inside.world.run_until_idle()
    inside.core.drain()
    (found,), _ = looker.line.collect(1, to_end=False)
    assert found.kind == "reply"


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=200), st.booleans(), st.booleans())
def test_garbage_is_shown_as_such(frame, is_json, values):
    codec = JsonCodec() if is_json else MsgpackCodec()
    said = showing.said_by_client(codec, frame)
    assert said.kind in ("call", "unreadable")
    showing.hidden(said.body, values=values)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=200)
@given(JSON_VALUES, st.sampled_from(["value", "patch", "values", "number", "body", "new in another version"]))
def test_nothing_of_a_value_is_shown_but_its_form(value, name):
    marked = {"inner": value, "key": SECRET, "entries": [{"key": SECRET}]}
    shown = showing.hidden({name: marked, "key": "k"}, values=False)
    assert shown == {name: "<map, 3>", "key": "k"}
    assert json.dumps(showing.hidden({name: marked}, values=True)) == json.dumps({name: marked})


# -- where the time goes ---------------------------------------------------------------------------------------------


def test_the_stages_of_a_write_add_up():
    tracing = Tracing(7, "put", arrived_s=10.000, began_s=10.001)
    tracing.decided_s, tracing.answered_s = 10.003, 10.040
    tracing.took = Took(10.010, 10.012, 10.030, 10.031, 5)
    found = tracing.explained(10.041, 1_000_000, 17)
    stages = [
        getattr(found, f"{name}_ms") for name in ["wait", "decide", "queue", "commit", "fsync", "publish", "send"]
    ]
    assert stages == pytest.approx([1, 2, 7, 2, 18, 10, 1], abs=0.01)
    assert sum(stages) == pytest.approx(found.total_ms, abs=0.01)
    assert (found.client, found.group, found.unsent_bytes) == (7, 5, 17)


@pytest.mark.parametrize("took", [None, Took(9.0, 9.1, 9.2, 9.3, 3)])
def test_what_wrote_nothing_itself_has_waited(took):
    """Answered from memory, by a read of the past, or while a batch of somebody else was published."""
    tracing = Tracing(7, "claim.acquire", arrived_s=10.0, began_s=10.0)
    tracing.decided_s, tracing.answered_s, tracing.took = 10.001, 10.101, took
    found = tracing.explained(10.101, 0, 0)
    assert (found.queue_ms, found.commit_ms, found.fsync_ms, found.group) == (pytest.approx(100, abs=0.01), 0, 0, 0)


def test_traces_are_bounded_in_number_and_time(inside):
    one, looker = Client(inside), Client(inside)
    assert looker.reply("debug.trace")["on"] is False
    one.reply("ping")
    looker.reply("debug.trace", on=True, for_s=30.0)
    for _ in range(TRACES_MAX + 10):
        one.reply("ping")
    one.call("get", kee=1)
    found = looker.reply("debug.trace", limit=TRACES_MAX)
    assert found["on"]
    assert found["seen"] >= TRACES_MAX + 11
    assert len(found["traces"]) == TRACES_MAX
    assert [(each["method"], each["code"]) for each in found["traces"][:2]] == [("get", "invalid_params"), ("ping", "")]
    inside.world.advance(31.0)
    before = looker.reply("debug.trace")
    one.reply("ping")
    after = looker.reply("debug.trace")
    assert (after["on"], after["seen"], after["left_s"]) == (False, before["seen"], 0.0)
    looker.reply("debug.trace", on=True, slow_ms=5.0)
    one.reply("ping")
    found = looker.reply("debug.trace", on=False)
    assert (found["traces"], found["on"]) == ([], False), "in a virtual world nothing is slow"


def test_a_connection_traces_itself(inside):
    one, other = Client(inside), Client(inside)
    one.reply("debug.trace", on=True, mine=True)
    one.reply("put", key="k", value=SECRET, session="")
    other.reply("ping")
    found = one.reply("debug.trace", mine=True)
    assert [each["method"] for each in found["traces"]] == ["put"]
    assert SECRET not in str(found)
    assert other.reply("debug.trace")["traces"] == []
    one.reply("debug.trace", on=False, mine=True)
    assert one.reply("debug.trace", mine=True)["traces"] == []


@pytest.mark.parametrize("wrong", [{"for_s": 0.0}, {"for_s": 1e9}, {"slow_ms": -1.0}, {"limit": 10**6}])
def test_what_cannot_be_traced_is_refused(inside, wrong):
    assert Client(inside).call("debug.trace", on=True, **wrong).code == "invalid_params"


# -- log level ---------------------------------------------------------------------------------------------------------


class Log:
    """A log that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **about: self.heard.append((level, event, about))


@contextmanager
def logging_inside() -> Iterator[tuple[Inside, Log]]:
    inside = Inside()
    log = Log()
    inside.core.loglevel._log = log
    yield inside, log


def test_another_level_ends_by_itself():
    with logging_inside() as (inside, log):
        one = Client(inside)
        found = one.reply("debug.loglevel", level="debug", for_s=30.0)
        assert (found["level"], found["configured"], found["left_s"]) == ("debug", "info", 30.0)
        one.reply("put", key=SECRET, value=SECRET)
        assert [about["method"] for level, event, about in log.heard if event == "request"] == ["put"]
        assert SECRET not in str(log.heard)
        inside.world.advance(31.0)
        before = len(log.heard)
        one.reply("ping")
        found = one.reply("debug.loglevel")
        assert (found["level"], found["left_s"]) == ("info", 0.0)
        assert len(log.heard) == before
        one.reply("debug.loglevel", level="error")
        assert one.reply("debug.loglevel", level="configured")["level"] == "info"
        assert one.call("debug.loglevel", level="loud").code == "invalid_params"
        assert one.call("debug.loglevel", level="debug", for_s=-1.0).code == "invalid_params"


# -- tables ------------------------------------------------------------------------------------------------------------


def test_clients_watches_queues_and_locks(inside):
    one, two = Client(inside), Client(inside, Json)
    one.reply("hello", client="library" * 100, version="1.2", project="p")
    one.watch("a/")
    one.reply("turn", key="hot")
    two.post("turn", key="hot", wait_s=60.0)
    inside.world.run_until_idle()
    found = Client(inside).reply("debug.clients")
    assert [(each["client"], each["encoding"], each["state"]) for each in found["clients"]] == [
        (1, "msgpack", "reading"),
        (2, "json", "reading"),
        (3, "msgpack", "reading"),
    ]
    first, second, _ = found["clients"]
    assert (first["name"], first["version"], first["project"]) == (("library" * 100)[:64], "1.2", "p")
    assert (first["watches"], second["in_flight"], found["client"]) == (1, 1, 3)
    third = Client(inside)
    (watch,) = third.reply("debug.watches")["watches"]
    assert (watch["client"], watch["prefix"], watch["state"], watch["behind"]) == (1, "a/", "live", 0)
    assert third.reply("debug.watches", client=2)["watches"] == []
    locks = {each["kind"]: each for each in third.reply("debug.locks")["locks"]}
    assert locks["daemon"]["name"] == "d/daemon.lock"
    assert (locks["turn"]["holder"], locks["turn"]["waiting"]) == ("client 1", 1)
    assert "hot" in locks["turn"]["name"]
    queues = {each["name"]: each for each in third.reply("debug.queues")["queues"]}
    assert queues["turns"]["used"] == 2
    assert queues["commit_queue"]["used"] == 0
    inside.commits.stall(stalled=True)
    third.post("put", key="k", value="x" * 1000)
    inside.world.run_until_idle()
    queues = {each["name"]: each for each in Client(inside).reply("debug.queues")["queues"]}
    assert queues["commit_queue"]["used"] == 1
    assert queues["commit_queue"]["bytes"] > 1000


def test_tasks_are_bounded_stacks(inside):
    found = Client(inside).reply("debug.tasks")
    assert found["tasks"][0]["kind"] == "thread"
    assert any("handlers/debug.py" in place for place in found["tasks"][0]["stack"])
    assert all(len(each["stack"]) <= 32 for each in found["tasks"])


def test_latencies_are_counted_by_method(inside):
    one = Client(inside)
    for _ in range(3):
        one.reply("get", key="k")
    one.call("get", kee="k")
    one.call("no.such.method")
    one.reply("put", key="k", value=1)
    found = one.reply("debug.metrics")
    assert found["latencies"]["request.get"]["count"] == 4
    assert found["latencies"]["commit"]["count"] == 1
    assert set(found["latencies"]) <= {"commit", "fsync", *(f"request.{method}" for method in REQUESTS)}
    assert found["counters"]["error.unknown_method"] == 1
    assert len(found["latencies"]["request.get"]["buckets"]) == len(found["bounds_s"]) + 1
    assert {each["name"] for each in found["gauges"]} >= {"connections", "entries", "database_bytes", "revision"}


def test_a_latency_falls_into_the_bucket_that_it_is_not_longer_than():
    metrics = Metrics()
    for took_s in (0.0, BOUNDS_S[0], BOUNDS_S[0] * 1.01, BOUNDS_S[-1], BOUNDS_S[-1] * 2):
        metrics.took("x", took_s)
    found = metrics.latencies["x"]
    assert (found.buckets[0], found.buckets[1], found.buckets[-2], found.buckets[-1]) == (2, 1, 1, 1)
    assert found.max_s == BOUNDS_S[-1] * 2
