"""A raw client for both encodings of the socket, independent of the product: socket, json and a small MessagePack.

    with Pack(path) as peer: peer.call("put", key="k", value=1)      # the answer, whatever it is
    with Json(path) as peer: peer.send(b"anything at all")           # and any bytes

Both show answers in one shape (`Answer`), so that a test can ask whether the two encodings say the same.

Rule: imports nothing of the product, and sends what it is told, valid or not; every wait has an end.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

#: What a test waits at most for anything; generous, since it decides only between an answer and none.
TIMEOUT_S = 20.0
CALL, REPLY, ERROR, EVENT, GOODBYE = range(5)
_KINDS = {REPLY: "reply", ERROR: "error", EVENT: "event", GOODBYE: "goodbye"}


class Ext(NamedTuple):
    """A MessagePack extension; no JSON data."""

    code: int
    data: bytes


class Pairs(NamedTuple):
    """A map as written, so that a key can stand in it twice and be of any type."""

    pairs: tuple[tuple[Any, Any], ...]


class Answer(NamedTuple):
    """One frame from the daemon. `body` of an error: code, message, retryable, revision, data."""

    kind: str
    id: Any
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """The code of an error, "" of anything else."""
        return str(self.body["code"]) if self.kind == "error" else ""


class Ended(Exception):
    """The daemon has closed the connection."""


def pack(value: Any) -> bytes:
    """MessagePack in its shortest form (https://github.com/msgpack/msgpack/blob/master/spec.md)."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        return _head(len(raw), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + raw
    if isinstance(value, bytes):
        return _head(len(value), 0, 0, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, Ext):
        return _head(len(value.data), 0, 0, (0xC7, 0xC8, 0xC9)) + bytes([value.code & 0xFF]) + value.data
    if isinstance(value, dict | Pairs):
        pairs = value.pairs if isinstance(value, Pairs) else tuple(value.items())
        return _head(len(pairs), 0x80, 16, (0, 0xDE, 0xDF)) + b"".join(pack(k) + pack(v) for k, v in pairs)
    return _head(len(value), 0x90, 16, (0, 0xDC, 0xDD)) + b"".join(map(pack, value))


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b" if value < 0 else "B", value)
    forms = (">B", ">H", ">I", ">Q") if value > 0 else (">b", ">h", ">i", ">q")
    for index, form in enumerate(forms):
        try:
            return bytes([(0xCC if value > 0 else 0xD0) + index]) + struct.pack(form, value)
        except struct.error:
            continue
    raise OverflowError(value)


def _head(size: int, fixed: int, below: int, wide: tuple[int, int, int]) -> bytes:
    if size < below:
        return bytes([fixed | size])
    for kind, form, bits in zip(wide, (">B", ">H", ">I"), (8, 16, 32), strict=True):
        if kind and size < 1 << bits:
            return bytes([kind]) + struct.pack(form, size)
    raise OverflowError(size)


def unpack(raw: bytes) -> Any:
    """The value of one MessagePack message, all of it."""
    value, end = _unpack(raw, 0)
    assert end == len(raw), f"{len(raw) - end} bytes after the message"
    return value


_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS |= {0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}


def _unpack(raw: bytes, at: int) -> tuple[Any, int]:
    kind = raw[at]
    at += 1
    if kind < 0x80 or kind >= 0xE0:
        return (kind if kind < 0x80 else kind - 256), at
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if kind in _NUMBERS:
        (number,) = struct.unpack_from(_NUMBERS[kind], raw, at)
        return number, at + struct.calcsize(_NUMBERS[kind])
    for first, last, fixed in ((0xD9, 0xA0, 32), (0xDC, 0x90, 16), (0xDE, 0x80, 16)):
        if last <= kind < last + fixed:
            size = kind - last
            break
        widths = (1, 2, 4) if first == 0xD9 else (2, 4)
        if first <= kind < first + len(widths):
            width = widths[kind - first]
            size = int.from_bytes(raw[at : at + width])
            at += width
            break
    else:
        raise ValueError(f"a daemon never sends the type {kind:#x}")
    if last == 0xA0:
        return raw[at : at + size].decode(), at + size
    if last == 0x90:
        items, at = _unpack_many(raw, at, size)
        return items, at
    flat, at = _unpack_many(raw, at, 2 * size)
    assert len(set(flat[::2])) == size, "a map of the daemon has a key twice"
    return dict(zip(flat[::2], flat[1::2], strict=True)), at


def _unpack_many(raw: bytes, at: int, count: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):
        item, at = _unpack(raw, at)
        items.append(item)
    return items, at


def framed(body: bytes) -> bytes:
    """A MessagePack message as it travels."""
    return len(body).to_bytes(4) + body


class Peer:
    """One connection: any bytes out, answers in. A context manager; `close` is harmless when done before."""

    def __init__(self, path: Path | str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(timeout_s)
            self._connect(str(path), time.monotonic() + timeout_s)
        except OSError:
            self.sock.close()
            raise
        self._in = bytearray()
        self._next_id = 1

    def _connect(self, path: str, deadline: float) -> None:
        while True:
            try:
                self.sock.connect(path)
            except BlockingIOError:  # the backlog of the daemon is full, which a Unix socket does not wait for
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
            else:
                return

    # -- bytes -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Say that no more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close both ways."""
        self.sock.close()

    def rest(self) -> bytes:
        """Everything up to the end of the connection. A reset is an end too: unread bytes of ours were dropped."""
        try:
            while data := self.sock.recv(1 << 18):
                self._in += data
        except ConnectionResetError:
            pass
        found = bytes(self._in)
        self._in.clear()
        return found

    # -- calls -----------------------------------------------------------------------------------------------------

    @staticmethod
    def encode(id: Any, method: str, params: dict[str, Any]) -> bytes:
        """The bytes of a call."""
        raise NotImplementedError

    def call(self, method: str, **params: Any) -> Answer:
        """Call and return the answer; events that come before it are an error of the test."""
        id = self.post(method, **params)
        found = self.next()
        assert found.id == id, f"expected the answer to call {id}, got {found}"
        return found

    def reply(self, method: str, **params: Any) -> dict[str, Any]:
        """The body of the reply to a call that must succeed."""
        found = self.call(method, **params)
        assert found.kind == "reply", found
        return found.body

    def code(self, method: str, **params: Any) -> str:
        """The code of the error that must answer a call."""
        found = self.call(method, **params)
        assert found.kind == "error", found
        return found.code

    def post(self, method: str, **params: Any) -> int:
        """Send a call, wait for nothing, return its id."""
        id = self._next_id
        self._next_id += 1
        self.send(self.encode(id, method, params))
        return id

    # -- answers ---------------------------------------------------------------------------------------------------

    def next(self) -> Answer:
        """The next frame of the daemon. Raises Ended, or TimeoutError when nothing comes."""
        while (found := self._take()) is None:
            self.take_in()
        return found

    def take_in(self) -> None:
        """Receive once, for `next` to find. Raises Ended."""
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended(bytes(self._in))
        self._in += data

    def poll(self, timeout_s: float) -> Answer | None:
        """The next frame if one comes within `timeout_s`. Raises Ended."""
        before = self.sock.gettimeout()
        self.sock.settimeout(timeout_s)
        try:
            return self.next()
        except TimeoutError:
            return None
        finally:
            self.sock.settimeout(before)

    def take(self, count: int) -> list[Answer]:
        """The next frames."""
        return [self.next() for _ in range(count)]

    def until_ended(self) -> Iterator[Answer]:
        """All frames up to the end of the connection."""
        while True:
            try:
                yield self.next()
            except Ended:
                return

    def _take(self) -> Answer | None:
        """The encoding of what came tells itself: a length begins with 0, and a refusal of the listener is JSON."""
        return take_answer(self._in)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Json(Peer):
    """JSON-RPC 2.0, one object per line."""

    encoding = "json"

    @staticmethod
    def encode(id: Any, method: str, params: dict[str, Any]) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode() + b"\n"


class Pack(Peer):
    """MessagePack, each message after its length."""

    encoding = "msgpack"

    @staticmethod
    def encode(id: Any, method: str, params: dict[str, Any]) -> bytes:
        return framed(pack([CALL, id, method, params]))


def take_answer(buffer: bytearray) -> Answer | None:
    """Remove the first frame of the daemon from `buffer`, None when it is not whole yet."""
    if buffer[:1] == b"{":
        end = buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        return _of_line(line)
    if buffer[:2] == b"cs":
        return _of_hook(buffer)
    size = int.from_bytes(buffer[:4])
    if len(buffer) < 4 or len(buffer) < 4 + size:
        return None
    frame = bytes(buffer[4 : 4 + size])
    del buffer[: 4 + size]
    return _of_frame(frame)


def _of_hook(buffer: bytearray) -> Answer | None:
    """An answer to a hook: exit code, flags (2: a note), size, text."""
    end = 8 + int.from_bytes(buffer[4:8])
    if len(buffer) < max(8, end):
        return None
    exit_code, flags, text = buffer[2], buffer[3], bytes(buffer[8:end]).decode()
    del buffer[:end]
    if flags & 2:
        return Answer("error", 1, {"code": "note", "message": text, "exit_code": exit_code})
    return Answer("reply", 1, {"exit_code": exit_code, "output": text, "more": bool(flags & 1)})


def _of_line(line: bytes) -> Answer:
    """One line of the daemon, which must be strict JSON with each name once."""
    message = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
    assert message.pop("jsonrpc") == "2.0", line
    if "method" in message:
        params = message["params"]
        if message["method"] == "goodbye":
            return Answer("goodbye", 0, params)
        assert message["method"] == "watch.event", line
        return Answer("event", params.pop("watch"), params)
    if "result" in message:
        assert message.keys() == {"id", "result"}, line
        return Answer("reply", message["id"], message["result"])
    assert message.keys() == {"id", "error"}, line
    error = message["error"]
    assert isinstance(error["code"], int), line
    data = dict(error["data"])
    body = {name: data.pop(name) for name in ("code", "retryable", "revision")}
    return Answer("error", message["id"], {**body, "message": error["message"], "data": data})


def _of_frame(frame: bytes) -> Answer:
    """One message of the daemon."""
    kind, id, body = unpack(frame)
    return Answer(_KINDS[kind], id, body)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "an object of the daemon has a name twice"
    return found


def _no_constant(text: str) -> Any:
    raise AssertionError(f"the daemon sent {text}")


def values_of(answers: Iterable[Answer]) -> list[Any]:
    """The values of the entries and changes that watch events carry, in order."""
    return [item["value"] for found in answers for item in found.body.get("entries", found.body.get("changes", []))]


ENCODINGS: tuple[type[Peer], ...] = (Json, Pack)
