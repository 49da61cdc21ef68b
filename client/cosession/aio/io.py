"""All that is asynchronous about the asyncio client: the connection, waiting, locking, the background task.

`sync/io.py` is its twin with the same names; everything above them (`linking`, `client`, `verbs`, `series`, ...)
is written once, here in `aio`, and translated into `sync`.

Rule: only I/O. Cancelling any call at any moment leaves the connection usable by the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from time import monotonic as now
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from msgspec import MsgspecError, msgpack

from cosession.errors import CosessionError, TimedOut
from cosession.exchange.calls import LinkLost, decode_reply, encode_call
from cosession.messages import Request
from cosession.messages.base import R
from cosession.messages.limits import LIMITS, Limits
from cosession.messages.watches import WatchEvent
from cosession.protocol import ClientConnection, Event, Failed, Leaving, Lost, Replied

__all__ = ["Alarm", "Background", "Gate", "Link", "Startable", "beside", "drive", "launch", "now", "pause"]

BUFFER_BYTES: Final = 64 * 1024
#: Events a watch may have waiting here before reading stops and the rest waits in the daemon.
EVENTS_MAX: Final = 64
#: How long a closing connection may take; it has nothing left to say.
CLOSE_S: Final = 2.0

_decode_event = msgpack.Decoder(WatchEvent).decode
T = TypeVar("T")


class Link(asyncio.BufferedProtocol):
    """One connection, shared by any number of calls at once; a watch has one of its own.

    Once it is lost every call on it raises LinkLost, and `usable` is False for ever.
    """

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        """A link over a connected, non-blocking socket, which it owns from now on."""
        try:
            _, link = await asyncio.get_running_loop().create_unix_connection(cls, sock=sock)
        except BaseException:
            sock.close()
            raise
        return link

    def __init__(self) -> None:
        self.epoch = ""
        self.revision = 0
        self._loop = asyncio.get_running_loop()
        self._connection = ClientConnection(LIMITS)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._slots = asyncio.Semaphore(LIMITS.in_flight_max)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._unsent: list[bytes] = []
        self._events: deque[bytes] = deque()
        self._event_came = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()
        self._lost = ""
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        """Whether a call can be tried."""
        return not self._lost

    def adopt(self, limits: Limits) -> None:
        """Keep to the limits of the daemon; called between its answer to hello and the next call."""
        if limits != LIMITS:
            self._connection = ClientConnection(limits)
            self._slots = asyncio.Semaphore(limits.in_flight_max)

    async def call(self, request: Request[R], deadline: float, sent: Callable[[], None] | None = None) -> R:
        """One call; `sent` is called when all of it is out. Raises LinkLost, TimedOut or what the daemon answered."""
        try:
            await self._take_slot(deadline)
            try:
                body = await self._exchange(request, deadline, sent)
            finally:
                self._slots.release()
        except TimeoutError:
            raise TimedOut(f"cannot wait longer for the answer to {request.method}; give it more time") from None
        try:
            return decode_reply(request, body)
        except LinkLost as lost:
            self._lose(str(lost))
            raise

    async def next_event(self, deadline: float | None) -> WatchEvent:
        """The next event of the watch on this connection. Raises LinkLost or TimedOut."""
        while not self._events:
            if self._lost:
                raise LinkLost(self._lost)
            self._event_came.clear()
            try:
                async with asyncio.timeout(None if deadline is None else deadline - now()):
                    await self._event_came.wait()
            except TimeoutError:
                raise TimedOut("cannot wait longer for a change; nothing came in time") from None
        body = self._events.popleft()
        if len(self._events) < EVENTS_MAX // 2 and self._transport and not self._lost:
            self._transport.resume_reading()
        try:
            return _decode_event(body)
        except MsgspecError as error:
            self._lose(f"an event cannot be read: {str(error)[:200]}")
            raise LinkLost(self._lost) from None

    async def close(self) -> None:
        """Close the connection and wait until its descriptor is gone; harmless when done before."""
        self._lose("this program closed the connection")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._ended.wait()

    def drop(self) -> None:
        """Close the connection without waiting, for an owner that is collected."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
            self._loop.call_soon_threadsafe(self._lose, "nobody uses the connection any more")

    async def _take_slot(self, deadline: float) -> None:
        """Wait while too many calls are in flight or too much is unsent; mostly there is nothing to wait for."""
        if self._slots.locked() or not self._writable.is_set():
            async with asyncio.timeout(deadline - now()):
                await self._writable.wait()
                await self._slots.acquire()
        else:
            await self._slots.acquire()

    async def _exchange(self, request: Request[R], deadline: float, sent: Callable[[], None] | None) -> bytes:
        if self._lost or self._transport is None:
            raise LinkLost(self._lost or "it is not open")
        id, data = encode_call(self._connection, request)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[id] = answer
        # A bare timer: asyncio.timeout() costs as much as all the rest of a call.
        timer = self._loop.call_later(deadline - now(), _expire, answer)
        try:
            self._send(data)
            if sent:
                sent()
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(id, None)
            self._connection.abandon(id)

    def _send(self, data: bytes) -> None:
        """Send at once when this call is alone; what many calls send in one turn of the loop goes out as one write."""
        if len(self._waiting) == 1 and not self._unsent and self._transport:
            self._transport.write(data)
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport and not self._lost:
            self._transport.write(b"".join(unsent))

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkLost(self._lost))
        self._event_came.set()
        self._writable.set()
        if self._transport:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        assert isinstance(transport, asyncio.Transport), "a stream socket has a stream transport"
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._transport = None
        self._lose(f"the connection broke: {exc}" if exc else "the daemon closed the connection")
        self._ended.set()

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        for event in self._connection.receive_data(self._buffer[:nbytes]):
            if isinstance(event, (Replied, Failed)):
                answer = self._waiting.get(event.id)
                if answer is None or answer.done():
                    continue
                if isinstance(event, Replied):
                    answer.set_result(event.body)
                else:
                    answer.set_exception(event.error)
            elif isinstance(event, Event):
                self._events.append(event.body)
                self._event_came.set()
            elif isinstance(event, (Leaving, Lost)):
                self._lose(event.error.message)
        if len(self._events) >= EVENTS_MAX and self._transport and not self._lost:
            self._transport.pause_reading()


class Gate:
    """One at a time, for at most so long."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def held(self, deadline: float) -> AsyncIterator[None]:
        """Hold the gate. Raises TimedOut."""
        try:
            async with asyncio.timeout(deadline - now()):
                await self._lock.acquire()
        except TimeoutError:
            raise TimedOut("cannot wait longer for the connection; give it more time") from None
        try:
            yield
        finally:
            self._lock.release()


class Startable:
    """What is begun by `await` or `async with`, and ended by `close()`."""

    async def _start(self) -> None:
        """Begin; harmless when done before."""
        raise NotImplementedError

    async def close(self) -> None:
        """End; harmless when done before."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Self]:
        """Begin, unless that was done before; then it is for the caller to close."""
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        """Begin, unless that was done before."""
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; an error of that is raised only where the block itself raised none."""
        try:
            await self.close()
        except CosessionError:
            if error is None:
                raise  # else the error that ended the block is the one to hear of


class Alarm:
    """Waiting that can be cut short."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the wait, or the next one."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Return after `seconds` (None: never) or when rung."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()


class Background:
    """One task beside the calls."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it, unless it runs."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(run(), name=self._name)

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])


async def drive(steps: Generator[float, None, T]) -> T:
    """Carry out what yields the seconds to wait."""
    try:
        while True:
            await pause(next(steps))
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        steps.close()


async def beside(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns, which may wait for a disk or another program."""
    return await asyncio.to_thread(function, *arguments)


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def aside(work: Callable[[], T]) -> T:
    """Do what may block for a while beside the loop."""
    return await asyncio.to_thread(work)


def launch(thing: T) -> T:
    """Hand out something startable: here it starts when it is awaited, entered or iterated."""
    return thing


def _expire(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
