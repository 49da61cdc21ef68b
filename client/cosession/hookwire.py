"""The third encoding of the socket: one event of a hook as raw bytes, one answer that needs no parser.

A frame is byte 1 and `cs1`, the sizes of client, event (1 byte each), facts (2), payload (4, big-endian), then these;
facts are `name=value` pairs with a NUL between. It becomes a call of `hook` like any other. The answer is `cs`, an exit
code, flags, the size of the output (4 bytes) and the output. `cosession/hook.py` is the other end and imports none of
this.

Rule: whatever the frame holds, the answer is one that a hook can act on: an error is a note, and the client goes on.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct, msgpack

from cosession.callids import CallId
from cosession.errors import InvalidRequest, TooLarge
from cosession.messages.hooks import Hook, HookReply
from cosession.messages.limits import HOOK_PAYLOAD_BYTES_MAX
from cosession.wire import BadFrame, Call, ErrorBody, FramingLost

FIRST_BYTE: Final = 0x01
PREFIX: Final = b"\x01cs1"
_HEAD_BYTES: Final = 12
MORE: Final = 1
NOTE: Final = 2
#: What a frame may say of the place; each becomes the field of that name.
_TEXTS: Final = ("project", "worktree", "branch")

_encode = msgpack.Encoder().encode


class HookCodec:
    """Calls of `hook` and nothing else; see `wire.Codec`."""

    name = "hook"

    def split(self, buffer: bytearray, frame_bytes_max: int) -> bytes | None:  # noqa: ARG002 - it has its own limit
        """See `Codec.split`."""
        if len(buffer) < _HEAD_BYTES:
            if not PREFIX.startswith(buffer[: len(PREFIX)]):
                raise FramingLost(InvalidRequest("cannot read the frame of a hook: update cosession on both sides"))
            return None
        if buffer[: len(PREFIX)] != PREFIX:
            raise FramingLost(InvalidRequest("cannot read the frame of a hook: update cosession on both sides"))
        payload_bytes = int.from_bytes(buffer[8:12])
        if payload_bytes > HOOK_PAYLOAD_BYTES_MAX:
            raise FramingLost(TooLarge(f"cannot take an event of {payload_bytes} bytes: the limit is 4 MiB"))
        size = _HEAD_BYTES + buffer[4] + buffer[5] + int.from_bytes(buffer[6:8]) + payload_bytes
        if len(buffer) < size:
            return None
        frame = bytes(buffer[:size])
        del buffer[:size]
        return frame

    def decode_call(self, frame: bytes) -> Call:
        """See `Codec.decode_call`."""
        sizes = (frame[4], frame[5], int.from_bytes(frame[6:8]), int.from_bytes(frame[8:12]))
        parts: list[bytes] = []
        start = _HEAD_BYTES
        for size in sizes:
            parts.append(frame[start : start + size])
            start += size
        client, event, facts, payload = parts
        try:
            told = _facts(facts)
            hook = Hook(client=client.decode(), event=event.decode(), payload=payload.decode(), **told)
            return Call(1, Hook.method, _encode(hook))
        except UnicodeDecodeError:
            raise BadFrame(1, InvalidRequest("cannot read the frame of a hook: its texts are not UTF-8")) from None

    def encode_reply(self, id: CallId, reply: Struct) -> bytes:  # noqa: ARG002 - there is one call
        """See `Codec`."""
        assert isinstance(reply, HookReply), "there is no other method"
        flags = (MORE if reply.more else 0) | (NOTE if reply.note else 0)
        return _answer(reply.exit_code, flags, reply.output)

    def encode_error(self, id: CallId, body: ErrorBody) -> bytes:  # noqa: ARG002
        """See `Codec`. The client goes on, and its user sees why nothing was checked."""
        return _answer(0, NOTE, f"not checked: {body.message}")

    def encode_event(self, watch: int, body: bytes) -> bytes:
        """See `Codec`. No hook watches."""
        raise AssertionError(f"watch {watch} of a hook: {len(body)} bytes")

    def encode_goodbye(self, body: ErrorBody) -> bytes:  # noqa: ARG002 - what is waited for is answered by itself
        """See `Codec`."""
        return b""


def said(frame: bytes) -> dict[str, Any]:
    """What an answer says, for whoever looks on: the fields of `HookReply`."""
    return {
        "exit_code": frame[2],
        "output": frame[8:].decode(),
        "more": bool(frame[3] & MORE),
        "note": bool(frame[3] & NOTE),
    }


def _facts(facts: bytes) -> dict[str, Any]:
    """The fields that the facts of a frame stand for; unknown names are of a newer hook, and left out."""
    named = dict(each.decode().partition("=")[::2] for each in facts.split(b"\0") if each)
    told: dict[str, Any] = {name: named[name] for name in _TEXTS if named.get(name)}
    if named.get("too_long"):
        told["too_long"] = True
    return {**told, "facts": True} if "project" in named else told


def _answer(exit_code: int, flags: int, output: str) -> bytes:
    data = output.encode()
    return b"".join((b"cs", bytes((exit_code, flags)), len(data).to_bytes(4), data))
