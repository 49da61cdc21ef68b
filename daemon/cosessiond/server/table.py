"""The operation table: every method, who may call it, and the function that answers.

Rule: a method is served when its request type has exactly one row; access is decided here, before the handler runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple

from msgspec import msgpack

from cosession.messages import Reply, Request


class Access(Enum):
    """What a method needs of the daemon's state."""

    READ = "read"
    """Served always, also while the store is read-only."""
    WRITE = "write"
    """Refused while the store is read-only or the daemon drains."""
    RELEASE = "release"
    """Ends or gives back something; served always, so that nothing is held longer than it must be."""
    ADMIN = "admin"
    """About the daemon itself; served always."""


#: A handler: (core, call, request) -> the reply, or None when `call` will be answered later.
Handler = Callable[[Any, Any, Any], Reply | None]


class Row(NamedTuple):
    """One method of the table."""

    request: type[Request[Any]]
    access: Access
    run: Handler


class Operation(NamedTuple):
    """A row, ready to use."""

    row: Row
    decoder: msgpack.Decoder[Any]


def table_of(rows: Iterable[Row]) -> dict[str, Operation]:
    """The table by method name; raises ValueError when a method has two rows."""
    table: dict[str, Operation] = {}
    for row in rows:
        method = row.request.method
        if method in table:
            raise ValueError(f"{method} has two rows")
        table[method] = Operation(row, msgpack.Decoder(row.request))
    return table
