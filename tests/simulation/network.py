"""Connections: two byte streams through a small kernel buffer, and the daemon's transport as asyncio behaves.

Bytes arrive in chunks of any size after any delay. The daemon's end follows `asyncio.Transport` to the letter where it
matters to a conversation: what does not fit into the kernel waits in a buffer of its own; above the high-water mark it
counts as full, and `drained` is called only when a full one has fallen below the low mark; `close` lets the buffer go
first; the end of a connection is told later, never from inside a call.

Rule: a cut may come after any byte, and no byte is ever invented, lost or moved before it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol
from zlib import crc32

from cosessiond.server import conversation as server
from simulation.scheduler import Scheduler


class Reader(Protocol):
    """The client's end."""

    slow_until_s: float

    def receive(self, data: bytes) -> None:
        """Bytes came."""
        ...

    def lost(self) -> None:
        """None will come any more."""
        ...


#: Runs a callback on the loop of the daemon, if that still lives.
Enter = Callable[[str, Callable[[], None]], None]


class Link:
    """One connection. `up` and `down` are what the kernel holds on the way to and from the daemon; at most `chunk_max`
    bytes arrive at once.
    """

    def __init__(self, world: Scheduler, number: int, client: Reader, *, kernel_bytes: int, chunk_max: int) -> None:
        self.world = world
        self.number = number
        self.kernel_bytes = kernel_bytes
        self.down = bytearray()
        self.client_gone = False
        self.daemon_gone = False
        self._client = client
        self.chunk_max = chunk_max
        self._up = bytearray()
        self._reset = False
        self._eof_told = False
        self._pumping_up = False
        self._pumping_down = False
        self.end: DaemonEnd

    # -- the client's calls ----------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Towards the daemon."""
        if not self.daemon_gone:
            self._up += data
            self.pump_up()

    def close(self, random: Random) -> None:
        """The client is gone: in the middle of a frame, or after the last one."""
        if self.client_gone:
            return
        self.client_gone = True
        self._reset = bool(self.down) or random.random() < 0.3
        if self._up and random.random() < 0.5:
            del self._up[random.randrange(len(self._up)) :]
        self.down.clear()
        self.world.note(f"link {self.number} cut, {len(self._up)} bytes on the way")
        self.pump_up()
        self.end.room()  # a writer is told that nobody reads any more

    # -- moving bytes ----------------------------------------------------------------------------------------------

    def pump_up(self) -> None:
        """See that the daemon reads, soon."""
        if not self._pumping_up and not self.daemon_gone:
            self._pumping_up = True
            self.world.later(lambda: self.end.enter("read", self._arrive))

    def pump_down(self) -> None:
        """See that the client reads, when it is not slow."""
        if self._pumping_down or self.client_gone:
            return
        self._pumping_down = True
        wait_s = max(0.0, self._client.slow_until_s - self.world.now_s)
        self.world.call_after(wait_s + self.world.delay_s(), self._deliver)

    def _arrive(self) -> None:
        self._pumping_up = False
        end = self.end
        if end.deaf:
            return  # `listen_again` pumps
        if self._up:
            count = min(len(self._up), self.world.random.randint(1, self.chunk_max))
            data = bytes(self._up[:count])
            del self._up[:count]
            if self._up or self.client_gone:
                self.pump_up()
            self.world.note(f"link {self.number} up {count} {crc32(data):08x}")
            end.conversation.received(data)
        elif self.client_gone and self._reset:
            end.lose()
        elif self.client_gone and not self._eof_told:
            self._eof_told = True
            self.world.note(f"link {self.number} eof")
            end.conversation.received_eof()

    def _deliver(self) -> None:
        self._pumping_down = False
        if self.client_gone:
            return
        if self._client.slow_until_s > self.world.now_s:
            self.pump_down()
        elif self.down:
            count = min(len(self.down), self.world.random.randint(1, self.chunk_max))
            data = bytes(self.down[:count])
            del self.down[:count]
            self.world.note(f"link {self.number} down {count} {crc32(data):08x}")
            if self.down or self.daemon_gone:
                self.pump_down()
            self.end.room()
            self._client.receive(data)
        elif self.daemon_gone:
            self.client_gone = True
            self.world.note(f"link {self.number} ends")
            self._client.lost()

    def daemon_ends(self) -> None:
        """The daemon closed its end, or died; what the kernel holds can still be read."""
        self.daemon_gone = True
        self._up.clear()
        self.pump_down()


class DaemonEnd:
    """`conversation.Transport` over a link; see `server.listener.Connection` and asyncio's selector transport."""

    def __init__(self, link: Link, enter: Enter, on_abort: Callable[[int], None]) -> None:
        self.conversation: server.Conversation
        self.enter = enter
        self._link = link
        self._on_abort = on_abort
        self._buffer = bytearray()
        self._full = False
        self._paused = False
        self._closing = False
        self._lost = False
        self._writing = False
        link.end = self

    @property
    def deaf(self) -> bool:
        """Whether nothing is read now."""
        return self._paused or self._closing

    # -- conversation.Transport ------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """See `conversation.Transport`."""
        if self._closing:
            return
        link = self._link
        if link.client_gone:
            self._force_close()
            return
        if not self._buffer:
            space = max(0, link.kernel_bytes - len(link.down))
            link.down += data[:space]
            link.pump_down()
            data = data[space:]
        if data:
            self._buffer += data
            self._full = self._full or len(self._buffer) > server.HIGH_WATER_BYTES

    def unsent(self) -> int:
        """See `conversation.Transport`."""
        return len(self._buffer)

    def pause(self, *, paused: bool) -> None:
        """See `conversation.Transport`."""
        if self._closing:
            return
        self._paused = paused
        if not paused:
            self._link.pump_up()

    def close(self) -> None:
        """See `conversation.Transport`."""
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._lose_later()

    def hung_up(self) -> bool:
        """See `conversation.Transport`: what poll(2) says of a peer that has closed, read or not."""
        return self._link.client_gone

    def abort(self) -> None:
        """See `conversation.Transport`."""
        if not self._link.client_gone:
            self._on_abort(self._link.number)
        self._force_close()

    # -- from the link ---------------------------------------------------------------------------------------------

    def room(self) -> None:
        """The client has read: the kernel takes more."""
        if self._buffer and not self._writing and not self._link.daemon_gone:
            self._writing = True
            self._link.world.later(lambda: self.enter("write", self._write_ready))

    def lose(self) -> None:
        """Reading failed: the connection is over."""
        self._force_close()

    def _write_ready(self) -> None:
        self._writing = False
        link = self._link
        if not self._buffer or self._lost:
            return
        if link.client_gone:
            self._force_close()
            return
        space = max(0, link.kernel_bytes - len(link.down))
        link.down += self._buffer[:space]
        del self._buffer[:space]
        link.pump_down()
        if self._full and len(self._buffer) <= server.HIGH_WATER_BYTES // 4:
            self._full = False
            self.conversation.drained()
        if not self._buffer and self._closing:
            self._lose_later()

    def _force_close(self) -> None:
        if not self._lost:
            self._buffer.clear()
            self._closing = True
            self._lose_later()

    def _lose_later(self) -> None:
        if not self._lost:
            self._lost = True
            self._link.world.later(lambda: self.enter("lost", self._connection_lost))

    def _connection_lost(self) -> None:
        self._link.world.note(f"link {self._link.number} closed by the daemon")
        self.conversation.closed()
        self._link.daemon_ends()
