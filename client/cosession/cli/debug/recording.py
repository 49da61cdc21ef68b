"""The file of a recorded conversation, format 1: JSON lines, first what it is, then frames in order, then the end.

    {"cosession_recording": 1, "protocol": 1, "version": "0.1.0", "time": 1767225600.0}
    {"at_s": 0.001, "client": 1, "encoding": "json", "by": "client", "kind": "call", "id": 1, "method": "ping", ...}
    {"end": true, "frames": 2, "lost": 0}

Rule: a file of a newer format or protocol is refused before anything of it is used; one without its end is read as far
as it goes, and that is said. Bounded when written and when read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from msgspec import DecodeError, Struct, ValidationError, convert
from msgspec import json as fast_json

from cosession._version import __version__
from cosession.errors import CosessionError, InvalidRequest
from cosession.messages.debug import Frame
from cosession.messages.limits import PROTOCOL_OLDEST, PROTOCOL_VERSION

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, BinaryIO

FORMAT: Final = 1
BYTES_MAX: Final = 64 * 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024 * 1024


class Header(Struct, frozen=True, kw_only=True):
    """The first line."""

    cosession_recording: int
    protocol: int = 0
    version: str = ""
    time: float = 0.0


class Ending(Struct, frozen=True, kw_only=True):
    """The last line."""

    end: bool
    frames: int
    lost: int


class Recording(Struct, frozen=True):
    """What was read. `is_whole` False: it ends early."""

    header: Header
    frames: list[Frame]
    lost: int
    is_whole: bool


class Writer:
    """A new file, private, that must not be there yet."""

    def __init__(self, path: Path, time_s: float) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise CosessionError(
                f"cannot record into {path}: it is there; choose another name", code="io_error"
            ) from None
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._began_s = 0.0
        self.frames = 0
        self.lost = 0
        self.bytes = 0
        self._line(Header(cosession_recording=FORMAT, protocol=PROTOCOL_VERSION, version=__version__, time=time_s))

    @property
    def is_full(self) -> bool:
        """Nothing more is taken."""
        return self.bytes >= BYTES_MAX

    def add(self, frame: Frame) -> None:
        """One more."""
        self.frames += 1
        self._line(frame)

    def close(self) -> None:
        """Say how many there were."""
        self._line(Ending(end=True, frames=self.frames, lost=self.lost))
        self._file.close()

    def _line(self, what: Struct) -> None:
        line = fast_json.encode(what) + b"\n"
        self.bytes += len(line)
        self._file.write(line)


def read(path: Path) -> Recording:
    """The recording in a file. Raises InvalidRequest for what is none, CosessionError `incompatible` for a newer
    one.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > 2 * BYTES_MAX:
            raise InvalidRequest(f"cannot read {path}: it is larger than any recording; name another file")
        header = _header(path, file.readline(LINE_BYTES_MAX))
        frames: list[Frame] = []
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 2):
            if not line.endswith(b"\n"):
                break  # its last line was not finished
            said = _decoded(path, line, number)
            if "end" in said:
                ending = _converted(path, said, Ending, number)
                return Recording(header, frames, ending.lost, ending.frames == len(frames))
            frames.append(_converted(path, said, Frame, number))
    return Recording(header, frames, 0, False)


def _header(path: Path, line: bytes) -> Header:
    said: Any = None
    try:
        said = fast_json.decode(line)
        header = convert(said, Header)
    except (DecodeError, ValidationError, UnicodeError):
        raise InvalidRequest(f"cannot read {path}: it is no recording; make one: cosession debug record FILE") from None
    if header.cosession_recording > FORMAT:
        raise CosessionError(
            f"cannot replay {path}: it was recorded by version {header.version or 'unknown'} in format "
            f"{header.cosession_recording}, this version reads up to {FORMAT}; upgrade cosession, or record it anew",
            code="incompatible",
            data={"format": header.cosession_recording, "known": FORMAT},
        )
    if not PROTOCOL_OLDEST <= header.protocol <= PROTOCOL_VERSION:
        raise CosessionError(
            f"cannot replay {path}: it speaks protocol {header.protocol}, this version speaks {PROTOCOL_OLDEST} to "
            f"{PROTOCOL_VERSION}; use the version that recorded it ({header.version or 'unknown'}), or record it anew",
            code="incompatible",
            data={"protocol": header.protocol, "known": PROTOCOL_VERSION},
        )
    return header


def _decoded(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        said = fast_json.decode(line)
    except (DecodeError, UnicodeError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise InvalidRequest(f"cannot read {path}: line {number} is no frame; record it anew")
    return said


def _converted(path: Path, said: dict[str, Any], kind: type[Any], number: int) -> Any:
    try:
        return convert(said, kind)
    except ValidationError as error:
        raise InvalidRequest(f"cannot read {path}: line {number}: {error}; record it anew") from None
