"""Crowds that give nothing: half-open connections by the thousand, no descriptors left, watchers that never read.

Each function floods a daemon and raises AssertionError when a bystander was not served, memory grew, or something of
the crowd is left when it has gone. The tests call them with small numbers, `make prove` with large ones.

Rule: judged by `Watched` and by what is left, never by how fast it went.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator
from typing import Final

import psutil

from harness import Daemon
from rawclient import Answer, Pack, Peer
from server.daemons import Watched, drop, eventually

PADDING: Final = "x" * 200
#: Of what this process may open, for other things than the crowd.
SPARE: Final = 500


class TooFew(Exception):
    """This process may not open as many descriptors as the crowd needs."""


def half_open(daemon: Daemon, count: int) -> None:
    """`count` connections at once, each with half a frame; those above the daemon's cap stay open too, here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + SPARE:
        raise TooFew(f"this process may open only {hard} descriptors, {count + SPARE} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + SPARE), hard))
    peers: list[Peer] = []
    try:
        with Watched(daemon) as watched:
            for number in range(count):
                peer = Peer(daemon.socket)
                peers.append(peer)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # over the cap: refused already
                    peer.send(b"\x00\x00\x00" if number % 2 else b'{"jsonrpc":')
            watched.until(pings=10)
    finally:
        for peer in peers:
            peer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: spoken_to(daemon), "a client is served when they have gone")
    with Pack(daemon.socket) as observer:
        eventually(lambda: observer.reply("status")["connections"] == 1, "all of them are gone")


def without_descriptors(daemon: Daemon, count: int) -> None:
    """`count` connections, of which the daemon has descriptors for few; afterwards it has those it had before."""
    process = psutil.Process(daemon.pid)
    before_limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    with Pack(daemon.socket) as bystander:
        bystander.reply("ping")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (64, before_limits[1]))
        peers = [Peer(daemon.socket) for _ in range(count)]
        try:
            eventually(lambda: process.num_fds() >= 60, "the descriptors are used up")
            before = sum(process.cpu_times()[:2])
            for _ in range(50):
                assert bystander.reply("ping")
                threading.Event().wait(0.02)
            assert sum(process.cpu_times()[:2]) - before < 1.0, "it does not spin"
            bystander.reply("put", key="still", value="written")
        finally:
            for peer in peers:
                drop(peer)
        eventually(lambda: process.num_fds() < 40, "what was closed is released")
        eventually(lambda: spoken_to(daemon), "new clients are served again")
        assert bystander.reply("get", key="still")["entry"]["value"] == "written"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before_limits)


def never_reading(daemon: Daemon, connections: int, *, writes: int) -> None:
    """`connections` of 64 watches each that never read, while writes land."""
    slow = [Pack(daemon.socket) for _ in range(connections)]
    try:
        for peer in slow:
            revision = peer.reply("ping")["revision"]
            for _ in range(64):
                peer.reply("watch", prefix="w/", start_revision=revision + 1)
        with Pack(daemon.socket) as writer, Watched(daemon):
            write_many(writer, writes)
    finally:
        for peer in slow:
            drop(peer)


def write_many(writer: Peer, count: int) -> None:
    """Durable writes of 50 keys, pipelined: the value of each is its number, from 0, and some text."""
    for start in range(0, count, 250):
        numbers = range(start, start + 250)
        writer.send(b"".join(Pack.encode(1, "put", {"key": f"w/{n % 50}", "value": [n, PADDING]}) for n in numbers))
        assert {answer.kind for answer in writer.take(250)} == {"reply"}


def spoken_to(daemon: Daemon) -> bool:
    """Whether who comes now is served."""
    with Pack(daemon.socket) as peer:
        return next(iter(calling(peer, "ping"))).kind == "reply"


def calling(peer: Peer, method: str) -> Iterator[Answer]:
    """What is answered to a call, up to the end; who is refused may be cut before it has spoken."""
    with contextlib.suppress(OSError):
        peer.post(method)
    return peer.until_ended()
