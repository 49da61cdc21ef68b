"""Reading the audit a slice at a time: a bounded number of rows is looked at, whatever a filter lets through.

Rule: runs on the store thread, between two commits; reads the engine and nothing else.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from cosession.model import AuditRecord
from cosessiond.audit.records import shown
from cosessiond.store.engine import Engine
from cosessiond.store.record import AuditSpan, Record

#: Rows of one slice; each is checked against its hash, which is most of its price.
SLICE_ROWS: Final = 256


class Query(Struct, frozen=True, kw_only=True):
    """What a record must fit; "" and 0 fit everything. `since_ms` <= time < `until_ms`."""

    session: str = ""
    kind: str = ""
    project: str = ""
    since_ms: int = 0
    until_ms: int = 0
    newest_first: bool = True

    def fits(self, record: Record) -> bool:
        """Whether it does."""
        return (
            (not self.session or record.session == self.session)
            and (not self.kind or record.kind == self.kind)
            and (not self.project or record.project == self.project)
            and record.time_ms >= self.since_ms
            and (not self.until_ms or record.time_ms < self.until_ms)
        )


class Slice(Struct, frozen=True):
    """What one look found. `reached`: the last id looked at, or where it began. `done`: nothing is left behind it now.
    `bytes`: about what the records will be in an answer.
    """

    records: list[AuditRecord]
    bytes: int
    reached: int
    looked: int
    done: bool
    span: AuditSpan


def look(engine: Engine, query: Query, position: int, *, records_max: int, bytes_max: int) -> Slice:
    """Go on behind `position` (an id; 0: from the end that `query` begins with), over at most SLICE_ROWS rows."""
    floor = engine.audit_since(query.since_ms) if query.since_ms > 0 else 1
    if query.newest_first:
        rows = engine.audited(after=floor - 1, before=position, limit=SLICE_ROWS, newest_first=True)
    else:
        rows = engine.audited(after=max(position, floor - 1), before=0, limit=SLICE_ROWS, newest_first=False)
    found: list[AuditRecord] = []
    size = looked = 0
    for row in rows:
        if len(found) == records_max or (found and size > bytes_max):
            break
        looked += 1
        if query.fits(row.record):
            found.append(shown(row))
            size += 2 * row.record.size  # the names of the fields
    reached = rows[looked - 1].id if looked else position
    return Slice(found, size, reached, looked, looked == len(rows) < SLICE_ROWS, engine.audit_span())
