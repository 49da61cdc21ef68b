"""The asyncio shell on a real loop and real sockets, with a core whose clock is moved by hand and sockets that fail
when they are told to: what otherwise happens once in a million connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs

from cosession.errors import Overloaded
from cosession.messages.limits import LIMITS
from cosessiond.server import listener as shell
from cosessiond.server.assembly import TABLE
from cosessiond.server.listener import Listener, bind
from cosessiond.server.shortage import TOLD_EVERY_S
from cosessiond.sessions.identity import Peer as Identified
from rawclient import Answer, Pack, take_answer
from server.inprocess import Inside

TURNS = 20
SILENT_ENOUGH_S = shell.SILENT_S + 1


class Log:
    """Takes what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, event: str, **_: Any) -> None:
        """Like structlog."""
        self.lines.append(event)

    info = warning


class Failing(socket.socket):
    """A listening socket for which the system has nothing left while `broken`; `scarce` so often for descriptors."""

    broken = False
    scarce = 0
    accepts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.accepts += 1
        if self.broken:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        if self.scarce:
            self.scarce -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class Listening:
    """A listener on `path` and the clients that talk to it, in one loop."""

    def __init__(self, inside: Inside, path: Any, sock: socket.socket) -> None:
        self.inside = inside
        self.core = inside.core
        self.path = path
        self.sock = sock
        self.log = Log()
        self.uncaught: list[dict[str, Any]] = []
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.uncaught.append(context))
        self.listener = Listener(self.core, TABLE, sock, self.loop, self.log)
        self.clients: list[socket.socket] = []

    async def turns(self, count: int = TURNS) -> None:
        """Let the loop and the world go round."""
        for _ in range(count):
            await asyncio.sleep(0.001)
            self.inside.world.run_until_idle()

    async def connect(self, count: int = 1) -> list[socket.socket]:
        """Clients, connected at the same moment."""
        made = []
        for _ in range(count):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.setblocking(False)
            client.connect(str(self.path))
            made.append(client)
        self.clients += made
        await self.turns()
        return made

    async def say(self, client: socket.socket, data: bytes) -> list[Answer]:
        """Send, and what comes back."""
        client.send(data)
        await self.turns()
        return self.heard(client)

    def heard(self, client: socket.socket) -> list[Answer]:
        """What has come by now."""
        buffer = bytearray()
        with contextlib.suppress(BlockingIOError):
            while data := client.recv(1 << 20):
                buffer += data
        found = []
        while (answer := take_answer(buffer)) is not None:
            found.append(answer)
        return found

    def pass_time(self, seconds: float) -> None:
        """Move the clock of the core."""
        self.inside.world.advance(seconds)


@contextlib.asynccontextmanager
async def listening(home: Any, *, sock: type[socket.socket] | None = None, **limits: Any) -> AsyncIterator[Listening]:
    path = home / "d.sock"
    bound = bind(path)
    if sock is not None:
        made = sock(fileno=os.dup(bound.fileno()))
        made.setblocking(False)
        bound.close()
        bound = made
    found = Listening(Inside(structs.replace(LIMITS, **limits)), path, bound)
    try:
        yield found
        assert not found.uncaught, found.uncaught
        assert not found.inside.bugs
    finally:
        found.listener.close()
        for client in found.clients:
            client.close()
        await found.turns()
        for conversation in list(found.core.conversations):
            conversation.leave(Overloaded("the test is over"))
        await found.turns(5)


def running(test: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run a test that is a coroutine."""
    asyncio.run(test(*arguments))  # type: ignore[arg-type]


PING = Pack.encode(1, "ping", {})


def test_at_the_cap_the_connection_that_was_silent_longest_gives_way(home):
    async def scenario() -> None:
        async with listening(home, connections_max=3) as place:
            (first,) = await place.connect()
            place.pass_time(1)
            second, third = await place.connect(2)
            place.pass_time(SILENT_ENOUGH_S)
            assert [answer.kind for answer in await place.say(second, PING)] == ["reply"]
            (fourth,) = await place.connect()
            assert [answer.kind for answer in await place.say(fourth, PING)] == ["reply"]
            assert [answer.code for answer in place.heard(first)] == ["overloaded"]
            assert first.recv(1) == b"", "and it is closed"
            assert [answer.kind for answer in await place.say(third, PING)] == ["reply"], "the others stay"
            assert len(place.core.conversations) == 3

    running(scenario)


def test_at_the_cap_nobody_gives_way_who_has_spoken_or_has_only_just_come(home):
    async def scenario() -> None:
        async with listening(home, connections_max=3) as place:
            talkers = await place.connect(2)
            for talker in talkers:
                await place.say(talker, PING)
            place.pass_time(SILENT_ENOUGH_S)
            await place.connect()
            (late,) = await place.connect()
            await asyncio.sleep(shell.GRACE_S)
            await place.turns()
            assert [answer.code for answer in place.heard(late)] == ["overloaded"]
            assert late.recv(1) == b""
            for talker in talkers:
                assert [answer.kind for answer in await place.say(talker, PING)] == ["reply"]

    running(scenario)


def test_one_silent_connection_makes_room_for_one_not_for_a_crowd(home):
    async def scenario() -> None:
        async with listening(home, connections_max=5) as place:
            for talker in await place.connect(4):
                await place.say(talker, PING)
            await place.connect()
            place.pass_time(SILENT_ENOUGH_S)
            crowd = await place.connect(10)
            await asyncio.sleep(shell.GRACE_S)
            await place.turns()
            assert len(place.core.conversations) <= 5
            refused = [client for client in crowd if any(answer.code == "overloaded" for answer in place.heard(client))]
            assert len(refused) == 9

    running(scenario)


def test_a_crowd_that_fits_exactly_is_taken_whole(home, monkeypatch):
    """Over many wakes of the listener, each while what the one before took is still being set up."""

    async def scenario() -> None:
        async with listening(home, connections_max=40) as place:
            crowd = await place.connect(40)
            await asyncio.sleep(shell.GRACE_S)
            await place.turns()
            assert not [answers for client in crowd if (answers := place.heard(client))]
            assert len(place.core.conversations) == 40

    monkeypatch.setattr(shell, "ACCEPTS_PER_WAKE", 4)
    running(scenario)


def test_another_user_is_told_that_this_is_not_his_daemon(home, monkeypatch):
    async def scenario() -> None:
        async with listening(home) as place:
            (stranger,) = await place.connect()
            assert [answer.code for answer in place.heard(stranger)] == ["not_allowed"]
            assert stranger.recv(1) == b""
            assert not place.core.conversations

    monkeypatch.setattr(shell, "peer_of", lambda _: Identified(pid=1, uid=os.geteuid() + 1, gid=0))
    running(scenario)


def test_without_memory_accepting_rests_instead_of_spinning_and_then_goes_on(home, monkeypatch):
    async def scenario() -> None:
        async with listening(home, sock=Failing) as place:
            assert isinstance(place.sock, Failing)
            (client,) = await place.connect()
            assert [answer.kind for answer in await place.say(client, PING)] == ["reply"]
            place.sock.broken = True
            before, began_s = place.sock.accepts, time.monotonic()
            (late,) = await place.connect()
            await asyncio.sleep(0.25)
            rests = (time.monotonic() - began_s) / shell.REST_S
            assert place.sock.accepts - before <= rests + 2, "once per rest"
            assert place.log.lines == ["cannot accept"], "said once"
            assert [answer.kind for answer in await place.say(client, PING)] == ["reply"], "who is in is served"
            place.sock.broken = False
            await asyncio.sleep(0.15)
            assert [answer.kind for answer in await place.say(late, PING)] == ["reply"]
            assert place.log.lines == ["cannot accept", "accepting again"]

    monkeypatch.setattr(shell, "REST_S", 0.1)
    running(scenario)


def test_a_connection_that_the_loop_cannot_take_costs_nobody_else_anything(home, monkeypatch):
    async def scenario() -> None:
        async with listening(home) as place:

            async def full(*_: Any) -> Any:
                raise OSError(errno.ENOSPC, "No space left in epoll")

            with monkeypatch.context() as patched:
                patched.setattr(place.loop, "connect_accepted_socket", full)
                (refused,) = await place.connect()
            gc.collect()  # which would report an exception that nobody looked at
            assert refused.recv(1) == b"", "it was closed"
            assert place.listener.opening == 0
            assert place.log.lines == ["cannot accept"]
            (client,) = await place.connect()
            assert [answer.kind for answer in await place.say(client, PING)] == ["reply"]

    running(scenario)


def test_accepting_that_rests_goes_on_when_a_connection_ends(home, monkeypatch):
    async def scenario() -> None:
        async with listening(home, sock=Failing) as place:
            assert isinstance(place.sock, Failing)
            (client,) = await place.connect()
            place.sock.broken = True
            (late,) = await place.connect()
            place.sock.broken = False
            assert place.heard(late) == []
            client.close()
            await place.turns()
            assert [answer.kind for answer in await place.say(late, PING)] == ["reply"]

    monkeypatch.setattr(shell, "REST_S", 3600.0)
    running(scenario)


def test_without_descriptors_who_comes_is_told_so_and_the_next_that_fits_is_served(home):
    async def scenario() -> None:
        async with listening(home, sock=Failing) as place:
            assert isinstance(place.sock, Failing)
            for number in range(3):
                place.sock.scarce = 1
                (refused,) = await place.connect()
                assert [answer.code for answer in place.heard(refused)] == ["overloaded"]
                assert refused.recv(1) == b""
                (served,) = await place.connect()
                assert [answer.kind for answer in await place.say(served, PING)] == ["reply"], number
            assert place.log.lines == ["cannot accept", "accepting again"], "once a minute, however often it happens"
            place.pass_time(TOLD_EVERY_S)
            place.sock.scarce = 1
            await place.connect()
            assert place.log.lines[2:] == ["cannot accept"]

    running(scenario)


class Scripted(socket.socket):
    """The daemon's end of a connection, that sends as it is told: nothing, everything, or an error."""

    mood = "open"

    def send(self, data: Any, flags: int = 0) -> int:
        if self.mood == "full":
            raise BlockingIOError
        if self.mood == "once":
            self.mood = "gone"
            return len(data)  # as if the peer had read on meanwhile
        if self.mood == "gone":
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().send(data, flags)


@pytest.mark.parametrize("ending", ["gone", "half-closed"])
def test_a_connection_that_ends_while_its_backlog_drains_ends_once(home, ending):
    """The backlog goes out in one piece, the loop says "write on", and what is written next fails or closes."""

    async def scenario() -> None:
        async with listening(home) as place:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            place.clients.append(theirs)
            theirs.setblocking(False)
            scripted = Scripted(fileno=ours.detach())
            scripted.setblocking(False)
            peer = Identified(pid=os.getpid(), uid=os.geteuid(), gid=os.getegid())
            await place.loop.connect_accepted_socket(lambda: shell.Connection(place.listener, peer), scripted)
            (writer,) = await place.connect()
            for number in range(20):
                writer.send(Pack.encode(1, "put", {"key": f"k{number}", "value": "x" * 200_000}))
                await place.turns(2)
            scripted.mood = "full"
            if ending == "gone":
                await place.say(theirs, Pack.encode(1, "watch", {}))  # a snapshot of 4 MB: more than may wait unsent
            else:
                await place.say(theirs, Pack.encode(1, "range", {}) * 2)
                theirs.shutdown(socket.SHUT_WR)
                await place.turns()
            assert len(place.core.conversations) == 2
            scripted.mood = "once" if ending == "gone" else "open"
            for _ in range(200):
                read_away(theirs)
                await place.turns(2)
                if len(place.core.conversations) == 1:
                    break
            assert len(place.core.conversations) == 1

    running(scenario)


def read_away(client: socket.socket) -> None:
    """Take what has come."""
    with contextlib.suppress(OSError):
        while client.recv(1 << 20):
            pass
