"""The asyncio shell: accepts, moves bytes between sockets and conversations, and knows nothing of what they mean.

Rule: our own cap on connections, refused with a word; the accept loop never spins when descriptors run out.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cosession.errors import ConfigError, CosessionError, NotAllowed, Overloaded
from cosession.messages.limits import HIGH_WATER_BYTES, SILENT_S
from cosessiond.process.neighbour import refuse_neighbour
from cosessiond.server.conversation import Conversation
from cosessiond.server.core import Core
from cosessiond.server.shortage import Shortage
from cosessiond.server.table import Operation
from cosessiond.sessions.identity import Peer, peer_of

BACKLOG: Final = 512
ACCEPTS_PER_WAKE: Final = 64
#: How long accepting rests when the system has no memory or descriptor for it, unless a connection ends before.
REST_S: Final = 0.5
#: How long a connection over the cap waits for another one's end to be noticed.
GRACE_S: Final = 0.02
_BUFFER_BYTES: Final = 64 * 1024


def bind(path: Path) -> socket.socket:
    """A listening socket at `path`, 0600 from its first moment (by umask). The caller holds the lock.

    A stale socket of ours is removed. Raises ConfigError when something else is there.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # not inherited, as Python makes every descriptor
    sock.setblocking(False)
    before = os.umask(0o177)
    try:
        sock.bind(os.fspath(path))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {path} ({len(os.fsencode(path))} bytes): {error}") from error
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(f"cannot listen on {path}: something else is there; move it away")
    refuse_neighbour(path)
    path.unlink()


class Connection(asyncio.BufferedProtocol):
    """One accepted socket; the transport of its conversation."""

    def __init__(self, listener: Listener, peer: Peer) -> None:
        self._listener = listener
        self._peer = peer
        self._view = listener.buffer
        self.made = False
        self._transport: asyncio.Transport | None = None
        self._conversation: Conversation | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.made = True
        self._listener.opening -= 1
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=HIGH_WATER_BYTES // 4)
        self._conversation = Conversation(self._listener.core, self._listener.table, self, self._peer)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """See asyncio."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        if self._conversation is not None:
            self._conversation.received(self._view[:nbytes])

    def eof_received(self) -> bool:
        """See asyncio. The conversation closes when everything is answered."""
        if self._conversation is not None:
            self._conversation.received_eof()
        return True

    def resume_writing(self) -> None:
        """See asyncio. Not at once: asyncio calls this in the middle of its own writing, and a write from here that
        fails makes it end the connection twice.
        """
        self._listener.loop.call_soon(self._drained)

    def _drained(self) -> None:
        if self._conversation is not None:
            self._conversation.drained()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """See asyncio."""
        if self._conversation is not None:
            self._conversation.closed()
            self._conversation = None
            self._listener.freed()

    # -- the transport of the conversation -------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """See `conversation.Transport`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def unsent(self) -> int:
        """See `conversation.Transport`."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def pause(self, *, paused: bool) -> None:
        """See `conversation.Transport`."""
        if self._transport is None or self._transport.is_closing():
            return
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        """See `conversation.Transport`."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """See `conversation.Transport`."""
        if self._transport is not None:
            self._transport.abort()

    def hung_up(self) -> bool:
        """See `conversation.Transport`."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is None or sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), 0)  # errors and hang-ups are always told
        return bool(poll.poll(0))


class Listener:
    """Accepts on one socket until closed."""

    def __init__(
        self, core: Core, table: Mapping[str, Operation], sock: socket.socket, loop: asyncio.AbstractEventLoop, log: Any
    ) -> None:
        self.core = core
        self.table = table
        self._sock = sock
        self.loop = loop
        self._pending: set[asyncio.Task[Any]] = set()
        self.opening = 0  # accepted, and no conversation yet
        self._shortage = Shortage(core.clock, log)
        self._resting: asyncio.TimerHandle | None = None
        self._deferred = 0
        #: One for all connections: what is read into it is taken out before the loop reads again.
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        loop.add_reader(sock.fileno(), self._accept)

    @property
    def is_open(self) -> bool:
        """Whether whoever connects will be taken, now or after a rest."""
        return self._sock.fileno() >= 0

    def close(self) -> None:
        """Accept no more."""
        if self._sock.fileno() >= 0:
            self.loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._shortage.close()

    def freed(self) -> None:
        """A connection has ended: there may be a descriptor again, once the loop has closed it."""
        if self._resting is not None:
            self.loop.call_soon(self._resume)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                sock = self._accept_one()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # ENOBUFS, ENOMEM, or no descriptor even so
                self._rest(error)
                return
            if sock is None:
                continue
            self._shortage.ends()
            if self._is_full() and self._deferred < ACCEPTS_PER_WAKE:
                # Who has just closed a connection finds room: the loop may not have come to that end yet.
                self._deferred += 1
                self.loop.call_later(GRACE_S, self._try_again, sock)
            else:
                self._take_or_refuse(sock)

    def _accept_one(self) -> socket.socket | None:
        """The next connection, None for one that was refused for want of descriptors. Raises what accept raises."""
        try:
            return self._sock.accept()[0]
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._shortage.refuse(self._sock, _refuse)
        self.core.metrics.hit("descriptors")
        return None

    def _is_full(self) -> bool:
        used = len(self.core.conversations) + self.opening
        self.core.metrics.level("connections", used, self.core.limits.connections_max)
        return used >= self.core.limits.connections_max

    def _try_again(self, sock: socket.socket) -> None:
        self._deferred -= 1
        self._take_or_refuse(sock)

    def _take_or_refuse(self, sock: socket.socket) -> None:
        try:
            self._take(sock)
        except CosessionError as error:
            self.core.metrics.hit("connections" if isinstance(error, Overloaded) else "peer")
            _refuse(sock, error)

    def _take(self, sock: socket.socket) -> None:
        core = self.core
        if self._is_full() and not self._evict():
            raise Overloaded(f"cannot connect: {core.limits.connections_max} connections are open; close some")
        peer = peer_of(sock)
        if peer.uid != os.geteuid():
            core.journal.turned_away(peer.uid, peer.pid)
            raise NotAllowed(f"cannot connect: this daemon serves uid {os.geteuid()} only")
        sock.setblocking(False)
        core.metrics.count("connections")
        connection = Connection(self, peer)
        self.opening += 1
        task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: connection, sock))
        self._pending.add(task)
        task.add_done_callback(lambda done: self._opened(done, connection, sock))

    def _opened(self, task: asyncio.Task[Any], connection: Connection, sock: socket.socket) -> None:
        """The loop has the connection, or could not take it (epoll has limits of its own): that costs this one only."""
        self._pending.discard(task)
        if not connection.made:
            self.opening -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self.core.metrics.hit("connections_failed")
            self._shortage.begins(f"a connection could not be served: {error}")
            sock.close()

    def _evict(self) -> bool:
        """Make room by closing a connection that has never said anything."""
        before = self.core.clock.monotonic() - SILENT_S
        silent = [c for c in self.core.conversations if c.calls == 0 and c.opened_s < before and not c.leaving]
        if not silent:
            return False
        oldest = min(silent, key=lambda c: c.opened_s)
        oldest.refuse(Overloaded("cannot keep a silent connection: the cap is reached; connect again to speak"))
        return True

    def _rest(self, error: OSError) -> None:
        self._shortage.begins(str(error))
        self.core.metrics.hit("descriptors")
        self.loop.remove_reader(self._sock.fileno())
        self._resting = self.loop.call_later(REST_S, self._resume)

    def _resume(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._sock.fileno() >= 0:
            self.loop.add_reader(self._sock.fileno(), self._accept)


def _refuse(sock: socket.socket, error: CosessionError) -> None:
    """A last word in JSON, which both people and libraries can read, as far as it can be sent at once."""
    from cosession.wire import JsonCodec, body_of  # the rare path

    try:
        sock.setblocking(False)
        sock.send(JsonCodec().encode_error(None, body_of(error, 0)))
    except OSError:
        pass
    finally:
        sock.close()
