"""A daemon with one seeded bug, to show that the fuzzer sees it: `python sabotage.py NAME`.

Rule: each is a bug that only bad frames meet, and that a daemon could really have.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from cosession.wire import Call, JsonCodec, MsgpackCodec
from cosessiond.__main__ import main as serve
from cosessiond.server import admission

LEAKED_BYTES: Final = 100_000
STALLED_S: Final = 3.0


def none() -> None:
    """No bug."""


def crash() -> None:
    """A line with a lone surrogate ends the daemon."""
    decode = JsonCodec.decode_call

    def decode_or_die(self: JsonCodec, frame: bytes) -> Call:
        if b"\\ud800" in frame:
            os._exit(139)
        return decode(self, frame)

    JsonCodec.decode_call = decode_or_die  # type: ignore[method-assign]


def leak() -> None:
    """Something of each frame that is refused is kept."""
    kept: list[bytearray] = []
    decode = MsgpackCodec.decode_call

    def decode_and_keep(self: MsgpackCodec, frame: bytes) -> Call:
        try:
            return decode(self, frame)
        except Exception:
            kept.append(bytearray(LEAKED_BYTES))
            raise

    MsgpackCodec.decode_call = decode_and_keep  # type: ignore[method-assign]


def bug() -> None:
    """A key without a byte in it meets an error that nobody foresaw."""
    readable = admission.readable

    def read_first_byte(core: Any, space: str, project: str, key: str) -> Any:
        return readable(core, space, project, key) if ord(key[0]) >= 0 else None

    admission.readable = read_first_byte


def stall() -> None:
    """Now and then one frame holds up everybody."""
    decode = MsgpackCodec.decode_call

    def decode_slowly(self: MsgpackCodec, frame: bytes) -> Call:
        if b"\xc1" in frame:
            time.sleep(STALLED_S)
        return decode(self, frame)

    MsgpackCodec.decode_call = decode_slowly  # type: ignore[method-assign]


def babble() -> None:
    """An error in JSON quotes what it was sent as it was sent."""
    encode = JsonCodec.encode_error

    def encode_badly(self: JsonCodec, id: Any, body: Any) -> bytes:
        return encode(self, id, body).replace(b'"message":"', b'"message":NaN,"was":"')

    JsonCodec.encode_error = encode_badly  # type: ignore[method-assign]


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    each.__name__: each for each in (none, crash, leak, bug, stall, babble)
}


if __name__ == "__main__":
    os.umask(0o077)
    SABOTAGES[sys.argv[1]]()
    sys.exit(serve([]))
