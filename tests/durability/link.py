"""The smallest client that can be trusted to judge: one blocking socket, MessagePack, nothing repeated or hidden.

The client library retries, reconnects and resumes, which is what a user wants and what an oracle must not have: here
every frame that is sent is sent by the caller, and a lost connection is the caller's to handle.

Rule: knows the socket only; every wait has an end.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from msgspec import msgpack

from cosession.messages import Reply, Request, reply_type
from cosession.messages.admin import Hello, HelloReply
from cosession.messages.base import R
from cosession.messages.limits import LIMITS
from cosession.protocol import ClientConnection, Event, Failed, Leaving, Lost, Replied

TIMEOUT_S: Final = 10.0
_READ_BYTES: Final = 256 * 1024

#: How a call ended: its reply, or its error and the revision at which that was decided.
Outcome = Reply | Failed


class LinkLost(Exception):
    """The connection ended, or said nothing for too long; what is in flight is unknown."""


class _Silence(LinkLost):
    """Nothing came within the time given."""


@cache
def _decoder(request: type[Request[Any]]) -> msgpack.Decoder[Any]:
    return msgpack.Decoder(reply_type(request))


class Link:
    """One connection. Not thread-safe. `with Link.open(path) as link: link.call(Ping())`."""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._protocol = ClientConnection(LIMITS)
        self._asked: dict[int, type[Request[Any]]] = {}
        self._answers: dict[int, Outcome] = {}
        self._events: deque[bytes] = deque()

    @classmethod
    def open(cls, path: Path, *, timeout_s: float = TIMEOUT_S) -> Self:
        """Connect once; raises OSError. `timeout_s` bounds every later wait too."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
        except OSError:
            sock.close()
            raise
        return cls(sock, timeout_s)

    def send(self, *requests: Request[Any]) -> list[int]:
        """Send calls as one piece, answer none; returns their ids. Raises LinkLost."""
        ids: list[int] = []
        data = bytearray()
        for request in requests:
            id, frame = self._protocol.call(request)
            self._asked[id] = type(request)
            ids.append(id)
            data += frame
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise LinkLost(str(error)) from None
        return ids

    def outcome(self, id: int) -> Outcome:
        """Wait for the answer to a sent call: its reply or its error. Raises LinkLost."""
        while id not in self._answers:
            self._receive()
        return self._answers.pop(id)

    def call(self, request: Request[R]) -> R:
        """Send one call and wait for its reply. Raises its error, or LinkLost."""
        (id,) = self.send(request)
        outcome = self.outcome(id)
        if isinstance(outcome, Failed):
            raise outcome.error
        return cast("R", outcome)  # `_decoder` saw to it

    def hello(self, *, epoch: str = "", seen_revision: int = 0) -> HelloReply:
        """Say what was last seen; the daemon refuses when it knows less."""
        return self.call(Hello(client="durability", epoch=epoch, seen_revision=seen_revision))

    def events(self, timeout_s: float) -> list[bytes]:
        """The events of this connection's watches, encoded, as far as they are here; waits at most `timeout_s` for the
        first one and returns [] when none came. Raises LinkLost.
        """
        if not self._events:
            self._sock.settimeout(timeout_s)
            try:
                self._receive()
            except _Silence:
                return []
            finally:
                self._sock.settimeout(self._timeout_s)
        found = list(self._events)
        self._events.clear()
        return found

    def close(self) -> None:
        """Close; harmless when done before."""
        self._sock.close()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError:
            raise _Silence("the daemon said nothing in time") from None
        except OSError as error:
            raise LinkLost(str(error)) from None
        if not data:
            raise LinkLost("the daemon closed the connection")
        for event in self._protocol.receive_data(data):
            if isinstance(event, Replied):
                self._answers[event.id] = _decoder(self._asked.pop(event.id)).decode(event.body)
            elif isinstance(event, Failed):
                self._asked.pop(event.id, None)
                self._answers[event.id] = event
            elif isinstance(event, Event):
                self._events.append(event.body)
            elif isinstance(event, Lost | Leaving):
                raise LinkLost(event.error.message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_when_ready(
    path: Path, *, within_s: float = 30.0, pause_s: float = 0.01, given_up: Callable[[], bool] = bool
) -> Link:
    """A link as soon as somebody takes the connection; raises LinkLost when nobody does within `within_s`, or before
    the caller has `given_up`.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            return Link.open(path)
        except OSError as error:
            if time.monotonic() > deadline or given_up():
                raise LinkLost(f"nobody answers within {within_s:g} s: {error}") from None
        time.sleep(pause_s)
