"""`cosession debug raw`: bytes or lines sent as they are, and what came back, each as bytes and as what it means.

Rule: nothing is added, checked or mended; that is what it is for. It ends when the daemon has answered all and hung up,
when nothing came for --wait seconds, or after the time there is in all.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

from msgspec import DecodeError, msgpack
from msgspec import json as fast_json

from cosession.callids import id_of_array
from cosession.cli import render
from cosession.cli.debug.peer import Heard, Peer
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.errors import InvalidRequest
from cosession.messages.limits import SENT_FRAME_BYTES_MAX
from cosession.wire import BadFrame, FramingLost, JsonCodec, MsgpackCodec, codec_for

if TYPE_CHECKING:
    from typing import Any

INPUT_BYTES_MAX: Final = 16 * 1024 * 1024
WAIT_S: Final = 2.0
#: Of a frame, so many bytes are shown; --json has all.
BYTES_SHOWN: Final = 96
_PER_LINE: Final = 24


def run(given: Given) -> int:
    """Send standard input, show what comes."""
    wait_s = given.number("--wait", WAIT_S, low=0.0, high=3_600.0)
    if given.flag("--hex") and given.flag("--msgpack"):
        raise usage_error(given.verb, "--hex and --msgpack exclude one another")
    sent = _input(given)
    peer = Peer(given)
    received: list[Heard] = []
    until_s = monotonic() + given.timeout_s()
    try:
        for data in sent:
            peer.send(data)
        peer.end()
        while (heard := peer.hear(min(wait_s, until_s - monotonic()))) is not None:
            received.append(heard)
    finally:
        peer.close()
    meant = [(data, *each) for data in [b"".join(sent)] for each in meanings(data)]
    if given.flag("--json"):
        render.json_line(
            {
                "sent": [_plain(frame, kind, said) for _, frame, kind, said in meant],
                "received": [_plain(each.frame, each.kind, each.body, id=each.id) for each in received],
                "hung_up": peer.is_over,
            }
        )
        return 0
    for _, frame, kind, said in meant:
        _show("-->", frame, f"{kind} {_text(said)}")
    for each in received:
        id_ = "" if each.id is None else f" {render.brief(each.id)}"
        _show("<--", each.frame, f"{each.kind}{id_} {_text(each.body)}")
    render.line("the daemon hung up" if peer.is_over else f"nothing more came within {wait_s:g} s")
    return 0


def _input(given: Given) -> list[bytes]:
    data = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
    if len(data) > INPUT_BYTES_MAX:
        raise InvalidRequest(f"cannot send standard input: over {INPUT_BYTES_MAX} bytes; send it in parts")
    if given.flag("--hex"):
        text = "".join(line.partition(b"#")[0].decode("ascii", "replace") for line in data.splitlines())
        try:
            return [bytes.fromhex(text)]
        except ValueError as error:
            raise InvalidRequest(f"cannot read standard input as hexadecimal digits: {error}; see --help") from None
    if given.flag("--msgpack"):
        return [_packed(line, number) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    return [data]


def _packed(line: bytes, number: int) -> bytes:
    """A line of JSON as a frame of MessagePack."""
    try:
        body = msgpack.encode(fast_json.decode(line))
    except (DecodeError, UnicodeError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"cannot read line {number} as JSON: {error}; give [0, id, method, params]") from None
    return len(body).to_bytes(4) + body


def meanings(data: bytes) -> list[tuple[bytes, str, Any]]:
    """What a daemon makes of these bytes: each frame, what it is, and what it says or what is wrong with it."""
    if not data:
        return []
    found: list[tuple[bytes, str, Any]] = []
    codec = codec_for(data[0])
    left = bytearray(data)
    while left:
        before = bytes(left)
        try:
            frame = codec.split(left, SENT_FRAME_BYTES_MAX)
            if frame is None and isinstance(codec, JsonCodec) and left:
                left += b"\n"  # the end of the input ends a line as well
                frame = codec.split(left, SENT_FRAME_BYTES_MAX)
        except FramingLost as lost:
            found.append((before, "no frame:", lost.error.message))
            break
        if frame is None:
            if left:
                found.append((bytes(left), "half a frame", None))
            break
        found.append((before[: len(before) - len(left)] or before, *_meaning(codec, frame)))
    return found


def _meaning(codec: Any, frame: bytes) -> tuple[str, Any]:
    try:
        call = codec.decode_call(frame)
        return f"call {render.brief(call.id)} {render.escape(call.method)}", msgpack.decode(call.params)
    except BadFrame as bad:
        id_ = id_of_array(frame) if isinstance(codec, MsgpackCodec) else bad.id
        return f"no call{f' (id {id_})' if id_ else ''}:", bad.error.message
    except (DecodeError, UnicodeError, RecursionError, ValueError) as error:
        return "no call:", str(error)[:200]


def _plain(frame: bytes, kind: str, said: Any, **more: Any) -> dict[str, Any]:
    return {"bytes": len(frame), "hex": frame.hex(), "kind": kind.rstrip(":"), **more, "said": said}


def _text(said: Any) -> str:
    return "" if said is None else render.brief(said)


def _show(mark: str, frame: bytes, meaning: str) -> None:
    render.line(f"{mark} {render.count(len(frame), 'byte')}")
    shown = frame[:BYTES_SHOWN]
    for start in range(0, len(shown), _PER_LINE):
        part = shown[start : start + _PER_LINE]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004 (printable ASCII)
        render.line(render.paint(f"    {part.hex(' '):<{_PER_LINE * 3}} {text}", "dim"))
    if len(frame) > len(shown):
        render.line(render.paint(f"    ... {len(frame) - len(shown):,} more", "dim"))
    render.line(f"    {meaning.rstrip()}")


RAW = Verb(
    "debug raw",
    "",
    run,
    summary="Send standard input to the socket as it is, and show what comes back: bytes and meaning.",
    text="Lines of JSON-RPC as they are; with --hex the bytes of hexadecimal digits (blanks and # comments are passed\n"
    "over); with --msgpack each line of JSON as a frame of MessagePack. What is sent is done, also what writes. It\n"
    "ends when all is answered, or nothing came for --wait seconds.",
    options=(
        Option("--hex", "", "standard input is hexadecimal digits"),
        Option("--msgpack", "", "standard input is JSON lines, to be sent as MessagePack"),
        Option("--wait", "S", f"how long to wait for more (default {WAIT_S:g})"),
    ),
    examples=(
        ('echo \'{"jsonrpc":"2.0","id":1,"method":"ping"}\' | cosession debug raw', "a line"),
        ("echo '[0, 1, \"ping\", {}]' | cosession debug raw --msgpack", "the same in the other encoding"),
        ("echo 00000009 94 00 01 a470696e67 80 | cosession debug raw --hex", "the same as bytes"),
    ),
)
