"""All that blocks in the blocking client: the connection, waiting, locking, the background thread.

The twin of `aio/io.py`, with the same names; what stands above both is written once, in `aio`, and translated here.

Rule: only I/O, and every wait has a deadline. An exchange that is interrupted (KeyboardInterrupt, a signal handler that
raises) may have left half a frame anywhere: it costs the connection, never the answer of the next call.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import get_ident
from time import monotonic as now
from types import TracebackType
from typing import Final, Self, TypeVar

from msgspec import MsgspecError, msgpack

from cosession.errors import CosessionError, InvalidRequest, TimedOut
from cosession.exchange.calls import LinkLost, decode_reply, encode_call
from cosession.messages import Request
from cosession.messages.base import R
from cosession.messages.limits import LIMITS, Limits
from cosession.messages.watches import WatchEvent
from cosession.protocol import ClientConnection, ClientEvent, Event, Failed, Leaving, Lost, Replied

__all__ = ["Alarm", "Background", "Gate", "Link", "Startable", "beside", "drive", "launch", "now", "pause"]

BUFFER_BYTES: Final = 64 * 1024
#: How long a first look waits inside recv(2) itself. Most answers come sooner, and one system call less is a tenth of a
#: round trip. Kept short because a signal handler that returns makes the look begin anew, whatever the deadline.
LOOK_S: Final = 0.004
#: How long closing waits for another thread to leave the connection.
CLOSE_S: Final = 2.0

_decode_event = msgpack.Decoder(WatchEvent).decode
T = TypeVar("T")


class _OwnedLock:
    """A lock with a deadline, which an interrupt cannot leave held, and which refuses a second call of the same thread.

    Who is inside a call is written down after the lock was got and wiped out before it is given back; between the two
    moments an interrupt may come, so that whether there is anything to give back is asked of the lock itself.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = 0

    def is_mine(self) -> bool:
        """Whether this thread holds it: then it is inside a call, and a signal handler or callback has called again."""
        return self._owner == get_ident()

    def take(self, deadline: float) -> None:
        """Wait for it. Raises TimedOut, InvalidRequest. Always followed by `leave`, also when this raised."""
        if not self._lock.acquire(timeout=max(0.0, deadline - now())):
            raise TimedOut("cannot call: another thread held the connection all the time; give it more time")
        self._owner = get_ident()

    def leave(self) -> None:
        """Give it back, if this thread has it: an interrupt may have come just before or just after `take` got it."""
        if self.is_mine():
            self._owner = 0
        try:
            self._lock.release()
        except RuntimeError:  # another thread has it, or none
            return


class Link:
    """One connection. Several threads may use it, one call at a time; a watch has one of its own.

    Once it is lost every call on it raises LinkLost, and `usable` is False for ever.
    """

    @classmethod
    def over(cls, sock: socket.socket) -> Self:
        """A link over a connected socket, which it owns from now on."""
        return cls(sock)

    def __init__(self, sock: socket.socket) -> None:
        self.epoch = ""
        self.revision = 0
        self._sock = sock
        self._connection = ClientConnection(LIMITS)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._events: deque[bytes] = deque()
        self._owned = _OwnedLock()
        self._lost = ""
        self._pid = os.getpid()
        self._look_flags = _look_briefly(sock)

    @property
    def usable(self) -> bool:
        """Whether a call can be tried."""
        return not self._lost

    def adopt(self, limits: Limits) -> None:
        """Keep to the limits of the daemon; called between its answer to hello and the next call."""
        if limits != LIMITS:
            self._connection = ClientConnection(limits)

    def call(self, request: Request[R], deadline: float, sent: Callable[[], None] | None = None) -> R:
        """One call; `sent` is called when all of it is out. Raises LinkLost, TimedOut or what the daemon answered."""
        if self._owned.is_mine():
            raise InvalidRequest(f"cannot call {request.method}: this thread is inside another call on this client")
        try:
            self._owned.take(deadline)
            body = self._exchange(request, deadline, sent)
            return decode_reply(request, body)
        except CosessionError:
            raise
        except LinkLost as lost:
            self._lose(str(lost))
            raise
        except BaseException:
            if self._owned.is_mine():
                self._lose("a call was interrupted")
            raise
        finally:
            self._owned.leave()

    def next_event(self, deadline: float | None) -> WatchEvent:
        """The next event of the watch on this connection. Raises LinkLost or TimedOut."""
        try:
            self._owned.take(now() + CLOSE_S)
            while not self._events:
                self._require()
                for event in self._receive(deadline, "a change"):
                    self._note(event)
            return _decode_event(self._events.popleft())
        except MsgspecError as error:
            self._lose(f"an event cannot be read: {str(error)[:200]}")
            raise LinkLost(self._lost) from None
        except (CosessionError, LinkLost):
            raise
        except BaseException:
            if self._owned.is_mine():
                self._lose("a call was interrupted")
            raise
        finally:
            self._owned.leave()

    def close(self) -> None:
        """Close the connection; a thread that waits on it gets LinkLost. Harmless when done before."""
        self._lose("this program closed the connection")
        if os.getpid() != self._pid:
            self._sock.close()  # a forked child: shutdown() would end the connection of the parent
            return
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        try:
            with contextlib.suppress(TimedOut):
                self._owned.take(now() + CLOSE_S)
            self._sock.close()
        finally:
            self._owned.leave()

    def drop(self) -> None:
        """Close the connection without waiting, for an owner that is collected."""
        self._lose("nobody uses the connection any more")
        self._sock.close()

    def _exchange(self, request: Request[R], deadline: float, sent: Callable[[], None] | None) -> bytes:
        self._require()
        id, data = encode_call(self._connection, request)
        try:
            self._send(data, deadline)
            if sent:
                sent()
            body = None
            while body is None:
                self._require()
                failed = None
                for event in self._receive(deadline, f"the answer to {request.method}"):
                    if isinstance(event, Replied):
                        body = event.body  # answers of calls that were given up are not reported
                    elif isinstance(event, Failed):
                        failed = event.error
                    else:
                        self._note(event)
                if failed:
                    raise failed
            return body
        finally:
            self._connection.abandon(id)

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                try:
                    self._wait(select.POLLOUT, deadline, "the daemon to read")
                except TimedOut:
                    if len(rest) < len(data):
                        self._lose("half a request was sent")
                    raise
            except OSError as error:
                raise LinkLost(f"the connection broke: {error}") from None

    def _receive(self, deadline: float | None, what: str) -> list[ClientEvent]:
        """At least one read, and the events that are complete with it; raises LinkLost, TimedOut."""
        flags = self._look_flags
        count = -1
        while count < 0:
            try:
                count = self._sock.recv_into(self._buffer, 0, flags)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline, what)
                flags = socket.MSG_DONTWAIT
            except OSError as error:
                raise LinkLost(self._lost or f"the connection broke: {error}") from None
        if not count:
            self._lose("the daemon closed the connection")
            raise LinkLost(self._lost)
        return self._connection.receive_data(self._buffer[:count])

    def _wait(self, events: int, deadline: float | None, what: str) -> None:
        left_ms = None if deadline is None else (deadline - now()) * 1000
        if left_ms is not None and left_ms <= 0:
            raise TimedOut(f"cannot wait longer for {what}; give it more time")
        poll = select.poll()
        poll.register(self._sock, events)
        poll.poll(left_ms)

    def _note(self, event: ClientEvent) -> None:
        if isinstance(event, Event):
            self._events.append(event.body)
        elif isinstance(event, (Leaving, Lost)):
            self._lose(event.error.message)

    def _require(self) -> None:
        if self._lost:
            raise LinkLost(self._lost)

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why


class Gate:
    """One at a time, for at most so long."""

    def __init__(self) -> None:
        self._owned = _OwnedLock()

    @contextlib.contextmanager
    def held(self, deadline: float) -> Iterator[None]:
        """Hold the gate. Raises TimedOut, InvalidRequest (this thread holds it already)."""
        if self._owned.is_mine():
            raise InvalidRequest("cannot call: this thread is inside another call on this client")
        try:
            self._owned.take(deadline)
            yield
        finally:
            self._owned.leave()


class Startable:
    """What is begun when it is made, and ended by `close()` or at the end of its `with` block."""

    def _start(self) -> None:
        """Begin; harmless when done before."""
        raise NotImplementedError

    def close(self) -> None:
        """End; harmless when done before."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Begin, unless that was done before."""
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; an error of that is raised only where the block itself raised none."""
        try:
            self.close()
        except CosessionError:
            if error is None:
                raise  # else the error that ended the block is the one to hear of


S = TypeVar("S", bound=Startable)


class Alarm:
    """Waiting that can be cut short."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        """End the wait, or the next one."""
        self._rung.set()

    def wait(self, seconds: float | None) -> None:
        """Return after `seconds` (None: never) or when rung."""
        self._rung.wait(seconds)
        self._rung.clear()


class Background:
    """One daemon thread beside the calls."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self, run: Callable[[], None]) -> None:
        """Run it, unless it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Wait until it has ended; who calls this has told it to."""
        thread, self._thread = self._thread, None
        if thread and thread is not threading.current_thread():
            thread.join(2 * CLOSE_S)


def drive(steps: Generator[float, None, T]) -> T:
    """Carry out what yields the seconds to wait."""
    try:
        while True:
            time.sleep(next(steps))
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()


def beside(function: Callable[..., T], *arguments: object) -> T:
    """What `function` returns, which may wait for a disk or another program."""
    return function(*arguments)


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def aside(work: Callable[[], T]) -> T:
    """Do what may block for a while; here everything may."""
    return work()


def launch(thing: S) -> S:
    """Hand out something startable, started."""
    thing._start()  # noqa: SLF001 - the other half of Startable
    return thing


def _look_briefly(sock: socket.socket) -> int:
    """Let recv(2) itself wait for LOOK_S; the flags for it (where the system refuses, it does not wait at all)."""
    sock.settimeout(None)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(LOOK_S * 1_000_000)))
    except OSError:
        return socket.MSG_DONTWAIT
    return 0
