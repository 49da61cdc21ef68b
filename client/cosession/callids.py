"""The id of a call: what it may be, and how to find it in a frame that cannot be read otherwise.

Whoever sent such a frame waits for the answer to that id, and takes an answer without one for the end.

Rule: looks at the frame where the id stands and makes nothing of the rest, whatever its size.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import DecodeError, Raw, Struct
from msgspec import json as fast_json

from cosession.messages.limits import REQUEST_ID_BYTES_MAX

#: What identifies a call on one connection. None: a JSON notification, which gets no answer.
CallId = int | str | None
#: The id of an answer to a frame whose own id could not be read.
UNREADABLE_ID: Final = 0


ID_MAX: Final = 2**63 - 1
#: An id in JSON as text: each of its bytes may be escaped.
_ID_TEXT_BYTES_MAX: Final = 6 * REQUEST_ID_BYTES_MAX + 2
#: The longer MessagePack integers: bytes that follow the type byte, and whether they are signed.
_INTEGERS: Final = {
    0xCC: (1, False),
    0xCD: (2, False),
    0xCE: (4, False),
    0xCF: (8, False),
    0xD0: (1, True),
    0xD1: (2, True),
    0xD2: (4, True),
    0xD3: (8, True),
}
#: A member of a JSON object that is a plain text or number, and what leads to it.
_MEMBER: Final = re.compile(rb'\s*[{,]\s*"([a-z]+)"\s*:\s*("[^"\\]*"|-?[0-9]+|null|true|false)(?=\s*[,}])')
# MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md): type bytes, and the first of a range of them.
_MAP: Final = 0x80
_ARRAY: Final = 0x90
_ARRAY16: Final = 0xDC
_ARRAY32: Final = 0xDD
_NEGATIVE: Final = 0xE0


class _Identified(Struct):
    """Of a JSON call the id alone, as text."""

    id: Raw = Raw(b"null")


_decode_id = fast_json.Decoder(_Identified).decode


def id_of_array(frame: bytes) -> int:
    """The second element of a MessagePack array, whatever else is wrong with it; UNREADABLE_ID when it is no id."""
    kind = frame[0]
    if kind & 0xF0 == _ARRAY and kind & 0x0F > 1:
        position = 1
    elif kind in (_ARRAY16, _ARRAY32):
        position = 3 if kind == _ARRAY16 else 5
    else:
        return UNREADABLE_ID
    first = _integer(frame, position)
    second = _integer(frame, first[1]) if first else None
    return second[0] if second and 0 < second[0] <= ID_MAX else UNREADABLE_ID


def _integer(frame: bytes, position: int) -> tuple[int, int] | None:
    """The MessagePack integer at `position` and where it ends."""
    if position >= len(frame):
        return None
    kind = frame[position]
    if kind < _MAP or kind >= _NEGATIVE:
        return (kind if kind < _MAP else kind - 256), position + 1
    if kind not in _INTEGERS:
        return None
    width, signed = _INTEGERS[kind]
    digits = frame[position + 1 : position + 1 + width]
    return (int.from_bytes(digits, signed=signed), position + 1 + width) if len(digits) == width else None


def id_of_line(frame: bytes) -> CallId:
    """The id of a line that is JSON but cannot be taken, so that its caller is not left waiting: found without making
    anything of the rest, by looking at the plain members in front, then by passing over the others.
    """
    position = 0
    while member := _MEMBER.match(frame, position):
        if member[1] == b"id":
            return _readable_id(member[2])
        position = member.end()
    try:
        return _readable_id(bytes(_decode_id(frame).id))
    except (DecodeError, RecursionError, UnicodeError):
        return None


def _readable_id(text: bytes) -> CallId:
    if len(text) > _ID_TEXT_BYTES_MAX:
        return None
    import json  # see `values.from_json`

    try:
        id = json.loads(text)
    except ValueError:
        return None
    return id if is_id(id) else None


def is_id(id: object) -> bool:
    """Whether a JSON value can be an id."""
    if isinstance(id, bool):
        return False
    if isinstance(id, str):
        try:
            return len(id.encode()) <= REQUEST_ID_BYTES_MAX
        except UnicodeEncodeError:
            return False
    return id is None or (isinstance(id, int) and -ID_MAX - 1 <= id <= ID_MAX)
