"""Bytes that nobody should send: whatever comes, it is an answer or a clean cut, and the next client is served."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cosession.messages import REQUESTS
from cosession.messages.limits import LIMITS
from cosession.protocol import ServerConnection
from cosession.wire import BadFrame
from rawclient import CALL, ENCODINGS, Answer, Json, Pack, Pairs, Peer, framed, pack, take_answer
from server.daemons import Watched, drop
from server.inprocess import Inside

PING = {"json": Json.encode(1, "ping", {}), "msgpack": Pack.encode(1, "ping", {})}
#: Whole frames of each kind, to be damaged.
SAMPLES = [
    Pack.encode(1, "put", {"key": "a", "value": {"x": [1, "two", None, 3.5]}, "expect_revision": 0}),
    Pack.encode(
        2, "txn", {"compares": [{"kind": "entry", "key": "a", "value": 1}], "then": [{"op": "delete", "key": "a"}]}
    ),
    Pack.encode(3, "range", {"prefix": "a", "limit": 5, "at_revision": 0}),
    Pack.encode(4, "watch", {"prefix": "a"}),
    Json.encode(5, "put", {"key": "a", "value": {"x": [1, "two", None, 3.5]}, "request_id": "r"}),
    Json.encode("six", "history", {"key": "a", "limit": 7}),
    Json.encode(7, "merge", {"key": "a", "patch": {"x": None}}),
]


def answers_in(data: bytes) -> list[Answer]:
    """All frames of the daemon in these bytes, which must be whole and of a known shape."""
    buffer = bytearray(data)
    found = []
    while (answer := take_answer(buffer)) is not None:
        found.append(answer)
    assert not buffer, f"half a frame at the end: {bytes(buffer[:80])!r}"
    return found


# -- every byte ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_whatever_the_first_byte_is_the_connection_ends_with_a_typed_error_or_nothing(daemon):
    with Watched(daemon):
        for first in range(256):
            for rest in (b"", bytes([first]) * 63 + b"\n", b"\n" * 3, b"\x00" * 8):
                with Peer(daemon.socket) as peer:
                    peer.send(bytes([first]) + rest)
                    peer.half_close()
                    answers = answers_in(peer.rest())
                assert all(answer.kind == "error" for answer in answers), (first, rest, answers)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def damaged() -> st.SearchStrategy[bytes]:
    """Samples with some bytes replaced, removed or put in, one after another."""

    def damage(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        found = bytearray(data)
        for where, removed, put_in in changes:
            at = where % (len(found) + 1)
            found[at : at + removed] = put_in
        return bytes(found)

    change = st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=3))
    return st.builds(damage, st.lists(st.sampled_from(SAMPLES), max_size=4).map(b"".join), st.lists(change, max_size=6))


@given(data=st.binary(max_size=200) | damaged(), cuts=st.lists(st.integers(0, 10_000), max_size=5), ends=st.booleans())
def test_a_connection_without_io_takes_any_bytes_in_any_pieces_and_says_the_same(data, cuts, ends):
    def outcome(pieces):
        connection = ServerConnection(structs.replace(LIMITS, frame_bytes_max=4096))
        calls = []

        def read() -> None:
            while (call := connection.next_call(0)) is not None:
                if isinstance(call, BadFrame):
                    connection.fail_frame(call, 0)
                else:
                    calls.append(call)

        for piece in pieces:
            connection.receive_data(piece)
            read()
        if ends:
            connection.receive_eof()
            read()
        return calls, answers_in(connection.data_to_send()), connection.closing

    assert outcome([data]) == outcome(pieces_of(data, cuts))


@given(data=damaged(), cuts=st.lists(st.integers(0, 10_000), max_size=3))
def test_a_conversation_takes_damaged_frames_without_a_bug_and_serves_the_next(data, cuts):
    inside = Inside(structs.replace(LIMITS, frame_bytes_max=4096, frame_finish_s=0.1))
    line = inside.connect()
    for piece in pieces_of(data, cuts):
        line.send(piece)
    line.half_close()
    answers, _ = line.collect(None, to_end=False)
    assert all(answer.kind in ("reply", "error", "event") for answer in answers)
    other = inside.connect()
    other.send(PING["msgpack"])
    assert [answer.kind for answer in other.collect(1, to_end=False)[0]] == ["reply"]
    assert not inside.bugs


# -- numbers and names -----------------------------------------------------------------------------------------------


def integer_parameters() -> list[Any]:
    """Every parameter of every method that is an integer, from the operation list itself."""
    return [
        pytest.param(method, field.encode_name, id=f"{method}-{field.encode_name}")
        for method, request in sorted(REQUESTS.items())
        for field in structs.fields(request)
        if field.type is int or int in get_args(field.type)
    ]


def required(method: str) -> dict[str, Any]:
    """The least that a method asks for."""
    stand_ins = {
        "key": "a",
        "value": 1,
        "patch": {},
        "number": 1,
        "values": [1],
        "to_revision": 1,
        "revision": 1,
        "time": 1.0,
        "watch": 1,
        "session": "nobody",
    }
    return {field.name: stand_ins[field.name] for field in structs.fields(REQUESTS[method]) if field.required}


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)
@pytest.mark.parametrize(("method", "name"), integer_parameters())
def test_an_integer_of_any_width_is_answered_and_does_no_harm(shared_daemon, method, name, encoding):
    with encoding(shared_daemon.socket) as peer, Pack(shared_daemon.socket) as other:
        other.reply("put", key="a", value=1)
        for number in (-(2**63) - 1, -(2**63), -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64):
            if encoding is Pack and not -(2**63) <= number < 2**64:
                continue  # MessagePack has no such number
            found = peer.call(method, **{**required(method), name: number})
            assert found.kind == "reply" or found.code not in ("internal", "io_error", "damaged"), (number, found)
        assert peer.call("history", key="a").kind == "reply", "the store still answers"
        assert other.call("put", key="a", value=2).kind == "reply", "and takes writes"


def test_a_parameter_that_is_named_twice_is_refused_in_both_encodings(shared_daemon):
    twice = Pairs((("key", "once"), ("key", "twice"), ("value", 1)))
    with Pack(shared_daemon.socket) as peer:
        peer.send(framed(pack([CALL, 1, "put", twice])))
        assert peer.next().code == "invalid_params"
        inner = Pairs((("op", "put"), ("key", "once"), ("key", "twice"), ("value", 1)))
        peer.send(framed(pack([CALL, 2, "txn", {"then": [inner]}])))
        assert peer.next().code == "invalid_params"
        assert peer.reply("get", key="twice")["entry"] is None
    with Json(shared_daemon.socket) as peer:
        peer.send(b'{"jsonrpc":"2.0","id":1,"method":"put","params":{"key":"once","key":"twice","value":1}}\n')
        assert peer.next().code == "invalid_params"


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)
def test_what_a_message_quotes_of_the_caller_is_short(shared_daemon, encoding):
    long = "\x1b[2J\r\n\u202e" + "x" * 100_000
    with encoding(shared_daemon.socket) as peer:
        for method, params in (
            (long, {}),
            ("get", {long: 1}),
            ("get", {"key": "a", "space": long}),
            ("get", {"key": "a", "project": long}),
            ("put", {"key": "a", "value": 1, "session": long}),
            ("txn", {"then": [{"op": long}]}),
            ("watch", {"space": long}),
            ("watch", {"start_revision": 1, "epoch": long}),
            ("session.explain", {"session": long}),
            ("session.close", {"session": long}),
            ("session.register", {"id": long}),
            ("session.register", {"name": long}),
            ("session.register", {"replaces": long}),
        ):
            found = peer.call(method, **params)
            assert found.kind == "error", (method, list(params))
            assert len(found.body["message"]) <= 1000, (method, list(params), len(found.body["message"]))
            assert len(str(found.body["data"])) <= 1000, (method, list(params))


# -- frames and time, on a virtual clock -----------------------------------------------------------------------------

FINISH_S = 0.1


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)
def test_a_stream_whose_pieces_never_end_with_a_frame_is_not_taken_for_half_a_frame(encoding):
    inside = Inside(structs.replace(LIMITS, frame_finish_s=FINISH_S))
    line = inside.connect()
    frame = encoding.encode(1, "ping", {})
    line.send(frame[:5])
    for count in range(20):
        inside.world.advance(FINISH_S / 2)
        line.send(frame[5:] + frame[:5])
        answers, ended = line.collect(None, to_end=False)
        assert [answer.kind for answer in answers] == ["reply"], f"piece {count}: {answers}"
        assert not ended


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)
def test_a_frame_that_trickles_in_is_cut_however_busily_it_trickles(encoding):
    inside = Inside(structs.replace(LIMITS, frame_finish_s=FINISH_S))
    line = inside.connect()
    frame = encoding.encode(1, "put", {"key": "a", "value": "x" * 100})
    passed_s = 0.0
    ended = False
    for byte in frame:
        line.send(bytes([byte]))
        answers, ended = line.collect(None, to_end=False)
        if ended:
            assert [answer.code for answer in answers] == ["timed_out"]
            break
        inside.world.advance(FINISH_S / 20)
        passed_s += FINISH_S / 20
    assert ended
    assert passed_s >= FINISH_S * 0.99, "never before its time"


def test_a_frame_that_the_daemon_itself_does_not_read_on_is_never_too_slow():
    inside = Inside(structs.replace(LIMITS, frame_finish_s=FINISH_S, in_flight_max=1))
    line = inside.connect()
    frames = b"".join(Pack.encode(number, "put", {"key": "a", "value": number}) for number in (1, 2, 3))
    line.send(frames[:5])
    inside.commits.stall(stalled=True)
    line.send(frames[5:-5])
    answers, ended = line.collect(None, to_end=False)
    inside.world.advance(10 * FINISH_S)
    answers, ended = line.collect(None, to_end=False)
    assert not ended, answers
    inside.commits.stall(stalled=False)
    line.send(frames[-5:])
    answers, ended = line.collect(3, to_end=False)
    assert [(answer.kind, answer.id) for answer in answers] == [("reply", 1), ("reply", 2), ("reply", 3)]


def test_a_silent_connection_is_left_alone():
    inside = Inside(structs.replace(LIMITS, frame_finish_s=FINISH_S))
    line = inside.connect()
    inside.world.advance(3600)
    line.send(PING["json"])
    assert [answer.kind for answer in line.collect(1, to_end=False)[0]] == ["reply"]
    inside.world.advance(3600)
    line.send(PING["json"])
    assert [answer.kind for answer in line.collect(1, to_end=False)[0]] == ["reply"]


# -- answers that would be too large ---------------------------------------------------------------------------------


def test_a_page_ends_where_json_escapes_would_make_it_too_large(shared_daemon):
    value = "\x01" * 180_000
    with Pack(shared_daemon.socket) as peer:
        for number in range(5):
            peer.reply("put", key=f"page/{number}", value=value)
        assert len(peer.reply("range", prefix="page/")["entries"]) == 5
    with Json(shared_daemon.socket) as peer:
        after = ""
        for number in range(5):
            page = peer.reply("range", prefix="page/", after=after)
            assert ([entry["key"] for entry in page["entries"]], page["more"]) == ([f"page/{number}"], number < 4)
            after = f"page/{number}"
        assert peer.reply("get", key="page/0")["entry"]["value"] == value


def test_a_batch_that_json_escapes_make_large_ends_a_watch_with_a_word_or_is_delivered(daemon):
    with Json(daemon.socket) as watcher, Pack(daemon.socket) as writer:
        watcher.reply("watch", start_revision=1)
        then = [{"op": "put", "key": f"k{number}", "value": "\x01" * 240_000} for number in range(4)]
        writer.reply("txn", then=then)
        writer.reply("put", key="after", value=1)
        found = watcher.next()  # raises Ended when the connection was cut without a word
        assert found.kind == "event"
        assert found.body["kind"] in ("changes", "end")
        drop(watcher)
