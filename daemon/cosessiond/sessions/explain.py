"""Why a session is in the state it is in: each layer of the cascade looked at now, in words, with its cost.

Rule: reads and tells; a verdict that differs from the record is shown beside it, and acted on by `liveness` only.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from cosession.messages.sessions import Layer
from cosession.model import Session
from cosessiond.sessions.records import is_live
from cosessiond.sessions.verdict import (
    Evidence,
    Policy,
    ProcessSignal,
    Verdict,
    close_line,
    facts_of,
    heartbeat_line,
    judge,
    spoken,
    worst,
)


class Explained(Struct, frozen=True):
    """`session` as recorded, `verdict` as it would be now, `layers` in the order of the cascade. `rule` is the one
    that ended the session, or for a live one that of the verdict. `cost_ms`: of all of it, set by who asked for it.
    """

    session: Session
    verdict: Verdict
    rule: str
    layers: tuple[Layer, ...]
    silent_s: float
    cost_ms: float = 0.0


def explain(
    session: Session, evidence: Evidence, policy: Policy, *, heartbeat_ms: float = 0.0, close_ms: float = 0.0
) -> Explained:
    """The explanation that this evidence gives; the costs are those of looking at the two layers in memory."""
    promise = facts_of(evidence, policy).promise
    layers = (
        _process_layer(evidence.processes),
        _layer("heartbeat", promise, heartbeat_line(evidence, policy), heartbeat_ms),
        _layer("checkpoint", evidence.checkpoint.kind, evidence.checkpoint.evidence, evidence.checkpoint.cost_ms),
        _layer("disk", "enough" if evidence.disk.enough else "full", evidence.disk.evidence, evidence.disk.cost_ms),
        _layer("graceful close", _close_signal(evidence), close_line(evidence), close_ms),
    )
    verdict = judge(evidence, policy)
    rule = verdict.rule if is_live(session) else session.reason
    return Explained(session, verdict, rule, layers, evidence.silent_s)


def _process_layer(signals: Sequence[ProcessSignal]) -> Layer:
    lines = "; ".join(signal.evidence for signal in signals) or "no process is recorded"
    return _layer("process", worst(signals), lines, sum(signal.cost_ms for signal in signals))


def _close_signal(evidence: Evidence) -> str:
    if evidence.superseded_by:
        return "superseded"
    return "closed" if evidence.closed else "none"


def _layer(layer: str, signal: str, evidence: str, cost_ms: float) -> Layer:
    return Layer(layer=layer, signal=spoken(signal), evidence=evidence, cost_ms=round(cost_ms, 4))
