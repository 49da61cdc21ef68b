"""The journal: where the rest of the daemon says what is to be recorded, and which of it is.

Records of batches travel with them (`records_of`). What has no batch, a denial or an act about the daemon itself, goes
alone with the next group. A peer can make both without end, so they have a pace, denials per connection and over all,
acts by what they are; and those that are not written down are counted in the next that is.

Rule: it decides and hands on; it never waits, and nothing fails because of it.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from cosession.errors import CosessionError
from cosession.messages import Request
from cosession.messages.limits import (
    AUDIT_ACTS_MAX,
    AUDIT_DENIALS_ALL_MAX,
    AUDIT_DENIALS_MAX,
    SESSION_ID_BYTES_MAX,
)
from cosession.model import GLOBAL
from cosessiond.audit import batches
from cosessiond.audit.pace import Pace
from cosessiond.audit.records import Admin, Caller, Denial, cut, record
from cosessiond.clock import Clock
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Batch, Entry, EntryId
from cosessiond.store.record import Record

#: Errors that are denials: somebody wanted what is not theirs. A conflict is none, nor is a limit.
DENIALS: Final = frozenset({"not_allowed", "session_ended", "claimed", "fenced"})
#: Seconds until a connection may have one more denial written down, and until any may.
DENIAL_EVERY_S: Final = 10.0
DENIAL_ALL_EVERY_S: Final = 1.0
#: Seconds until one more act of a kind may be written down.
ACT_EVERY_S: Final = 60.0
#: Acts that no peer can repeat: each is one life of the daemon, or what was found in it.
UNPACED: Final = frozenset({"start", "stop", "admin.stop", "damage"})
#: The names in a request that a record may repeat: whom it is for, and what about.
_SESSIONS: Final = ("session", "id")
_SUBJECTS: Final = ("key", "prefix")


class Store(Protocol):
    """The store as the journal needs it."""

    @property
    def revision(self) -> int:
        """The last durable revision."""
        ...

    def get(self, id: EntryId, /) -> Entry | None:
        """The entry as it is durable now."""
        ...

    def note(self, record: Record, /) -> None:
        """Queue a record that goes alone."""
        ...


class Journal:
    """The one journal of a daemon."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._all = Pace(AUDIT_DENIALS_ALL_MAX, DENIAL_ALL_EVERY_S, clock.monotonic())
        self._door = self.pace()
        self._acts: dict[str, Pace] = {}  # by operation, of which there are as many as the code names

    def pace(self) -> Pace:
        """The pace of one connection."""
        return Pace(AUDIT_DENIALS_MAX, DENIAL_EVERY_S, self._clock.monotonic())

    def records_of(self, batch: Batch) -> tuple[Record, ...]:
        """What is recorded with a batch."""
        return batches.records_of(batch, self._store.get)

    def denied(self, pace: Pace, caller: Caller, request: Request[Any], error: CosessionError) -> None:
        """A request was refused for what it wanted, not for how it was written."""
        holder, target = in_the_way(error)
        named = next(filter(None, (getattr(request, name, "") for name in _SESSIONS)), "")
        session = named if self._is_known(named) else ""  # anything may stand there, also what is secret
        self._deny(
            pace,
            operation=request.method,
            outcome=error.code,
            caller=caller,
            session=session or caller.session,
            project=getattr(request, "project", ""),
            subject=target or next(filter(None, (getattr(request, name, "") for name in _SUBJECTS)), ""),
            holder=holder,
        )

    def turned_away(self, uid: int, pid: int) -> None:
        """Another user was at the door."""
        self._deny(self._door, operation="connect", outcome="not_allowed", caller=Caller(instance=str(pid)), uid=uid)

    def left(self, pace: Pace, caller: Caller) -> None:
        """A connection is gone; what was held back of it is told now, or by the next denial of anybody."""
        if not pace.held_back:
            return
        if self._all.allows(self._clock.monotonic()):
            self._write(pace, operation="disconnect", outcome="suppressed", caller=caller, session=caller.session)
        else:
            self._all.held_back += pace.held_back

    def acted(
        self,
        operation: str,
        *,
        caller: Caller = Caller(),  # noqa: B008 - a frozen struct
        outcome: str = "ok",
        project: str = "",
        subject: str = "",
        follows: bool = False,
    ) -> bool:
        """Something was done about the daemon itself, or to what it keeps beside any batch; whether it is written down.

        `follows`: it tells how something ended whose beginning was, so it is written in any case.
        """
        suppressed = 0
        if operation not in UNPACED and not follows:
            now_s = self._clock.monotonic()
            pace = self._acts.setdefault(operation, Pace(AUDIT_ACTS_MAX, ACT_EVERY_S, now_s))
            if not pace.allows(now_s):
                pace.held_back += 1
                self._metrics.count("audit.suppressed")
                return False
            suppressed = pace.take()
        self._store.note(
            record(
                self._clock.wall_ms(),
                Admin(revision=self._store.revision, suppressed=suppressed),
                operation=operation,
                outcome=outcome,
                instance=caller.instance,
                project=project,
                session=caller.session,
                subject=subject,
            )
        )
        return True

    def _deny(self, pace: Pace, **what: Any) -> None:
        now_s = self._clock.monotonic()
        if pace.allows(now_s) and self._all.allows(now_s):
            self._write(pace, **what)
        else:
            pace.held_back += 1
            self._metrics.count("audit.suppressed")

    def _write(
        self,
        pace: Pace,
        *,
        operation: str,
        outcome: str,
        caller: Caller,
        session: str = "",
        project: str = "",
        subject: str = "",
        holder: str = "",
        uid: int = -1,
    ) -> None:
        facts = Denial(
            caller=caller.session if caller.session != session else "",
            holder=cut(holder, SESSION_ID_BYTES_MAX),
            uid=uid,
            suppressed=pace.take(),
            suppressed_others=self._all.take(),
        )
        self._store.note(
            record(
                self._clock.wall_ms(),
                facts,
                operation=operation,
                outcome=outcome,
                instance=caller.instance,
                project=project,
                session=session,
                subject=subject,
            )
        )

    def _is_known(self, session: str) -> bool:
        return bool(session) and self._store.get((batches.SESSIONS, GLOBAL, session)) is not None


def in_the_way(error: CosessionError) -> tuple[str, str]:
    """Of a claim that was refused: the session that was in the way first, and the wanted target that it was in the way
    of; "" for any other refusal.
    """
    if error.code != "claimed" or not error.data.get("blockers"):
        return "", ""
    first = error.data["blockers"][0]
    return first["claim"]["session"], first["overlaps"][0][0] if first["overlaps"] else ""
