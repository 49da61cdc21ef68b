"""The two encodings of the socket, without any I/O: bytes to frames, frames to calls and answers, and back.

The first byte of a connection chooses for its whole life: `{` is JSON-RPC 2.0, one object per line; anything else is
a 4-byte big-endian length and a MessagePack array. JSON parameters are transcoded to MessagePack at this door, so
that everything behind it knows one encoding only.

Rule: a frame that can be told from its neighbours never closes the connection, whatever is inside (`BadFrame`);
only lost framing does (`FramingLost`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Protocol

from msgspec import DecodeError, Raw, Struct, ValidationError, msgpack, structs
from msgspec import json as fast_json

from cosession.callids import ID_MAX, UNREADABLE_ID, CallId, id_of_array, id_of_line, is_id
from cosession.errors import CosessionError, InvalidRequest, TooLarge
from cosession.messages import REQUESTS, Request
from cosession.messages.limits import BATCH_WRITES_MAX, METHOD_BYTES_MAX
from cosession.messages.store import Txn
from cosession.values import from_json

CALL: Final = 0
REPLY: Final = 1
ERROR: Final = 2
EVENT: Final = 3
GOODBYE: Final = 4

_encode = msgpack.Encoder().encode
_decode_any = msgpack.Decoder().decode
_decode_call = msgpack.Decoder(tuple[int, int, str, Raw]).decode
_decode_names = msgpack.Decoder(dict[str, Raw]).decode
_decode_items = msgpack.Decoder(list[Raw]).decode
_BLANK: Final = re.compile(rb"\s+")
_LISTS_OF_MAPS: Final = frozenset({"compares", "then", "else"})
#: What stands in the lists of a transaction.
TXN_SHAPES: Final = (
    'a compare is {"kind": "entry", "key", "field", "value"} or {"kind": "range", "prefix", "max_mod_revision"}, '
    'a write is {"op": "put", "key", "value"}, {"op": "merge", "key", "patch"}, '
    '{"op": "add", "key", "number"}, {"op": "append", "key", "values"} or {"op": "delete", "key"}'
)
_MAP16: Final = 0xDE
_decode_answer = msgpack.Decoder(tuple[int, int, Raw]).decode


class Call(Struct, frozen=True, gc=False):
    """One call as received: `params` is a MessagePack map. `answered` is False for a JSON notification."""

    id: CallId
    method: str
    params: bytes
    answered: bool = True


class Answer(Struct, frozen=True, gc=False):
    """One frame from the daemon: `kind` REPLY, ERROR, EVENT or GOODBYE; `id` of the call or the watch."""

    kind: int
    id: int
    body: bytes


class BadFrame(Exception):
    """A whole frame that is no call; carries the error to answer and the id if it could be read."""

    def __init__(self, id: CallId, error: CosessionError, *, answered: bool = True) -> None:
        super().__init__(error.message)
        self.id = id
        self.error = error
        self.answered = answered


class FramingLost(Exception):
    """Frames can no longer be told apart; carries the last error to send before closing."""

    def __init__(self, error: CosessionError) -> None:
        super().__init__(error.message)
        self.error = error


class ErrorBody(Struct, frozen=True, kw_only=True):
    """An error on the wire; in JSON-RPC `code`, `retryable`, `revision` and the rest stand inside `data`."""

    code: str
    message: str
    retryable: bool
    revision: int
    data: dict[str, Any] = {}


class Codec(Protocol):
    """One encoding."""

    name: str

    def split(self, buffer: bytearray, frame_bytes_max: int) -> bytes | None:
        """Remove and return the first whole frame, None when more bytes are needed; raises FramingLost."""
        ...

    def decode_call(self, frame: bytes) -> Call:
        """Raises BadFrame."""
        ...

    def encode_reply(self, id: CallId, reply: Struct) -> bytes:
        """A framed reply."""
        ...

    def encode_error(self, id: CallId, body: ErrorBody) -> bytes:
        """A framed error."""
        ...

    def encode_event(self, watch: int, body: bytes) -> bytes:
        """A framed event of a watch; `body` is an encoded WatchEvent, shared by all watchers of the change."""
        ...

    def encode_goodbye(self, body: ErrorBody) -> bytes:
        """A framed word that the daemon is leaving."""
        ...


class MsgpackCodec:
    """MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), each array behind its length in 4 bytes:
    [0, id, method, params], [1, id, reply], [2, id, error], [3, watch, event], [4, 0, error].
    """

    name = "msgpack"

    def split(self, buffer: bytearray, frame_bytes_max: int) -> bytes | None:
        """See `Codec.split`. A length of 0 is no frame."""
        if len(buffer) < 4:
            return None
        length = int.from_bytes(buffer[:4])
        if length == 0:
            raise FramingLost(
                _invalid("a frame of 0 bytes holds none; send the length, then [0, id, method, params], and reconnect")
            )
        if length > frame_bytes_max:
            raise FramingLost(
                TooLarge(
                    f"cannot read a frame of {length} bytes: the limit is {frame_bytes_max}; check the length prefix",
                    data={"size": length, "limit": frame_bytes_max},
                )
            )
        if len(buffer) < 4 + length:
            return None
        frame = bytes(buffer[4 : 4 + length])
        del buffer[: 4 + length]
        return frame

    def decode_call(self, frame: bytes) -> Call:
        """See `Codec.decode_call`."""
        try:
            kind, id, method, params = _decode_call(frame)
        except (DecodeError, RecursionError, UnicodeError, OverflowError) as error:
            raise BadFrame(
                id_of_array(frame),
                InvalidRequest(
                    f"cannot read the call: {str(error)[:200]}; send [0, id, method, params]", code="invalid_request"
                ),
            ) from None
        if kind != CALL or not 0 < id <= ID_MAX:
            raise BadFrame(
                id if 0 < id <= ID_MAX else UNREADABLE_ID,
                InvalidRequest(
                    "cannot read the call: a call is [0, id, method, params] with an id from 1 to 2**63-1",
                    code="invalid_request",
                ),
            )
        if len(method) > METHOD_BYTES_MAX:
            raise BadFrame(id, unknown_method(method))
        return Call(id, method, bytes(params))

    def encode_call(self, id: int, method: str, params: Struct) -> bytes:
        """A framed call, for the client's side."""
        return _framed(_encode((CALL, id, method, params)))

    def decode_answer(self, frame: bytes) -> Answer:
        """One frame from the daemon, for the client's side; raises FramingLost on anything else."""
        try:
            kind, id, body = _decode_answer(frame)
        except (DecodeError, RecursionError, UnicodeError) as error:
            raise FramingLost(
                CosessionError(f"cannot read the daemon's answer: {str(error)[:200]}; reconnect", code="parse_error")
            ) from None
        return Answer(kind, id, bytes(body))

    def encode_reply(self, id: CallId, reply: Struct) -> bytes:
        """See `Codec`."""
        return _framed(_encode((REPLY, id, reply)))

    def encode_error(self, id: CallId, body: ErrorBody) -> bytes:
        """See `Codec`."""
        return _framed(_encode((ERROR, id if isinstance(id, int) else UNREADABLE_ID, body)))

    def encode_event(self, watch: int, body: bytes) -> bytes:
        """See `Codec`."""
        return _framed(_encode((EVENT, watch, Raw(body))))

    def encode_goodbye(self, body: ErrorBody) -> bytes:
        """See `Codec`."""
        return _framed(_encode((GOODBYE, 0, body)))


class JsonCodec:
    """JSON-RPC 2.0 (https://www.jsonrpc.org/specification), one object per line, no batches."""

    name = "json"

    def split(self, buffer: bytearray, frame_bytes_max: int) -> bytes | None:
        """See `Codec.split`. Blank lines are passed over."""
        while True:
            if blank := _BLANK.match(buffer):  # all at once: a flood of blank lines costs no more than its bytes
                del buffer[: blank.end()]
            end = buffer.find(b"\n", 0, frame_bytes_max + 1)
            if end < 0:
                if len(buffer) > frame_bytes_max:
                    raise FramingLost(
                        TooLarge(
                            f"cannot read a line of over {frame_bytes_max} bytes; end each object with a newline",
                            data={"size": len(buffer), "limit": frame_bytes_max},
                        )
                    )
                return None
            line = bytes(buffer[:end]).strip()
            del buffer[: end + 1]
            if line:
                return line

    def decode_call(self, frame: bytes) -> Call:
        """See `Codec.decode_call`."""
        try:
            body = from_json(frame)
        except (InvalidRequest, TooLarge) as error:
            raise BadFrame(id_of_line(frame) if error.code != "parse_error" else None, error) from None
        if not isinstance(body, dict):
            raise BadFrame(None, _invalid("a line holds one JSON object; batches are not served"))
        id = body.get("id")
        if not is_id(id):
            raise BadFrame(None, _invalid("id must be a string of at most 64 bytes, a 64-bit integer or null"))
        if body.get("jsonrpc") != "2.0":
            raise BadFrame(id, _invalid('"jsonrpc" must be "2.0"'))
        method = body.get("method")
        if not isinstance(method, str):
            raise BadFrame(id, _invalid('"method" must be a string'))
        if len(method) > METHOD_BYTES_MAX:
            raise BadFrame(id, unknown_method(method))
        answered = "id" in body
        params = body.get("params", {})
        if not isinstance(params, dict):
            why = 'cannot read the call: "params" must be an object; name each parameter'
            raise BadFrame(id, InvalidRequest(why), answered=answered)
        try:
            return Call(id, method, _encode(params), answered)
        except (UnicodeError, RecursionError) as error:
            raise BadFrame(
                id, InvalidRequest(f"cannot read the call: {str(error)[:200]}; strings are valid UTF-8")
            ) from None

    def encode_reply(self, id: CallId, reply: Struct) -> bytes:
        """See `Codec`."""
        return _line({"jsonrpc": "2.0", "id": id, "result": _decode_any(_encode(reply))})

    def encode_error(self, id: CallId, body: ErrorBody) -> bytes:
        """See `Codec`."""
        data = {"code": body.code, "retryable": body.retryable, "revision": body.revision}
        for name, value in _decode_any(_encode(body.data)).items():
            data.setdefault(name, value)
        number = CosessionError(body.message, code=body.code).number
        return _line({"jsonrpc": "2.0", "id": id, "error": {"code": number, "message": body.message, "data": data}})

    def encode_event(self, watch: int, body: bytes) -> bytes:
        """See `Codec`."""
        head = b'{"jsonrpc":"2.0","method":"watch.event","params":{"watch":%d,' % watch
        return b"".join((head, _members(body), b"}}\n"))

    def encode_goodbye(self, body: ErrorBody) -> bytes:
        """See `Codec`."""
        return _line({"jsonrpc": "2.0", "method": "goodbye", "params": _decode_any(_encode(body))})


def codec_for(first_byte: int) -> Codec:
    """The codec that the first byte of a connection chooses.

    Printable text that is no JSON object is answered in JSON, since a person has typed it.
    """
    return JsonCodec() if first_byte == 0x7B or 0x09 <= first_byte < 0x7F else MsgpackCodec()


def body_of(error: CosessionError, revision: int) -> ErrorBody:
    """An error as it travels."""
    return ErrorBody(
        code=error.code, message=error.message, retryable=error.retryable, revision=revision, data=error.data
    )


def decode_params(decoder: msgpack.Decoder[Any], params: bytes) -> Any:
    """The typed request of a call's parameters; raises InvalidRequest."""
    try:
        request = decoder.decode(params)
        _check_names(params)
        return request  # the checks belong together
    except ValidationError as error:
        why = str(error)[:300]
        known = TXN_SHAPES if decoder.type is Txn and "[" in why else _taken_by(decoder.type)
        raise InvalidRequest(f"cannot take the parameters: {why}; {known}") from None
    except (DecodeError, RecursionError, UnicodeError, OverflowError) as error:
        raise InvalidRequest(f"cannot read the parameters: {str(error)[:300]}; send a map of names") from None


def _taken_by(request: type[Request[Any]]) -> str:
    """Which parameters a request takes."""
    fields = structs.fields(request)
    needed = [each.encode_name for each in fields if each.required]
    others = [each.encode_name for each in fields if not each.required]
    taken = ", ".join(needed) + (" and optionally " if needed and others else "") + ", ".join(others)
    return f"{request.method} takes {taken or 'none'}"


def _check_names(params: bytes) -> None:
    """Raises InvalidRequest when a name stands twice: in the parameters, or in one of the lists of a transaction.

    The decoder would take the last one. Values are checked by their own admission.
    """
    named = _decode_names(params)
    lists = [_decode_items(named[name]) for name in _LISTS_OF_MAPS & named.keys()]
    maps = [item for items in lists if len(items) <= BATCH_WRITES_MAX for item in items]  # longer ones are refused
    if len(named) != _map_length(params) or any(len(_decode_names(m)) != _map_length(bytes(m)) for m in maps):
        raise InvalidRequest("cannot take the parameters: a name is given twice; give each once")


def _map_length(params: bytes) -> int:
    """The pairs that the header of a MessagePack map announces."""
    kind = params[0]
    return kind & 0x0F if kind < _MAP16 else int.from_bytes(params[1 : 3 if kind == _MAP16 else 5])


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body


def _line(body: dict[str, Any]) -> bytes:
    return fast_json.encode(body) + b"\n"


@lru_cache(maxsize=1)
def _members(body: bytes) -> bytes:
    """The members of an event in JSON, without braces. One change goes to many watches, one after the other."""
    return fast_json.encode(_decode_any(body))[1:-1]


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(f"cannot read the call: {why}", code="invalid_request")


def unknown_method(method: str) -> InvalidRequest:
    """The error for a method that does not exist."""
    return InvalidRequest(
        f"cannot call {method[:METHOD_BYTES_MAX]!r}: no such method; use one of: {', '.join(REQUESTS)}",
        code="unknown_method",
    )
