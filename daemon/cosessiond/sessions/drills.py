"""A crash that is only played, for whoever wants to see what a real one does: of a session that allows it.

Every instance of the session counts as over; all else is as it is seen, the verdict is that of the real rules, and what
follows from it goes the real way: the ephemeral entries, the claims, whoever watches. Record, audit and explanation say
that it was a drill. The process is not touched: nothing is killed that the daemon did not start, and a program under a
drill is to see what one sees that was taken for dead. It may come back like any such, by registering again.

Rule: pure; no clock, no process, no store.
"""

from __future__ import annotations

from msgspec.structs import replace

from cosession.errors import NotAllowed
from cosession.model import Session
from cosessiond.sessions.records import moved
from cosessiond.sessions.verdict import Evidence, Policy, ProcessSignal


def simulated(session: Session, evidence: Evidence, policy: Policy, now_s: float) -> Session:
    """The record of a live session after its crash was simulated. Raises NotAllowed unless it allows that.

    `evidence.processes` follow `session.instances`, as for `records.moved`.
    """
    if not session.drills:
        raise NotAllowed(
            f"cannot simulate a crash of session {session.id}: it does not allow drills; register one that does "
            "(drills=True), and use that"
        )
    over = tuple(
        ProcessSignal("drill", f"counts as over for a drill; in truth {s.evidence}") for s in evidence.processes
    )
    crashed = moved(session, replace(evidence, processes=over), policy, now_s)
    assert crashed is not None, "a live session whose instances are all over is to end"
    return replace(crashed, drilled=True)
