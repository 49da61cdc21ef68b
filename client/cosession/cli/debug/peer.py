"""One connection in either encoding, with nothing added: bytes out, frames in, each with a deadline.

Rule: whatever comes back is a frame or the end; nothing here waits longer than it was told to.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from msgspec import DecodeError, msgpack
from msgspec import json as fast_json

from cosession import paths
from cosession.cli.line import check_peer
from cosession.errors import CosessionError, TimedOut, Unreachable
from cosession.messages.limits import SENT_FRAME_BYTES_MAX
from cosession.wire import ERROR, EVENT, GOODBYE, REPLY, FramingLost, MsgpackCodec

if TYPE_CHECKING:
    from cosession.cli.options import Given

_KINDS: Final = {REPLY: "reply", ERROR: "error", EVENT: "event", GOODBYE: "goodbye"}
#: What leads each frame of MessagePack.
_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 256 * 1024


class Heard:
    """One frame of the daemon: its bytes, what `kind` it is, the `id` of the call or watch, and its `body`."""

    __slots__ = ("body", "frame", "id", "kind")

    def __init__(self, frame: bytes, kind: str, id: Any, body: Any) -> None:
        self.frame = frame
        self.kind = kind
        self.id = id
        self.body = body


class Peer:
    """A connection to the daemon that runs; `close` it."""

    def __init__(self, given: Given) -> None:
        self.path = given.text("--socket") or paths.socket_path()
        self._timeout_s = given.timeout_s()
        self._in = bytearray()
        self.is_over = False
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(self._timeout_s)
            self._sock.connect(self.path)
            check_peer(self._sock, self.path)
        except OSError as error:
            self._sock.close()
            why = error.strerror or error
            raise Unreachable(
                f"cannot reach the daemon at {self.path}: {why}; do: cosession start", data={"path": self.path}
            ) from None
        except BaseException:
            self._sock.close()
            raise

    def send(self, data: bytes) -> None:
        """All of it. Raises TimedOut when the daemon does not take it; what it hung up on is found when reading."""
        try:
            self._sock.settimeout(self._timeout_s)
            self._sock.sendall(data)
        except TimeoutError:
            raise TimedOut(f"cannot send: the daemon took no more within {self._timeout_s:g} s; try again") from None
        except OSError:
            return

    def end(self) -> None:
        """Nothing more will be sent; what was is still answered."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def hear(self, within_s: float) -> Heard | None:
        """The next frame; None when none came in time, or the connection is over (`is_over`)."""
        until_s = monotonic() + within_s
        while (heard := self._take()) is None:
            left_s = until_s - monotonic()
            if self.is_over or left_s <= 0:
                return None
            try:
                self._sock.settimeout(left_s)
                more = self._sock.recv(_READ_BYTES)
            except TimeoutError:
                return None
            except OSError:
                more = b""
            self.is_over = not more
            self._in += more
        return heard

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def _take(self) -> Heard | None:
        if self._in[:1] == b"{":
            end = self._in.find(b"\n")
            if end < 0:
                return None
            line = bytes(self._in[: end + 1])
            del self._in[: end + 1]
            return _of_line(line)
        size = _LENGTH_BYTES + int.from_bytes(self._in[:_LENGTH_BYTES])
        if len(self._in) < _LENGTH_BYTES or len(self._in) < size <= SENT_FRAME_BYTES_MAX:
            return None
        frame = bytes(self._in[:size])
        try:
            body = MsgpackCodec().split(self._in, SENT_FRAME_BYTES_MAX)
            assert body is not None, "it is whole"
            kind, id_, said = msgpack.decode(body)
        except (FramingLost, DecodeError, ValueError, TypeError):
            raise CosessionError("cannot read what the daemon sent: it is no frame", code="parse_error") from None
        return Heard(frame, _KINDS.get(kind, f"kind {kind}"), id_, said)


def _of_line(line: bytes) -> Heard:
    try:
        said = fast_json.decode(line)
        if "result" in said:
            return Heard(line, "reply", said.get("id"), said["result"])
        if "error" in said:
            error = said["error"]
            return Heard(line, "error", said.get("id"), {"message": error["message"], **error["data"]})
        params = said["params"]
        if said["method"] == "goodbye":
            return Heard(line, "goodbye", None, params)
        return Heard(line, "event", params["watch"], {name: each for name, each in params.items() if name != "watch"})
    except (DecodeError, LookupError, TypeError, UnicodeError):
        raise CosessionError("cannot read what the daemon sent: it is no line of it", code="parse_error") from None
