"""The five-layer verdict: what is known about a session goes in, what it is comes out.

Layers 1 (process) and 2 (heartbeat) decide liveness. Layer 5 (graceful close) decides closed or crashed once the
session is dead, and an explicit close ends it whether or not its process lives on. Layers 3 (checkpoint) and 4 (disk)
decide what could be recovered, never liveness. Of `RULES` the first that holds decides; each is named, and its name
and sentence are what a record and `cosession explain` show.

Rule: pure. No clock, no process, no store: whoever calls has looked already (`probes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from cosession.model import TERMINAL_STATES, SessionState

ProcessKind = Literal["alive", "gone", "reused", "zombie", "rebooted", "drill", "not_judgeable"]
CheckpointKind = Literal["valid", "damaged", "none", "unknown"]
Liveness = Literal["alive", "suspect", "dead", "unknown"]
Ending = Literal["none", "closed", "superseded", "crashed", "lost"]
Recoverability = Literal["full", "blocked", "damaged", "none", "unknown"]

#: `drill`: taken for over because somebody wants to see what follows, see `drills`.
OVER: Final[tuple[ProcessKind, ...]] = ("gone", "reused", "zombie", "rebooted", "drill")


class ProcessSignal(Struct, frozen=True):
    """Layer 1 of one instance: what was seen, in words too, and what looking cost."""

    kind: ProcessKind
    evidence: str = ""
    cost_ms: float = 0.0


class CheckpointSignal(Struct, frozen=True):
    """Layer 3: the newest checkpoint."""

    kind: CheckpointKind
    evidence: str = ""
    cost_ms: float = 0.0


class DiskSignal(Struct, frozen=True):
    """Layer 4: free space under the state directory; `free_bytes` is -1 when it could not be read."""

    free_bytes: int
    enough: bool
    evidence: str = ""
    cost_ms: float = 0.0


class Evidence(Struct, frozen=True, kw_only=True):
    """Everything a verdict rests on. `state` is the recorded one; `silent_s` counts from the last sign of life."""

    state: SessionState = "active"
    processes: tuple[ProcessSignal, ...] = ()
    heartbeat_s: float = 0.0
    silent_s: float = 0.0
    checkpoint: CheckpointSignal = CheckpointSignal("none")
    disk: DiskSignal = DiskSignal(-1, True)
    closed: bool = False
    superseded_by: str = ""


class Policy(Struct, frozen=True, kw_only=True):
    """The three numbers of the cascade: heartbeats missed until suspect, silence until idle, silence until lost."""

    missed_max: int = 3
    idle_after_s: float = 300.0
    lost_after_s: float = 7200.0


class Verdict(Struct, frozen=True, kw_only=True):
    """The three answers, the state they make, the rule that decided ("name: sentence"), one line per signal."""

    liveness: Liveness
    ending: Ending
    recoverability: Recoverability
    state: SessionState
    rule: str
    evidence: tuple[str, ...]


class Facts(NamedTuple):
    """Evidence reduced to what the rules ask for. `process`: of all instances together; `unheard`: for so long that,
    without a process to look at, nothing is known any more.
    """

    recorded: SessionState
    process: Literal["lives", "over", "unknown"]
    promise: Literal["none", "kept", "missed"]
    quiet: bool
    unheard: bool
    closed: bool
    superseded: bool


class Rule(NamedTuple):
    """One row. `ending` and `state` None: as recorded."""

    name: str
    holds: Callable[[Facts], bool]
    ending: Ending | None
    state: SessionState | None
    sentence: str


POLICY: Final = Policy()

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "ended",
        lambda f: f.recorded in TERMINAL_STATES,
        None,
        None,
        "an ended session stays as it ended until a new instance registers it again",
    ),
    Rule(
        "superseded",
        lambda f: f.superseded,
        "superseded",
        "superseded",
        "its process went on with another session, which replaced it",
    ),
    Rule(
        "closed",
        lambda f: f.closed,
        "closed",
        "closed",
        "an explicit close ends a session whether or not its process lives on",
    ),
    Rule(
        "process-over",
        lambda f: f.process == "over",
        "crashed",
        "crashed",
        "every instance is over and the session was not closed",
    ),
    Rule(
        "heartbeat-missed",
        lambda f: f.promise == "missed" and not (f.unheard and f.process == "unknown"),
        "none",
        "suspect",
        "it promised heartbeats and missed them; nothing shows that it is over",
    ),
    Rule(
        "heartbeat-kept",
        lambda f: f.promise == "kept",
        "none",
        "active",
        "it keeps its promise of heartbeats",
    ),
    Rule(
        "lost",
        lambda f: f.process == "unknown" and f.unheard,
        "lost",
        "lost",
        "its processes cannot be judged from here and it has been silent too long",
    ),
    Rule(
        "idle",
        lambda f: f.quiet,
        "none",
        "idle",
        "it promised nothing and is silent; silence alone ends nothing",
    ),
    Rule(
        "active",
        lambda _: True,
        "none",
        "active",
        "it showed activity a short time ago",
    ),
)


def judge(evidence: Evidence, policy: Policy = POLICY) -> Verdict:
    """The verdict, by the first rule that holds."""
    found = facts_of(evidence, policy)
    rule = next(rule for rule in RULES if rule.holds(found))
    state = rule.state or evidence.state
    return Verdict(
        liveness=liveness_of(found),
        ending=rule.ending or _ending_of(state),
        recoverability=recoverability_of(evidence),
        state=state,
        rule=f"{rule.name}: {rule.sentence}",
        evidence=lines_of(evidence, policy),
    )


def facts_of(evidence: Evidence, policy: Policy) -> Facts:
    """What the rules ask for."""
    promised = evidence.heartbeat_s > 0
    missed = promised and evidence.silent_s >= policy.missed_max * evidence.heartbeat_s
    kinds = [signal.kind for signal in evidence.processes]
    return Facts(
        recorded=evidence.state,
        process="lives" if "alive" in kinds else "over" if kinds and all(kind in OVER for kind in kinds) else "unknown",
        promise="missed" if missed else "kept" if promised else "none",
        quiet=evidence.silent_s >= policy.idle_after_s,
        unheard=evidence.silent_s >= policy.lost_after_s,
        closed=evidence.closed,
        superseded=bool(evidence.superseded_by),
    )


def liveness_of(found: Facts) -> Liveness:
    """Layers 1 and 2 and nothing else; also of a session that has ended, whose process may live on."""
    if found.process == "over":
        return "dead"
    if found.process == "unknown" and found.unheard and found.promise != "kept":
        return "unknown"
    if found.promise == "missed":
        return "suspect"
    heard = found.promise == "kept" or not found.quiet
    return "alive" if found.process == "lives" or heard else "unknown"


def recoverability_of(evidence: Evidence) -> Recoverability:
    """Layers 3 and 4: `blocked` is a valid checkpoint on a disk too full to go on from it."""
    if evidence.checkpoint.kind == "valid":
        return "full" if evidence.disk.enough else "blocked"
    return evidence.checkpoint.kind


def next_silence_s(evidence: Evidence, policy: Policy = POLICY) -> float | None:
    """The silence, above the present one, at which the verdict may change by time alone; None when it cannot."""
    if evidence.state in TERMINAL_STATES:
        return None
    missed_s = policy.missed_max * evidence.heartbeat_s
    moments = [missed_s if evidence.heartbeat_s > 0 else policy.idle_after_s]
    if not any(signal.kind == "alive" for signal in evidence.processes):
        moments.append(max(missed_s, policy.lost_after_s))
    return min((moment for moment in moments if moment > evidence.silent_s), default=None)


def lines_of(evidence: Evidence, policy: Policy = POLICY) -> tuple[str, ...]:
    """One line per signal, in the order of the cascade."""
    processes = [f"process: {spoken(signal.kind)}: {signal.evidence}" for signal in evidence.processes]
    return (
        *(processes or ["process: none known"]),
        f"heartbeat: {heartbeat_line(evidence, policy)}",
        f"checkpoint: {evidence.checkpoint.evidence or spoken(evidence.checkpoint.kind)}",
        f"disk: {evidence.disk.evidence or ('enough' if evidence.disk.enough else 'too little')}",
        f"close: {close_line(evidence)}",
    )


def heartbeat_line(evidence: Evidence, policy: Policy = POLICY) -> str:
    """Layer 2 in words."""
    if evidence.heartbeat_s <= 0:
        return f"none promised, silent for {evidence.silent_s:.1f} s"
    missed = int(evidence.silent_s / evidence.heartbeat_s)
    promise = f"promised every {evidence.heartbeat_s:g} s, silent for {evidence.silent_s:.1f} s"
    return f"{promise}: {missed} missed, {policy.missed_max} make it suspect"


def close_line(evidence: Evidence) -> str:
    """Layer 5 in words."""
    if evidence.superseded_by:
        return f"replaced by session {evidence.superseded_by}"
    return "closed gracefully" if evidence.closed else "not closed"


def spoken(kind: str) -> str:
    """A kind as people read it."""
    return kind.replace("_", " ")


def worst(signals: Sequence[ProcessSignal]) -> ProcessKind:
    """One word for several instances: alive while one is, over only when all are."""
    kinds: list[ProcessKind] = [signal.kind for signal in signals]
    for kind in ("alive", "not_judgeable"):
        if kind in kinds:
            return kind
    return kinds[-1] if kinds else "not_judgeable"


def _ending_of(state: SessionState) -> Ending:
    return state if state in ("closed", "superseded", "crashed", "lost") else "none"
