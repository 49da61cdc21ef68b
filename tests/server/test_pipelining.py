"""Many calls in flight: all are answered, writes keep their order, and the end of input cuts off no answer."""

from __future__ import annotations

import contextlib
import random
import threading

import pytest

from rawclient import ENCODINGS, Ended, Json, Pack, Peer
from server.daemons import eventually

BOTH = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)


@BOTH
def test_the_writes_of_a_connection_are_committed_in_the_order_they_were_sent(shared_daemon, encoding):
    key = f"order/{encoding.encoding}"
    with encoding(shared_daemon.socket) as peer:
        peer.send(b"".join(encoding.encode(number, "put", {"key": key, "value": number}) for number in range(1, 257)))
        answers = peer.take(256)
        assert all(answer.kind == "reply" for answer in answers)
        revisions = {answer.id: answer.body["written"]["mod_revision"] for answer in answers}
        assert sorted(revisions) == list(range(1, 257))
        assert [revisions[number] for number in sorted(revisions)] == sorted(revisions.values())
        versions = peer.reply("history", key=key)["versions"]
        assert [version["value"] for version in versions] == list(range(256, 206, -1))


@BOTH
def test_ten_thousand_pipelined_calls_are_each_answered_once(shared_daemon, encoding):
    count = 10_000
    methods = [("ping", {}), ("put", {"key": f"many/{encoding.encoding}", "value": 1}), ("get", {"key": "many"})]
    methods += [("nothing", {}), ("put", {"key": "many", "value": 1, "expect_revision": 2**60})]
    frames = [encoding.encode(number, *methods[number % len(methods)]) for number in range(1, count + 1)]
    with encoding(shared_daemon.socket) as peer:
        sender = threading.Thread(target=peer.send, args=(b"".join(frames),))
        sender.start()
        answers = peer.take(count)
        sender.join()
        assert sorted(answer.id for answer in answers) == list(range(1, count + 1))
        wanted = ["reply", "reply", "reply", "unknown_method", "conflict"]
        assert all((answer.code or answer.kind) == wanted[answer.id % len(wanted)] for answer in answers)


@pytest.mark.parametrize("line", [b"1\n", b"{}\n", b"\x00\x00\x00\x01\xc0"], ids=repr)
def test_frames_that_are_no_calls_are_each_answered_however_many_come_at_once(shared_daemon, line):
    """Small frames, larger errors: in one read there are more of them than may wait unsent."""
    count = 20_000
    with Peer(shared_daemon.socket) as peer:
        sender = threading.Thread(target=peer.send, args=(line * count,))
        sender.start()
        assert {answer.code for answer in peer.take(count)} == {"invalid_request"}
        sender.join()


def test_a_client_that_first_sends_everything_and_then_reads_gets_everything(shared_daemon):
    """More answers than the daemon may hold: it stops reading until they are taken, and goes on then."""
    count = 20_000
    with Pack(shared_daemon.socket) as peer:
        data = b"".join(Pack.encode(number, "status", {}) for number in range(1, count + 1))
        sender = threading.Thread(target=peer.send, args=(data,))
        sender.start()
        sender.join(0.3)  # by then the daemon has stopped reading; if it is slower, that is tested another time
        assert sorted(answer.id for answer in peer.take(count)) == list(range(1, count + 1))
        sender.join()


@BOTH
def test_large_answers_to_pipelined_reads_all_arrive_when_the_client_reads(shared_daemon, encoding):
    """Answers that come from the store's thread all at once, far more bytes than may wait unsent."""
    value = "x" * 200_000
    prefix = f"large/{encoding.encoding}"
    with encoding(shared_daemon.socket) as peer:
        written = peer.reply("put", key=prefix, value=value)["written"]["mod_revision"]
        peer.reply("put", key="elsewhere", value=1)
        calls = [("get", {"key": prefix, "at_revision": written}), ("history", {"key": prefix})]
        calls.append(("get", {"key": prefix}))
        peer.send(b"".join(encoding.encode(number, *calls[number % 3]) for number in range(1, 201)))
        answers = peer.take(200)
        assert {answer.kind for answer in answers} == {"reply"}
        for answer in answers:
            shown = answer.body["versions"][0] if "versions" in answer.body else answer.body["entry"]
            assert shown["value"] == value


@BOTH
def test_large_answers_to_pipelined_writes_all_arrive_when_the_client_reads(shared_daemon, encoding):
    """A merge answers with the whole value: small requests, large answers, committed as one group."""
    key = f"merged/{encoding.encoding}"
    with encoding(shared_daemon.socket) as peer:
        peer.reply("put", key=key, value={"text": "x" * 200_000})
        frames = (encoding.encode(number, "merge", {"key": key, "patch": {"n": number}}) for number in range(1, 101))
        peer.send(b"".join(frames))
        numbers = {answer.id: answer.body["value"]["n"] for answer in peer.take(100)}
        assert numbers == {number: number for number in range(1, 101)}


@BOTH
def test_after_a_half_close_everything_pending_is_answered_before_the_end(shared_daemon, encoding):
    with encoding(shared_daemon.socket) as peer:
        frames = [encoding.encode(number, "put", {"key": "half", "value": number}) for number in range(1, 1001)]
        peer.send(b"".join(frames))
        peer.half_close()
        answers = list(peer.until_ended())
        assert sorted(answer.id for answer in answers) == list(range(1, 1001))
        assert {answer.kind for answer in answers} == {"reply"}


@BOTH
def test_after_a_half_close_a_watch_goes_on(shared_daemon, encoding):
    key = f"watched/{encoding.encoding}"
    with encoding(shared_daemon.socket) as peer, Pack(shared_daemon.socket) as writer:
        peer.reply("watch", key=key)
        peer.half_close()
        assert peer.next().body["kind"] == "snapshot_end"
        for number in range(3):
            writer.reply("put", key=key, value=number)
        assert [answer.body["changes"][0]["value"] for answer in peer.take(3)] == [0, 1, 2]


@pytest.mark.parametrize("reads_first", [True, False], ids=["after reading", "without reading"])
def test_a_connection_with_a_watch_is_let_go_when_its_client_is_gone(shared_daemon, reads_first):
    """Nothing that matches is ever written, so no failed send tells the daemon."""
    with Pack(shared_daemon.socket) as observer:

        def alone() -> bool:
            now = observer.reply("status")
            return (now["connections"], now["watches"]) == (1, 0)

        eventually(alone, "the connections of earlier tests are closed", timeout_s=20)
        for number in range(5):
            with Pack(shared_daemon.socket) as peer:
                peer.post("watch", key=f"never/{number}")
                if reads_first:
                    peer.take(2)
                peer.half_close()
        eventually(alone, "the connections of clients that are gone are closed", timeout_s=20)


def test_connections_that_increment_one_entry_lose_no_increment(shared_daemon):
    """Compare-and-swap from interleaved connections of both encodings: as many successes as the counter says."""
    successes = []
    lock = threading.Lock()

    def increment(kind: type[Peer], times: int) -> None:
        done = 0
        with kind(shared_daemon.socket) as peer:
            while done < times:
                entry = peer.reply("get", key="counter")["entry"]
                found = peer.call("put", key="counter", value=entry["value"] + 1, expect_revision=entry["mod_revision"])
                assert found.kind == "reply" or found.code == "conflict", found
                done += found.kind == "reply"
        with lock:
            successes.append(done)

    with Pack(shared_daemon.socket) as peer:
        peer.reply("put", key="counter", value=0)
        threads = [threading.Thread(target=increment, args=(kind, 50)) for kind in (Json, Pack) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert successes == [50] * 6
        assert peer.reply("get", key="counter")["entry"]["value"] == 300


def test_frames_cut_anywhere_and_sent_on_many_connections_in_turns_are_all_answered(shared_daemon):
    chance = random.Random(7)
    streams: list[tuple[Peer, bytearray]] = []
    for number in range(16):
        kind = (Json, Pack)[number % 2]
        calls = [("ping", {}), ("put", {"key": f"turn/{number}", "value": "x" * 50}), ("get", {"key": "turn/0"})]
        frames = b"".join(kind.encode(each, *calls[each % 3]) for each in range(1, 61))
        streams.append((kind(shared_daemon.socket), bytearray(frames)))
    left = list(streams)
    try:
        while left:
            peer, unsent = chance.choice(left)
            size = chance.randrange(1, 40)
            peer.send(bytes(unsent[:size]))
            del unsent[:size]
            left = [stream for stream in left if stream[1]]
        for peer, _ in streams:
            assert sorted(answer.id for answer in peer.take(60)) == list(range(1, 61))
    finally:
        for peer, _ in streams:
            peer.close()


@BOTH
def test_a_call_after_the_last_word_is_not_answered_and_not_carried_out(shared_daemon, encoding):
    """Lost framing ends a connection: what comes behind it is garbage, even when it looks like a call."""
    broken = b"{" + b"x" * (1 << 20) + b"\n" if encoding is Json else b"\x7f\xff\xff\xff"
    with encoding(shared_daemon.socket) as peer, Pack(shared_daemon.socket) as other:
        peer.send(encoding.encode(1, "ping", {}))
        assert peer.next().kind == "reply"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed while we were still sending
            peer.send(broken + encoding.encode(2, "put", {"key": "behind", "value": 1}))
        assert peer.next().code == "too_large"
        with pytest.raises(Ended):
            peer.next()
        assert other.reply("get", key="behind")["entry"] is None
