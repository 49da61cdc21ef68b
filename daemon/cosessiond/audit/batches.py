"""Which records go with a batch: of every session record that it writes, what the daemon holds to be true from now on,
and one for all letters that it brings to boxes or takes from them unread.

The record of a batch is decided when the batch is submitted, from the same durable memory that the batch was decided
from; its compares guard both. So it is written if the batch is, and is true then.

Rule: pure; from a batch and what stands to records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import UNSET, msgpack

from cosession.model import Session
from cosessiond.audit.records import EVIDENCE_MAX, REASON_BYTES_MAX, Mail, Verdict, cut, evidence_class, record
from cosessiond.store.engine import Batch, Entry, EntryId, Put, Write
from cosessiond.store.record import Record

SESSIONS: Final = "$sessions"
MAIL: Final = "$mail"
#: What a session does with letters that it has; the letters say it themselves.
_READING: Final = frozenset({"mail.deliver", "mail.read"})
_decode = msgpack.Decoder(Session).decode


def records_of(batch: Batch, standing: Callable[[EntryId], Entry | None]) -> tuple[Record, ...]:
    """The records of one batch, in the order of its writes; most batches have none."""
    found = [
        _verdict(batch, write, standing(write.id))
        for write in batch.then
        if write.id[0] == SESSIONS and isinstance(write, Put)
    ]
    letters = [write for write in batch.then if write.id[0] == MAIL]
    if letters and batch.origin.operation not in _READING:
        found.append(_mail(batch, letters))
    return tuple(found)


def _mail(batch: Batch, letters: list[Write]) -> Record:
    came = [write for write in letters if isinstance(write, Put)]
    left = len(letters) - len(came)
    _, project, key = (came or letters)[0].id
    return record(
        batch.time_ms,
        Mail(came=len(came), left=left, bytes=sum(len(put.value) for put in came)),
        operation=batch.origin.operation,
        outcome="sent" if not left else "passed_on" if came else "dropped",
        instance=batch.origin.instance,
        project=project,
        session=batch.origin.session,
        subject=key,
    )


def _verdict(batch: Batch, write: Put, before: Entry | None) -> Record:
    session = _decode(write.value)
    classes = filter(None, map(evidence_class, session.evidence))
    facts = Verdict(
        was=_decode(before.value).state if before is not None else "",
        reason=cut(session.reason, REASON_BYTES_MAX),
        evidence=tuple(dict.fromkeys(classes))[:EVIDENCE_MAX],
        detected_ms=round(session.detected_ms, 3) if session.detected_ms else UNSET,
        drill=session.drilled,
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
