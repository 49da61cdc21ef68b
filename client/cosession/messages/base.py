"""The shape of every message: one struct per operation, which carries the type of its reply.

Rule: a request is plain data with no connection in sight; `call(request: Request[R]) -> R` is then the whole
client, and the daemon's operation table is keyed by these types.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, get_args

from msgspec import Struct

R = TypeVar("R", bound="Reply")


class Reply(Struct, frozen=True, kw_only=True):
    """Base of every reply. `revision`: the store's revision when the reply was made."""

    revision: int


class Request(Struct, Generic[R], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every request; `method` is its name on the wire, the parameter its reply type."""

    method: ClassVar[str] = ""


def reply_type(request: type[Request[Any]]) -> type[Reply]:
    """The reply struct that `request` declares in its base, e.g. `Request[GetReply]` gives `GetReply`."""
    for base in getattr(request, "__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type) and issubclass(argument, Reply):
                return argument
    raise TypeError(f"{request.__name__} does not name its reply type")
