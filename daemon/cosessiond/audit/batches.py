"""Which records go with a batch: of every session record that it writes, what the daemon holds to be true from now on.

The record of a batch is decided when the batch is submitted, from the same durable memory that the batch was decided
from; its compares guard both. So it is written if the batch is, and is true then.

Rule: pure; from a batch and what stands to records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import UNSET, msgpack

from cosession.model import Session
from cosessiond.audit.records import EVIDENCE_MAX, REASON_BYTES_MAX, Verdict, cut, evidence_class, record
from cosessiond.store.engine import Batch, Entry, EntryId, Put
from cosessiond.store.record import Record

SESSIONS: Final = "$sessions"
_decode = msgpack.Decoder(Session).decode


def records_of(batch: Batch, standing: Callable[[EntryId], Entry | None]) -> tuple[Record, ...]:
    """The records of one batch, in the order of its writes; most batches have none."""
    return tuple(
        _verdict(batch, write, standing(write.id))
        for write in batch.then
        if write.id[0] == SESSIONS and isinstance(write, Put)
    )


def _verdict(batch: Batch, write: Put, before: Entry | None) -> Record:
    session = _decode(write.value)
    classes = filter(None, map(evidence_class, session.evidence))
    facts = Verdict(
        was=_decode(before.value).state if before is not None else "",
        reason=cut(session.reason, REASON_BYTES_MAX),
        evidence=tuple(dict.fromkeys(classes))[:EVIDENCE_MAX],
        detected_ms=round(session.detected_ms, 3) if session.detected_ms else UNSET,
    )
    instance = session.instances[-1] if session.instances else None
    return record(
        batch.time_ms,
        facts,
        operation=batch.origin.operation,
        outcome=session.state,
        instance=f"{instance.pid}@{instance.start_time}" if instance is not None else "",
        project=session.project,
        session=session.id,
        subject=session.id,
    )
