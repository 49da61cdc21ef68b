"""Small files beside the store that say something about it: one JSON object, with a hash of all the rest in it.

Rule: what does not match its hash says nothing; it is reported and never half believed. Members that this version does
not know are hashed like the others, so that a newer one may add some.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, TypeVar

import msgspec

#: More than that is no file of ours.
BYTES_MAX: Final = 1024 * 1024

T = TypeVar("T", bound=msgspec.Struct)


def sealed(said: msgspec.Struct) -> bytes:
    """The bytes of such a file."""
    members: dict[str, Any] = msgspec.to_builtins(said)
    members["hash"] = _hash(members)
    return msgspec.json.format(msgspec.json.encode(members), indent=2) + b"\n"


def unsealed(data: bytes, kind: type[T]) -> T | None:
    """What it says, None when it cannot be believed."""
    try:
        members = msgspec.json.decode(data, type=dict[str, Any])
        if members.pop("hash", "") != _hash(members):
            return None
        return msgspec.convert(members, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _hash(members: dict[str, Any]) -> str:
    return blake2b(msgspec.json.encode(members, order="sorted"), digest_size=16).hexdigest()
