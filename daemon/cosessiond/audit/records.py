"""What an audit record may say: the closed list of kinds, a struct of facts for each, and nothing that is not in it.

A record names who, what, about what and with which outcome. It never has a value, a patch, a session token or any
other part of a request but names: of a session, a project, a key, which stand in the history of changes as well.

Rule: pure, and an allow-list: a field is filled from a named source, cut to its bound, and there is no other way in.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType, msgpack

from cosession.messages.limits import (
    AUDIT_BODY_BYTES_MAX,
    METHOD_BYTES_MAX,
    PROJECT_BYTES_MAX,
    SESSION_ID_BYTES_MAX,
)
from cosession.model import AuditRecord
from cosessiond.store.record import KeptRecord, Record

#: Bytes of what a record is about (a key has at most so many) and of a rule in words.
SUBJECT_BYTES_MAX: Final = 512
REASON_BYTES_MAX: Final = 256
#: Lines of evidence of one verdict, by their classes.
EVIDENCE_MAX: Final = 8
#: The layers of evidence that a verdict can rest on, and what that of the process can show. Of the lines of evidence,
#: which may quote what a caller said, only these words are taken.
LAYERS: Final = ("process", "heartbeat", "checkpoint", "disk", "close")
PROCESS_SIGNALS: Final = ("alive", "gone", "reused", "zombie", "rebooted", "drill", "not judgeable")

_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(tuple[str, str, str, str, dict[str, Any]]).decode


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a session that changed its state, or a process of it: the state before ("": it was not there), the rule that
    decided, the layers it rests on, and how long after the first sign of death, in milliseconds. `drill`: it was
    played.
    """

    was: str = ""
    reason: str = ""
    evidence: tuple[str, ...] = ()
    detected_ms: float | UnsetType = UNSET
    drill: bool = False


class Denial(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a refused request: the session of the caller, where that is another one; the session that was in the way of a
    claim; the user, where it is another one; how many denials of this connection were not written down since the last
    that was, and of others that are gone.
    """

    caller: str = ""
    holder: str = ""
    uid: int = -1
    suppressed: int = 0
    suppressed_others: int = 0


class Admin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of an act about the daemon itself: where the store stood. `suppressed` such acts before it were not written."""

    revision: int = 0
    suppressed: int = 0


class Mail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of letters that were sent, passed on to a successor, or dropped with their session: how many came into boxes, how
    many left one, and the bytes of the former; never a word of them.
    """

    came: int = 0
    left: int = 0
    bytes: int = 0


Facts = Verdict | Denial | Admin | Mail
KIND_OF: Final[dict[type[Facts], str]] = {Verdict: "verdict", Denial: "denial", Admin: "admin", Mail: "mail"}


class Caller(Struct, frozen=True):
    """Who asks: a process as `pid@start_time`, and the session its connection registered, "" for none or several."""

    instance: str = ""
    session: str = ""


def record(
    time_ms: int,
    facts: Facts,
    *,
    operation: str,
    outcome: str,
    instance: str = "",
    project: str = "",
    session: str = "",
    subject: str = "",
) -> Record:
    """A record of the kind that its facts are of; every text is cut to its bound."""
    body = _encode(
        (
            cut(operation, METHOD_BYTES_MAX),
            cut(instance, METHOD_BYTES_MAX),
            cut(subject, SUBJECT_BYTES_MAX),
            cut(outcome, METHOD_BYTES_MAX),
            facts,
        )
    )
    assert len(body) <= AUDIT_BODY_BYTES_MAX, "every field is bounded, and together they fit"
    kind = KIND_OF[type(facts)]
    return Record(time_ms, kind, cut(project, PROJECT_BYTES_MAX), cut(session, SESSION_ID_BYTES_MAX), body)


def shown(kept: KeptRecord) -> AuditRecord:
    """A record as clients see it."""
    record = kept.record
    operation, instance, subject, outcome, facts = _decode(record.body)
    return AuditRecord(
        id=kept.id,
        time=record.time_ms / 1000,
        kind=record.kind,
        project=record.project,
        session=record.session,
        operation=operation,
        instance=instance,
        subject=subject,
        outcome=outcome,
        facts=facts,
    )


def evidence_class(line: str) -> str:
    """What sort of evidence a line is, `process gone` or only `heartbeat`; "" for a line that is of no layer."""
    layer, _, rest = line.partition(": ")
    signal = rest.partition(":")[0]
    if layer not in LAYERS:
        return ""
    return f"{layer} {signal}" if layer == "process" and signal in PROCESS_SIGNALS else layer


def cut(text: str, bytes_max: int) -> str:
    """`text`, or as many whole characters of it as fit."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")
