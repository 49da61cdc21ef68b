"""What a writer did, request by request, as it goes to a file and comes back to the judge.

A deed is written before it is sent, open, and again when its outcome is certain: so a writer that is killed leaves
behind what it was about to learn.

Rule: what was written is in the file at once; times are of CLOCK_MONOTONIC, which processes share.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Any, Final

from msgspec import Raw, Struct, msgpack

from cosession.messages import REQUESTS, Reply, Request, reply_type

_encode = msgpack.Encoder().encode
_LENGTH: Final = struct.Struct(">I")
_SLOT: Final = struct.Struct("<Q")


class Deed(Struct, array_like=True, gc=False):
    """One request and how it ended.

    `code` "" means answered with `body`, the reply; else `body` is the error's data. `revision` is that of the answer,
    `known` the newest revision its writer had heard of before it sent the request for the first time. `attempts` over
    1: the connection was lost under it, and it was repeated with the same request id. `ended_s` 0: still open.
    """

    writer: int
    serial: int
    method: str
    params: Raw
    known: int
    began_s: float
    ended_s: float = 0.0
    attempts: int = 0
    code: str = ""
    revision: int = 0
    body: Raw = Raw(b"\xc0")

    @property
    def name(self) -> str:
        """Also its request id."""
        return f"{self.writer}-{self.serial}"

    def request(self) -> Request[Any]:
        """The request as sent."""
        found: Request[Any] = msgpack.decode(self.params, type=REQUESTS[self.method])
        return found

    def reply(self) -> Reply:
        """The reply; only of a deed without `code`."""
        return msgpack.decode(self.body, type=reply_type(REQUESTS[self.method]))

    def data(self) -> dict[str, Any]:
        """What the error carried; only of a deed with `code`."""
        found: dict[str, Any] = msgpack.decode(self.body)
        return found


class Journal:
    """The file of one writer; nothing is buffered, so that it is whole when the writer is killed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def add(self, *deeds: Deed) -> None:
        """Append deeds, as one piece."""
        self._file.write(b"".join(_LENGTH.pack(len(data)) + data for data in map(_encode, deeds)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> tuple[list[Deed], list[Deed]]:
    """The deeds of a journal in the order of their end, and those whose outcome its writer never learned.

    What a killed writer left half is dropped: it had not been sent.
    """
    data = path.read_bytes() if path.exists() else b""
    decode = msgpack.Decoder(Deed).decode
    ended: list[Deed] = []
    open_: dict[int, Deed] = {}
    at = 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            break
        deed = decode(data[at : at + length])
        at += length
        if deed.ended_s:
            open_.pop(deed.serial, None)
            ended.append(deed)
        else:
            open_[deed.serial] = deed
    return ended, list(open_.values())


class Board:
    """A small shared file: for each writer the newest revision it was acknowledged. Readable at any moment."""

    def __init__(self, path: Path, writers: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SLOT.size * writers))
        self._writers = writers
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SLOT.size * writers)

    def post(self, writer: int, revision: int) -> None:
        """Writer `writer` holds the acknowledgement of `revision`."""
        _SLOT.pack_into(self._map, _SLOT.size * writer, revision)

    def newest(self) -> int:
        """The newest revision that anybody was acknowledged."""
        return max(self._posted())

    def wait_for_all(self, within_s: float) -> None:
        """Wait until every writer has been acknowledged something. Raises AssertionError when one is not in time."""
        deadline = time.monotonic() + within_s
        while not all(self._posted()):
            assert time.monotonic() < deadline, f"not every writer was acknowledged a write within {within_s:g} s"
            time.sleep(0.01)

    def _posted(self) -> list[int]:
        slots = range(0, _SLOT.size * self._writers, _SLOT.size)
        return [int(_SLOT.unpack_from(self._map, slot)[0]) for slot in slots]

    def close(self) -> None:
        """Unmap."""
        self._map.close()
