"""An audit record as the store keeps it, and where the audit stands.

The audit is local: no batch, no revision, no part of a hash that engines or hosts compare. Its ids are dense, so that
the first one kept tells how many were cut, and a missing row is noticed.

Rule: plain data. What a record may say is decided in `cosessiond.audit`; here its body is bytes.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

#: What a record counts for beside its texts and its body: numbers, hash and the room of a row.
ROW_BYTES: Final = 64


class Record(Struct, frozen=True, array_like=True, gc=False):
    """What happened: when by the wall clock, and what can be looked for; `body` is MessagePack."""

    time_ms: int
    kind: str
    project: str
    session: str
    body: bytes

    @property
    def size(self) -> int:
        """The bytes it counts for in `Window.audit_bytes`."""
        texts = (self.kind, self.project, self.session)
        return ROW_BYTES + len(self.body) + sum(len(text.encode()) for text in texts)


class KeptRecord(Struct, frozen=True, array_like=True, gc=False):
    """A record under its id."""

    id: int
    record: Record


class AuditSpan(Struct, frozen=True, gc=False):
    """The records `first` to `last` are kept, `size` bytes in all (none: `first` is `last` + 1). `first_ms`: when the
    oldest of them happened, 0 without any. What stood below `first` was cut.
    """

    first: int = 1
    last: int = 0
    size: int = 0
    first_ms: int = 0


#: A record on its way, and the index in its group of the batch that it goes with; None when it goes alone.
Attached = tuple[int | None, Record]
