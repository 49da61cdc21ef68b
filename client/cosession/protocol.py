"""One connection without I/O, both roles: bytes in, events out; answers in, bytes out.

`ServerConnection` is the daemon's end, `ClientConnection` the client's. Neither knows sockets, loops or threads: the
shell around it moves bytes and may be asyncio, blocking, or a simulation.

Rule: whatever the peer sends, these raise nothing; what is wrong comes out as an answer or as `closing`.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import DecodeError, Struct, json, msgpack

from cosession.callids import CallId
from cosession.errors import CosessionError, Overloaded, TooLarge, error_from
from cosession.hookwire import FIRST_BYTE, HookCodec
from cosession.messages import Request
from cosession.messages.base import R
from cosession.messages.limits import RANGE_BYTES_JSON_MAX, RANGE_BYTES_MAX, SENT_FRAME_BYTES_MAX, Limits
from cosession.wire import (
    ERROR,
    EVENT,
    GOODBYE,
    REPLY,
    Answer,
    BadFrame,
    Call,
    Codec,
    ErrorBody,
    FramingLost,
    MsgpackCodec,
    body_of,
    codec_for,
)


class ServerConnection:
    """The daemon's end of one connection.

    Feed it with `receive_data` and take calls with `next_call` until that returns None; queue answers with `reply`,
    `fail`, `fail_frame`, `event`; send what `data_to_send` returns. When `closing` is set, send that and close.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in = bytearray()
        self._out: list[bytes] = []
        self.codec: Codec | None = None
        self.closing = False
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.queued_bytes = 0
        #: Hears of every frame while it is set: the frame, and whether it is one of ours.
        self.observer: Callable[[bytes, bool], None] | None = None

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they came."""
        self._in += data

    def receive_eof(self) -> None:
        """The peer will send no more. A JSON line without its newline still counts."""
        if self._in and self.codec is not None and self.codec.name == "json" and not self._in.endswith(b"\n"):
            self._in += b"\n"

    @property
    def has_partial_frame(self) -> bool:
        """Bytes are waiting that are no whole frame yet (valid after `next_call` returned None)."""
        return bool(self._in)

    @property
    def unread_bytes(self) -> int:
        """What has come and is in no call yet."""
        return len(self._in)

    @property
    def page_bytes_max(self) -> int:
        """The MessagePack that a page may hold, so that its frame stays inside what the peer takes."""
        return RANGE_BYTES_JSON_MAX if self.codec is not None and self.codec.name == "json" else RANGE_BYTES_MAX

    def next_call(self, revision: int) -> Call | BadFrame | None:
        """The next call, or what stands in its place, to be answered with `fail_frame`; None when more bytes are
        needed or framing was lost, which `closing` tells apart.
        """
        if self.closing or not self._in:
            return None
        if self.codec is None:
            self.codec = HookCodec() if self._in[0] == FIRST_BYTE else codec_for(self._in[0])
        try:
            frame = self.codec.split(self._in, self._limits.frame_bytes_max)
            if frame is None:
                return None
            if self.observer is not None:
                self.observer(frame, False)
            call = self.codec.decode_call(frame)
        except BadFrame as bad:
            return bad
        except FramingLost as lost:
            self.close_with(lost.error, revision)
            return None
        self.in_flight += 1
        self.in_flight_bytes += len(call.params)
        return call

    def fail_frame(self, bad: BadFrame, revision: int) -> None:
        """Answer a frame that is no call."""
        assert self.codec is not None, "a frame has been read"
        if bad.answered:
            self._queue(self.codec.encode_error(bad.id, body_of(bad.error, revision)))

    def reply(self, call: Call, reply: Struct) -> None:
        """Answer a call. An answer over the frame limit becomes the error too_large."""
        self._settled(call)
        if not call.answered or self.codec is None:
            return
        frame = self.codec.encode_reply(call.id, reply)
        # Pages end before that (`page_bytes_max`); this bounds what no handler has thought of.
        if len(frame) > SENT_FRAME_BYTES_MAX:
            error = TooLarge("cannot send the answer: it is over the frame limit; ask for fewer entries")
            frame = self.codec.encode_error(call.id, body_of(error, getattr(reply, "revision", 0)))
        self._queue(frame)

    def fail(self, call: Call, error: CosessionError, revision: int) -> None:
        """Answer a call with an error."""
        self._settled(call)
        if call.answered and self.codec is not None:
            self._queue(self.codec.encode_error(call.id, body_of(error, revision)))

    def event(self, watch: int, body: bytes) -> bool:
        """Queue one event of a watch; False when its frame would be over what a peer has to take."""
        assert self.codec is not None, "a watch exists only after a call"
        frame = self.codec.encode_event(watch, body)
        if len(frame) > SENT_FRAME_BYTES_MAX:
            return False
        self._queue(frame)
        return True

    def goodbye(self, error: CosessionError, revision: int) -> None:
        """Queue the word that the daemon is leaving."""
        if self.codec is not None:
            self._queue(self.codec.encode_goodbye(body_of(error, revision)))

    def close_with(self, error: CosessionError, revision: int, id: CallId = None) -> None:
        """Queue a last error (in JSON when the peer has said nothing yet) and stop reading."""
        codec = self.codec or codec_for(0x7B)
        self._queue(codec.encode_error(id, body_of(error, revision)))
        self.closing = True
        self._in.clear()

    def data_to_send(self) -> bytes:
        """Everything queued since the last time, as one piece."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self.queued_bytes = 0
        return data

    def _queue(self, frame: bytes) -> None:
        if self.observer is not None:
            self.observer(frame, True)
        self._out.append(frame)
        self.queued_bytes += len(frame)

    def _settled(self, call: Call) -> None:
        self.in_flight -= 1
        self.in_flight_bytes -= len(call.params)


class Replied(Struct, frozen=True, gc=False):
    """The reply to call `id`; `body` is MessagePack of the reply struct."""

    id: int
    body: bytes


class Failed(Struct, frozen=True):
    """The typed error that answers call `id` (0: a frame the daemon could not read)."""

    id: int
    error: CosessionError
    revision: int


class Event(Struct, frozen=True, gc=False):
    """An event of watch `watch`; `body` is MessagePack of a WatchEvent."""

    watch: int
    body: bytes


class Leaving(Struct, frozen=True):
    """The daemon is going; answers in flight have been sent before this."""

    error: CosessionError


class Lost(Struct, frozen=True):
    """The connection cannot be read any more."""

    error: CosessionError


ClientEvent = Replied | Failed | Event | Leaving | Lost


class ClientConnection:
    """The client's end of one connection, in MessagePack."""

    def __init__(self, limits: Limits, *, in_flight_max: int | None = None) -> None:
        self._limits = limits
        self._in = bytearray()
        self._codec = MsgpackCodec()
        self._next_id = 1
        self._in_flight_max = in_flight_max or limits.in_flight_max
        self.in_flight: set[int] = set()
        self.closing = False

    def call(self, request: Request[R]) -> tuple[int, bytes]:
        """The id and the bytes of a call. Raises Overloaded over the in-flight limit, TooLarge over the frame's."""
        if len(self.in_flight) >= self._in_flight_max:
            raise Overloaded(
                f"cannot call {request.method}: {self._in_flight_max} calls are in flight; await some first"
            )
        id = self._next_id
        data = self._codec.encode_call(id, request.method, request)
        if len(data) - 4 > self._limits.frame_bytes_max:
            raise TooLarge(
                f"cannot call {request.method}: {len(data) - 4} bytes, a frame holds {self._limits.frame_bytes_max}",
                data={"size": len(data) - 4, "limit": self._limits.frame_bytes_max},
            )
        self._next_id += 1
        self.in_flight.add(id)
        return id, data

    def abandon(self, id: int) -> None:
        """Nobody waits for call `id` any more; its late answer is dropped."""
        self.in_flight.discard(id)

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[ClientEvent]:
        """The events in these bytes and what came before."""
        self._in += data
        events: list[ClientEvent] = []
        while not self.closing:
            try:
                frame = self._codec.split(self._in, SENT_FRAME_BYTES_MAX)
                if frame is None:
                    break
                event = self._event(self._codec.decode_answer(frame))
            except FramingLost as lost:
                event = Lost(spoken_refusal(self._in) or lost.error)
                self.closing = True
            if event is not None:
                events.append(event)
        return events

    def _event(self, answer: Answer) -> ClientEvent | None:
        if answer.kind == EVENT:
            return Event(answer.id, answer.body)
        if answer.kind == REPLY:
            if answer.id not in self.in_flight:
                return None  # abandoned
            self.in_flight.discard(answer.id)
            return Replied(answer.id, answer.body)
        if answer.kind not in (ERROR, GOODBYE):
            return None  # of a newer protocol; the handshake allows daemons to add kinds
        try:
            body = msgpack.decode(answer.body, type=ErrorBody)
        except DecodeError:
            raise FramingLost(CosessionError("cannot read the daemon's error; reconnect", code="parse_error")) from None
        error = error_from(body.code, body.message, body.data)
        if answer.kind == GOODBYE:
            return Leaving(error)
        if answer.id == 0:
            self.closing = True
            return Lost(error)
        if answer.id not in self.in_flight:
            return None
        self.in_flight.discard(answer.id)
        return Failed(answer.id, error, body.revision)


def spoken_refusal(data: bytes | bytearray) -> CosessionError | None:
    """The error that a daemon sends in JSON to a peer it refuses before a word was said (the cap is reached)."""
    if not data.startswith(b"{"):
        return None
    try:
        error = json.decode(data.split(b"\n", 1)[0])["error"]
        return error_from(str(error["data"]["code"]), str(error["message"]), dict(error["data"]))
    except (DecodeError, LookupError, TypeError, ValueError):
        return None
