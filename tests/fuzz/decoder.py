"""What the decoder must keep, whatever bytes come: the target of the coverage-guided fuzz.

Everything that bytes of a peer reach before a handler does: framing, both codecs, call ids, parameters, values. It may
refuse with an error of the catalogue, nothing else; it says the same however the bytes are cut into pieces; and a value
that is admitted is read the same by an independent reader, and admitted again as the same bytes.

Rule: no socket, no store: bytes in, answers out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from msgspec import Raw, msgpack, structs

from cosession import callids, protocol, values, wire
from cosession.errors import CosessionError
from cosession.messages import REQUESTS
from cosession.messages.limits import LIMITS
from cosession.protocol import ServerConnection
from cosession.wire import BadFrame, Call
from fuzz import corpus
from fuzz.mutate import Mutator
from rawclient import Json, Pack, take_answer, unpack

FILES: Final = tuple(str(each.__file__) for each in (callids, protocol, values, wire))
FRAME_BYTES_MAX: Final = 4096
_LIMITS: Final = structs.replace(LIMITS, frame_bytes_max=FRAME_BYTES_MAX)


def target(data: bytes) -> None:
    """Raises AssertionError, or whatever the decoder raised and should not have."""
    calls, answers, closing = outcome([data])
    third = len(data) // 3
    for pieces in ([data[:third], data[third:]], [data[:1], data[1:third], data[max(1, third) :]]):
        assert outcome(pieces) == (calls, answers, closing), "in pieces it is another conversation"
    for call in calls:
        _look_into(call)


def outcome(pieces: Sequence[bytes]) -> tuple[list[Call], list[Any], bool]:
    """What a connection makes of these bytes: calls, answers to what are none, whether it is over."""
    connection = ServerConnection(_LIMITS)
    calls: list[Call] = []
    for piece in pieces:
        connection.receive_data(piece)
        _read(connection, calls)
    connection.receive_eof()
    _read(connection, calls)
    sent = bytearray(connection.data_to_send())
    answers = []
    while (answer := take_answer(sent)) is not None:
        answers.append(answer)
    if sent.startswith(b"cs"):  # what a hook is told, which has a frame of its own and ends the connection
        answers.append(bytes(sent))
        sent.clear()
    assert not sent, "half an answer"
    return calls, answers, connection.closing


def _read(connection: ServerConnection, calls: list[Call]) -> None:
    while (call := connection.next_call(0)) is not None:
        if isinstance(call, BadFrame):
            connection.fail_frame(call, 0)
        else:
            calls.append(call)


def _look_into(call: Call) -> None:
    request = REQUESTS.get(call.method)
    if request is None:
        return
    try:
        params = wire.decode_params(_decoder(request), call.params)
    except CosessionError:
        return
    for name in ("value", "patch", "values"):
        raw = getattr(params, name, None)
        if isinstance(raw, Raw):
            _admit(bytes(raw))


def _admit(raw: bytes) -> None:
    try:
        admitted = values.admit(raw, bytes_max=LIMITS.value_bytes_max)
    except CosessionError:
        return
    assert values.admit(admitted, bytes_max=LIMITS.value_bytes_max) == admitted, "admitted again it is another"
    read = unpack(admitted)
    assert repr(read) == repr(unpack(raw)), "what is admitted is another value than what was sent"
    assert repr(read) == repr(msgpack.decode(admitted)), "an independent reader reads another value"
    again = values.from_json(json.dumps(read).encode())
    assert repr(again) == repr(read), "as JSON it is another value"


@cache
def _decoder(request: type[Any]) -> msgpack.Decoder[Any]:
    return msgpack.Decoder(request)


def beginnings() -> list[bytes]:
    """The corpus to begin with."""
    found = [data for each in corpus.conversations().values() for data in each]
    for number, (method, params) in enumerate(corpus.trees()):
        found += [Json.encode(number, method, params), Pack.encode(number, method, params)]
    return [data[:FRAME_BYTES_MAX] for data in found]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """The bytes damaged, or a new damaged frame put behind them or in their place."""
    mutator = _mutator(rng)
    kind = rng.random()
    if kind < 0.7:
        return mutator.damaged(data)
    frame = mutator.frame("json" if data[:1] == b"{" else "msgpack")
    return frame if kind < 0.85 else data[: rng.randrange(len(data) + 1)] + frame


@cache
def _mutator(rng: random.Random) -> Mutator:
    found = Mutator(0, corpus.trees(), corpus.conversations())
    found._random = rng  # one source of numbers for all of it
    return found
