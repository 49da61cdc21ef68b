"""Clients that take and give nothing back: the others are answered meanwhile, and the daemon's memory is bounded.

`Watched` is the judge of every test here: pings of a bystander answered, resident memory within 48 MiB of before.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from cosession.messages.limits import VALUE_NODES_MAX
from durability.loop import ScriptedDaemon
from harness import Daemon
from rawclient import Ended, Json, Pack, Peer
from server import floods, sabotage
from server.daemons import ANSWERED_S, Watched, configure, drop, eventually, serving


@contextlib.contextmanager
def sending(peers: Sequence[Peer], data: bytes) -> Iterator[None]:
    """Each peer sends `data` over and over and reads nothing, until this context ends or the daemon cuts it."""
    over = threading.Event()

    def send(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                peer.send(data)

    threads = [threading.Thread(target=send, args=(peer,), daemon=True) for peer in peers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        for peer in peers:
            drop(peer)


# -- never reading ---------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(daemon):
    """A daemon whose whole context fills one page of 960 KiB."""
    with Pack(daemon.socket) as peer:
        for number in range(8):
            peer.reply("put", key=f"page/{number}", value="x" * 120_000)
    return daemon


@pytest.mark.parametrize("kind", [Json, Pack], ids=lambda each: each.encoding)
def test_a_client_that_asks_for_large_pages_and_never_reads_is_held_off(filled, kind):
    peers = [kind(filled.socket) for _ in range(2)]
    with Watched(filled) as watched, sending(peers, kind.encode(1, "range", {}) * 500):
        watched.until(pings=10)


def test_a_client_that_asks_for_old_pages_and_never_reads_is_held_off(filled):
    with Pack(filled.socket) as peer:
        revision = peer.reply("ping")["revision"]
        peer.reply("put", key="after", value=1)
    peers = [Pack(filled.socket) for _ in range(2)]
    with Watched(filled) as watched, sending(peers, Pack.encode(1, "range", {"at_revision": revision}) * 250):
        watched.until(pings=10)


@pytest.mark.parametrize(
    "line", [b"1\n", b"\n", b'{"jsonrpc":"2.0","id":1,"method":"x"}\n', b"\x00\x00\x00\x01\xc0"], ids=repr
)
def test_a_client_that_sends_small_garbage_and_never_reads_the_errors_is_held_off(daemon, line):
    with Watched(daemon) as watched, sending([Peer(daemon.socket), Peer(daemon.socket)], line * 5_000):
        watched.until(pings=10)


def test_a_client_that_writes_large_values_and_never_reads_is_held_off(daemon):
    frame = Pack.encode(1, "put", {"key": "same", "value": "x" * 250_000})
    peers = [Pack(daemon.socket) for _ in range(4)]
    # Blocks of this size leave holes in the heap, which settle near 90 MiB; without a bound it was 800 and more.
    with Watched(daemon, grown_max=128 << 20) as watched, sending(peers, frame):
        watched.until(pings=40)


def test_a_client_that_is_cut_while_its_answers_drain_ends_nobody_but_itself(filled):
    """It fills its buffers, leaves calls unread behind them, and reads on: what follows is over the limit."""
    with Pack(filled.socket) as peer:
        peer.reply("put", key="small", value=1)
        revision = peer.reply("put", key="after", value=1)["revision"] - 1
    greedy = Pack(filled.socket)
    pages = Pack.encode(1, "range", {"prefix": "page"})
    reads = b"".join(Pack.encode(n, "get", {"key": "small", "at_revision": revision}) for n in range(1, 257))
    greedy.send(pages * 2 + reads + pages * 50)
    with contextlib.suppress(Ended):
        greedy.take(2 + 256 + 50)
    drop(greedy)
    with Pack(filled.socket) as peer:
        assert peer.reply("ping")


def test_transactions_that_compare_whole_ranges_do_not_stop_the_writes_of_others(daemon):
    with Pack(daemon.socket) as peer:
        for start in range(0, 10_000, 125):
            peer.reply("txn", then=[{"op": "put", "key": f"k/{start + n}", "value": 1} for n in range(125)])
        compares = [{"kind": "range", "prefix": f"none/{n}", "max_mod_revision": 0} for n in range(128)]
        hostile = Pack(daemon.socket)
        hostile.send(Pack.encode(1, "txn", {"compares": compares, "then": []}) * 50)
        with Pack(daemon.socket, timeout_s=ANSWERED_S) as bystander:
            for number in range(10):
                bystander.reply("put", key="mine", value=number)
        drop(hostile)


def json_put(elements: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"put","params":{"key":"w","value":[' + elements + b"0]}}\n"


def test_a_client_that_sends_values_of_the_worst_shape_does_not_stop_the_others(daemon):
    """The most things to walk that a frame can hold: as many as are taken, and far more than that."""
    frames = [
        Pack.encode(1, "put", {"key": "wide", "value": [{}] * (VALUE_NODES_MAX - 1)}),
        Pack.encode(1, "put", {"key": "wide", "value": [{}] * 250_000}),
        json_put(b"{}," * (VALUE_NODES_MAX - 2)),
        json_put(b"{}," * 300_000),
        json_put(b"1," * 500_000),
        Pack.encode(1, "txn", {"then": [{"op": "merge", "key": f"m/{n}", "patch": [1] * 7_000} for n in range(128)]}),
    ]
    for frame in frames:
        with Watched(daemon, grown_max=96 << 20) as watched, sending([Peer(daemon.socket)], frame):
            watched.until(pings=10)


def test_pages_that_cost_much_do_not_stop_the_others(daemon):
    """Small MessagePack, large JSON: each takes the longest a frame may take, and there are two hundred."""
    with Pack(daemon.socket) as peer:
        for number in range(16):
            peer.reply("put", key=f"page/{number}", value=[[]] * (VALUE_NODES_MAX - 1))
    with Watched(daemon, grown_max=96 << 20) as watched, Json(daemon.socket) as hostile:
        hostile.send(Json.encode(1, "range", {"prefix": "page/"}) * 200)
        watched.until(pings=10)
        assert hostile.next().body["more"], "a page ends where its JSON would be too large"


def test_conflicts_that_show_a_large_entry_are_no_lever(daemon):
    """A small frame each, and each is answered with the whole entry."""
    with Pack(daemon.socket) as peer:
        peer.reply("put", key="large", value="x" * 250_000)
    frame = Pack.encode(1, "put", {"key": "large", "value": 1, "expect_revision": 99})
    with Watched(daemon) as watched, sending([Pack(daemon.socket) for _ in range(2)], frame * 250):
        watched.until(pings=40)


def test_watches_that_never_read_cost_no_memory_while_twenty_thousand_writes_land(daemon):
    floods.never_reading(daemon, 1, writes=20_000)


@pytest.mark.parametrize("kind", [Json, Pack], ids=lambda each: each.encoding)
def test_a_watch_that_reads_late_gets_every_revision_once_and_in_order(shared_daemon, kind):
    """Far more than may wait unsent: the watch lags, and catches up from the log when it reads."""
    with kind(shared_daemon.socket) as slow, Pack(shared_daemon.socket) as writer:
        before = writer.reply("ping")["revision"]
        for _ in range(3):
            slow.reply("watch", prefix="w/", start_revision=before + 1)
        floods.write_many(writer, 4_000)
        seen = dict.fromkeys((1, 2, 3), 0)
        while min(seen.values()) < 4_000:
            event = slow.next()
            assert (event.kind, event.body["kind"]) == ("event", "changes")
            assert event.body["revision"] == before + seen[event.id] + 1
            assert event.body["changes"][0]["value"] == [seen[event.id], floods.PADDING]
            seen[event.id] += 1


def test_a_snapshot_that_is_never_read_is_not_held_in_memory(filled):
    peers = [Pack(filled.socket) for _ in range(8)]
    with Watched(filled) as watched:
        for peer in peers:
            peer.send(b"".join(Pack.encode(number, "watch", {}) for number in range(1, 65)))
        watched.until(pings=10)
    for peer in peers:
        drop(peer)


def test_sixty_four_watches_are_a_connection_s_share_and_an_ended_one_makes_room(shared_daemon):
    with Json(shared_daemon.socket) as peer, Pack(shared_daemon.socket) as other:
        for number in range(64):
            assert peer.reply("watch", key=f"none/{number}", start_revision=1)["watch"] == number + 1
        assert peer.code("watch", key="none") == "overloaded"
        other.reply("watch", key="none", start_revision=1)
        peer.reply("unwatch", watch=7)
        assert peer.reply("watch", key="none", start_revision=1)["watch"] not in range(1, 65)
        assert peer.code("watch", key="none") == "overloaded"


# -- too many --------------------------------------------------------------------------------------------------------


def test_one_connection_too_many_is_told_so_and_one_that_ends_makes_room():
    with serving(connections_max=20) as daemon:
        peers = [Pack(daemon.socket)]
        eventually(lambda: peers[0].reply("status")["connections"] == 1, "whoever looked whether it is up has gone")
        for _ in range(19):
            peers.append(Pack(daemon.socket))
            peers[-1].reply("ping")
        with Pack(daemon.socket) as late:
            found = late.next()
            assert found.code == "overloaded"
            assert found.body["retryable"]
            with pytest.raises(Ended):
                late.next()
        peers.pop().close()
        eventually(lambda: floods.spoken_to(daemon), "a place that has become free is given again")
        for peer in peers:
            assert peer.reply("ping")
            peer.close()


def test_connections_that_come_all_at_once_and_fit_are_all_taken(daemon_stopped_in_time):
    """More than the daemon accepts in one go, and fewer than its cap."""
    with daemon_stopped_in_time(connections_max=200, count=190) as peers:
        for peer in peers:
            assert peer.reply("ping")


@pytest.fixture
def daemon_stopped_in_time():
    """Connections that all wait in the backlog when the daemon looks again."""

    @contextlib.contextmanager
    def connections(*, connections_max: int, count: int) -> Iterator[list[Peer]]:
        with serving(connections_max=connections_max) as daemon:
            process = psutil.Process(daemon.pid)
            process.suspend()
            peers: list[Peer] = []
            try:
                peers += [Pack(daemon.socket) for _ in range(count)]
                process.resume()
                yield peers
            finally:
                process.resume()
                for peer in peers:
                    peer.close()

    return connections


@pytest.mark.timeout(60)
def test_two_thousand_connections_with_half_a_frame_leave_the_others_alone(daemon):
    try:
        floods.half_open(daemon, 2000)
    except floods.TooFew as few:
        pytest.skip(str(few))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can lower the limits of another process")
def test_without_descriptors_the_daemon_rests_and_comes_back(home):
    """EMFILE: accepting pauses without spinning, and goes on when connections have closed."""
    with Daemon(home) as daemon:
        floods.without_descriptors(daemon, 60)


def watches_its_file(pid):
    with contextlib.suppress(FileNotFoundError):  # one that is closed meanwhile
        return any("inotify" in str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def descriptors_at_rest(daemon):
    """How many a daemon has once all that it opens for itself is open: its log for writing, the watch of its file."""
    process = psutil.Process(daemon.pid)
    if sys.platform == "linux":
        eventually(lambda: watches_its_file(daemon.pid), "the file is watched")
    counts = [process.num_fds()]

    def rests():
        time.sleep(0.2)
        counts.append(process.num_fds())
        return counts[-1] == counts[-2]

    eventually(rests, "the number of descriptors rests")
    return counts[-1]


def test_clients_that_come_and_go_leave_no_descriptor_and_no_connection_behind(daemon):
    process = psutil.Process(daemon.pid)
    with Pack(daemon.socket) as observer:
        observer.reply("put", key="come", value=0)
        before = descriptors_at_rest(daemon)
        for number in range(300):
            with (Json, Pack)[number % 2](daemon.socket) as peer:
                if number % 3 == 0:
                    peer.reply("put", key="come", value=number)
                elif number % 3 == 1:
                    peer.send(b"\x00\x00")
        eventually(lambda: observer.reply("status")["connections"] == 1, "no connection is left")
        eventually(lambda: process.num_fds() <= before, "no descriptor is left")


def test_killed_clients_leave_nothing_behind(daemon):
    program = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        's.sendall(b\'{"jsonrpc":"2.0","id":1,"method":"watch","params":{"key":"none"}}\\n\')\n'
        "s.recv(1); print('up', flush=True); time.sleep(60)\n"
    )
    with Pack(daemon.socket) as observer:
        clients = [
            subprocess.Popen([sys.executable, "-c", program, str(daemon.socket)], stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        for client in clients:
            assert client.stdout
            assert client.stdout.readline()
        assert observer.reply("status")["watches"] == 3
        for client in clients:
            client.kill()
            client.wait()
            assert client.stdout
            client.stdout.close()
        eventually(lambda: observer.reply("status")["watches"] == 0, "watches end with their clients", timeout_s=5)
        assert observer.reply("status")["connections"] == 1


# -- seeded bugs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bug", "flood", "seen"),
    [
        ("hoard", lambda daemon: floods.never_reading(daemon, 8, writes=5_000), "more than before"),
        ("stall", lambda daemon: floods.half_open(daemon, 200), "after .* pings"),
    ],
)
def test_the_floods_catch_a_daemon_that_would(bug, flood, seen, home, monkeypatch):
    configure(home, connections_max=100)
    monkeypatch.setattr("server.daemons.ANSWERED_S", 2.0)
    daemon = ScriptedDaemon(home, command=[sys.executable, sabotage.__file__, bug]).start()
    try:
        with pytest.raises(AssertionError, match=seen):
            flood(daemon)
    finally:
        daemon.kill()
