"""What a transition writes: the record, what ends with it, what is trimmed beside it, and the compares that guard all.

Rule: reads the view and the store's durable memory, changes neither. A plan is made anew for every attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from cosession.errors import NotAllowed, Overloaded
from cosession.messages.limits import (
    BATCH_WRITES_MAX,
    SESSION_EPHEMERALS_MAX,
    SESSION_INSTANCES_MAX,
    SESSIONS_ENDED_KEPT,
    SESSIONS_LIVE_MAX,
)
from cosession.model import Instance, Session
from cosessiond.sessions.ports import Store
from cosessiond.sessions.records import (
    Held,
    Plan,
    as_read,
    expired,
    is_live,
    put,
    record_id,
    registered,
    superseded,
    unchanged,
)
from cosessiond.sessions.view import View, has_ended
from cosessiond.store.engine import Compare, Delete, Write

#: So many ended sessions beyond what is kept go with one batch; the rest with later ones.
TRIM_MAX: Final = 8

MayReplace = Callable[[str], None]
#: What else ends with a session whose record becomes this one, in at most so many writes: for the same batch.
Belongings = Callable[[Session, int], tuple[list[Compare], list[Write]]]
#: A record to write, with what it was.
Changed = tuple[Held | None, Session]


class SessionLimits(Struct, frozen=True, kw_only=True):
    """The counts of the registry; tests lower them."""

    live_max: int = SESSIONS_LIVE_MAX
    ended_kept: int = SESSIONS_ENDED_KEPT
    instances_max: int = SESSION_INSTANCES_MAX


class Planner:
    """Makes plans from what is durable now."""

    def __init__(self, store: Store, view: View, limits: SessionLimits, belongings: Belongings) -> None:
        self._store = store
        self._view = view
        self._limits = limits
        self._belongings = belongings

    def transition(self, operation: str, target: Session) -> Plan:
        """The plan by which `target` becomes the record of its session."""
        return self._plan(operation, target, [(self._view.get(target.id), target)])

    def registration(
        self,
        wanted: Session,
        now_s: float,
        *,
        opening: int,
        proved: bool,
        switching: bool,
        may_replace: MayReplace | None,
    ) -> Plan:
        """The plan by which `wanted`, with its one instance, is registered. `opening`: registrations under way, this
        one included. `proved`: its session token was presented. `switching`: it says that it comes back. Raises
        what `Registry.register` answers.
        """
        (instance,) = wanted.instances
        held = self._view.get(wanted.id)
        old = held.session if held else None
        other = self._view.live(wanted.replaces) if wanted.replaces else None
        if old:
            _check_reuse(old, instance, proved=proved, switching=switching)
        new = registered(old, wanted, now_s)
        self._check_limits(old, new, opening)
        changed: list[Changed] = [(held, new)] if new != old else []
        if other:
            _check_replace(other.session, instance, may_replace)
            changed.append((other, superseded(other.session, wanted.id, instance, now_s)))
        return self._plan("session.register", new, changed)

    def left_behind(self, session_id: str) -> tuple[list[Compare], list[Write]]:
        """What expires the ephemeral entries of a session, as many as fit into one batch beside its record.

        An entry that may become ephemeral by a batch on its way is compared, too: when it does, this is decided again
        with it, so that none outlives the session.
        """
        owned = self._store.owned(session_id)[:SESSION_EPHEMERALS_MAX]
        entries = (self._store.get(id) for id in owned)
        compares, writes = expired(entry for entry in entries if entry is not None)
        for id in self._store.may_own(session_id):
            if id not in owned:
                entry = self._store.get(id)
                compares.append(unchanged(id, entry.mod_revision if entry else 0))
        return compares, writes

    def _plan(self, operation: str, shown: Session, changed: list[Changed]) -> Plan:
        compares: list[Compare] = [as_read(session.id, held) for held, session in changed]
        writes: list[Write] = [put(session) for _, session in changed]
        ending = [session for held, session in changed if held and is_live(held.session) and not is_live(session)]
        for session in ending:
            room = BATCH_WRITES_MAX - TRIM_MAX - len(writes) - len(self._store.owned(session.id))
            for more_compares, more_writes in (
                self.left_behind(session.id),
                self._belongings(session, max(0, room)),
            ):
                compares += more_compares
                writes += more_writes
        for held in self._surplus({session.id for _, session in changed}) if ending else ():
            compares.append(as_read(held.session.id, held))
            writes.append(Delete(record_id(held.session.id)))
        return Plan(shown, tuple(compares), tuple(writes), operation)

    def _surplus(self, spared: set[str]) -> list[Held]:
        """The oldest ended sessions that must go when one more ends."""
        count = min(TRIM_MAX, self._view.ended_count + 1 - self._limits.ended_kept)
        return [held for held in self._view.oldest_ended(count) if held.session.id not in spared]

    def _check_limits(self, old: Session | None, new: Session, opening: int) -> None:
        if (old is None or not is_live(old)) and self._view.live_count + opening > self._limits.live_max:
            message = f"cannot register session {new.id}: {self._limits.live_max} sessions are live"
            raise Overloaded(f"{message}; close some, see `cosession sessions`", data={"limit": self._limits.live_max})
        if len(new.instances) > self._limits.instances_max:
            message = f"cannot add an instance to session {new.id}: it has {self._limits.instances_max}"
            raise Overloaded(f"{message}; end one of them first", data={"limit": self._limits.instances_max})


def _check_reuse(old: Session, instance: Instance, *, proved: bool, switching: bool) -> None:
    """Whether `instance` may register a session that exists.

    A process that cannot be judged needs the session token to come to a session that it is not known to be part of.
    Ended is ended for the instances it ended with, so that a late re-attach does not undo a close; but a process that
    names the session it comes back from (`switching`) means it, and one that was taken for dead or lost proves the
    opposite by calling.
    """
    known = instance in old.instances and instance.start_time > 0
    if not instance.judgeable and not known and not proved:
        message = f"cannot register session {old.id}: it exists, and your process is not visible here"
        raise NotAllowed(f"{message}; pass its session token in $COSESSION_TOKEN")
    if old.state in ("closed", "superseded") and instance in old.instances and not switching:
        raise has_ended(old)


def _check_replace(other: Session, instance: Instance, may_replace: MayReplace | None) -> None:
    # Processes that are not visible here (pid 0, start time 0) look all the same: one of them is no proof.
    if instance.start_time > 0 and instance in other.instances:
        return
    if may_replace is None:
        message = f"cannot replace session {other.id}: process {instance.pid} is none of its instances"
        raise NotAllowed(f"{message}; close it instead")
    may_replace(other.id)
