"""The verdict: scripts as data, then the full product of its inputs against what DESIGN 7 promises of every one.

The checker of the product is itself checked: bugs seeded into `judge` must each be found by it.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from cosession.model import LIVE_STATES, TERMINAL_STATES, SessionState
from cosessiond.sessions import verdict
from cosessiond.sessions.verdict import (
    OVER,
    POLICY,
    RULES,
    CheckpointKind,
    CheckpointSignal,
    DiskSignal,
    Evidence,
    ProcessKind,
    ProcessSignal,
    judge,
    next_silence_s,
)

SCRIPT = Path(__file__).with_name("verdicts.txt")
ENOUGH, FULL = DiskSignal(10**9, enough=True), DiskSignal(5, enough=False)


def cases():
    for number, line in enumerate(SCRIPT.read_text().splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            given, expected = line.split("=>")
            yield pytest.param(given.split(), expected.split(), id=f"line{number}")


def evidence_from(words):
    processes, beat, silent, end, recorded, checkpoint, disk = words
    kinds = () if processes == "-" else tuple(processes.split("+"))
    assert set(kinds) <= set(get_args(ProcessKind))
    return Evidence(
        state=recorded,
        processes=tuple(ProcessSignal(kind, f"seen {kind}") for kind in kinds),
        heartbeat_s=float(beat),
        silent_s=float(silent),
        checkpoint=CheckpointSignal(checkpoint),
        disk={"ok": ENOUGH, "full": FULL}[disk],
        closed=end == "closed",
        superseded_by="other" if end == "superseded" else "",
    )


@pytest.mark.parametrize(("given", "expected"), list(cases()))
def test_script(given, expected):
    found = judge(evidence_from(given))
    rule = found.rule.split(":")[0]
    assert [found.state, found.liveness, found.ending, found.recoverability, rule] == expected


def test_every_rule_is_reached_and_told():
    reached = {judge(evidence).rule for evidence in everything()}
    assert reached == {f"{rule.name}: {rule.sentence}" for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_the_evidence_names_every_layer():
    found = judge(evidence_from(["gone+zombie", "20", "61.25", "-", "active", "damaged", "full"]))
    assert found.evidence == (
        "process: gone: seen gone",
        "process: zombie: seen zombie",
        "heartbeat: promised every 20 s, silent for 61.2 s: 3 missed, 3 make it suspect",
        "checkpoint: damaged",
        "disk: too little",
        "close: not closed",
    )


# The full product.

SILENCES = (0.0, 59.9, 60.0, 299.9, 300.0, 7199.9, 7200.0, 1e9)
PROCESSES = [
    tuple(ProcessSignal(kind) for kind in kinds)
    for count in range(3)
    for kinds in combinations_with_replacement(get_args(ProcessKind), count)
]
RECOVERY = [(CheckpointSignal(kind), disk) for kind in get_args(CheckpointKind) for disk in (ENOUGH, FULL)]


def everything():
    """Every combination of the inputs, with the values around each threshold."""
    ends = ((False, ""), (True, ""), (False, "other"), (True, "other"))
    for processes, beat, silent, (closed, by), state in product(
        PROCESSES, (0.0, 20.0, 3600.0), SILENCES, ends, get_args(SessionState)
    ):
        yield Evidence(
            state=state, processes=processes, heartbeat_s=beat, silent_s=silent, closed=closed, superseded_by=by
        )


def broken(judge, evidence):
    """Which promises of DESIGN 7 this judgement of `evidence` breaks, by name."""
    found = judge(evidence, POLICY)
    kinds = [signal.kind for signal in evidence.processes]
    alive, over = "alive" in kinds, bool(kinds) and set(kinds) <= set(OVER)
    ended, explicit = evidence.state in TERMINAL_STATES, evidence.closed or bool(evidence.superseded_by)
    promised = evidence.heartbeat_s > 0
    missed = promised and evidence.silent_s >= 3 * evidence.heartbeat_s
    claims = {
        "terminal is sticky": not ended or found.state == found.ending == evidence.state,
        "an explicit close ends": ended or not explicit or found.state in ("closed", "superseded"),
        "nothing is closed without a close": ended or explicit or found.state not in ("closed", "superseded"),
        "all instances over is dead": (found.liveness == "dead") == over,
        "dead and not closed is crashed": ended or explicit or (found.state == "crashed") == over,
        "alive and no promise is never terminal": ended
        or explicit
        or not alive
        or promised
        or found.state in LIVE_STATES,
        "a living process never ends by itself": ended or explicit or not alive or found.state in LIVE_STATES,
        "silence below three heartbeats is not suspect": missed or found.state != "suspect" or ended,
        "three missed is suspect": ended or explicit or over or not missed or found.state in ("suspect", "lost"),
        "lost needs two hours and nothing to look at": found.state != "lost"
        or ended
        or (not alive and not over and evidence.silent_s >= 7200),
        "two hours of silence and nothing to look at is lost": ended
        or explicit
        or alive
        or over
        or evidence.silent_s < 7200
        or (promised and not missed)
        or found.state == "lost",
        "idle is for those that promised nothing": found.state != "idle" or ended or not promised,
        "no promise, alive, 300 s: idle": ended
        or explicit
        or promised
        or not alive
        or (found.state == "idle") == (evidence.silent_s >= 300),
        "the ending is that of the state": found.ending == (found.state if found.state in TERMINAL_STATES else "none"),
        "unknown is not alive and not dead": found.liveness != "unknown" or not (alive or over),
    }
    return {name for name, holds in claims.items() if not holds}


def broken_by_recovery(judge, evidence):
    """Whether layers 3 and 4 change anything but recoverability, or recoverability depends on anything else."""
    base = judge(evidence, POLICY)
    for checkpoint, disk in RECOVERY:
        found = judge(replace(evidence, checkpoint=checkpoint, disk=disk), POLICY)
        if (found.liveness, found.ending, found.state, found.rule) != (
            base.liveness,
            base.ending,
            base.state,
            base.rule,
        ):
            return {"layers 3 and 4 never change liveness"}
        expected = ("full" if disk.enough else "blocked") if checkpoint.kind == "valid" else checkpoint.kind
        if found.recoverability != expected:
            return {"recoverability is layers 3 and 4"}
    return set()


def all_broken(judge):
    found = set()
    for number, evidence in enumerate(everything()):
        found |= broken(judge, evidence)
        if number % 7 == 0:  # one in seven is enough for eight combinations each; the state moves on with every one
            found |= broken_by_recovery(judge, replace(evidence, state=get_args(SessionState)[number // 7 % 7]))
    return found


def test_the_promises_hold_for_every_combination():
    assert all_broken(judge) == set()


def early_suspect(evidence, policy):
    return judge(evidence, replace(policy, missed_max=2))


def disk_decides(evidence, policy):
    found = judge(evidence, policy)
    return found if evidence.disk.enough else replace(found, liveness="dead", state="crashed", ending="crashed")


def damage_kills(evidence, policy):
    return judge(replace(evidence, silent_s=1e9) if evidence.checkpoint.kind == "damaged" else evidence, policy)


def terminal_reopens(evidence, policy):
    alive = any(signal.kind == "alive" for signal in evidence.processes)
    return judge(replace(evidence, state="active") if alive else evidence, policy)


def first_death_kills(evidence, policy):
    dead = tuple(signal for signal in evidence.processes if signal.kind in OVER)
    return judge(replace(evidence, processes=dead or evidence.processes), policy)


def reused_counts_as_alive(evidence, policy):
    signals = tuple(ProcessSignal("alive") if s.kind == "reused" else s for s in evidence.processes)
    return judge(replace(evidence, processes=signals), policy)


def silence_kills(evidence, policy):
    found = judge(evidence, policy)
    return replace(found, state="lost", ending="lost") if found.state == "idle" and evidence.silent_s > 1e6 else found


def close_waits_for_death(evidence, policy):
    alive = any(signal.kind == "alive" for signal in evidence.processes)
    return judge(replace(evidence, closed=False) if alive else evidence, policy)


def crash_beats_close(evidence, policy):
    found = judge(evidence, policy)
    crashed = found.liveness == "dead" and evidence.state in LIVE_STATES
    return replace(found, state="crashed", ending="crashed") if crashed else found


def lost_early(evidence, policy):
    return judge(evidence, replace(policy, lost_after_s=7000.0))


def never_lost(evidence, policy):
    return judge(evidence, replace(policy, lost_after_s=1e99))


def idle_late(evidence, policy):
    return judge(evidence, replace(policy, idle_after_s=301.0))


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        (early_suspect, "silence below three heartbeats is not suspect"),
        (disk_decides, "layers 3 and 4 never change liveness"),
        (damage_kills, "layers 3 and 4 never change liveness"),
        (terminal_reopens, "terminal is sticky"),
        (first_death_kills, "a living process never ends by itself"),
        (reused_counts_as_alive, "all instances over is dead"),
        (silence_kills, "alive and no promise is never terminal"),
        (close_waits_for_death, "an explicit close ends"),
        (crash_beats_close, "an explicit close ends"),
        (lost_early, "lost needs two hours and nothing to look at"),
        (never_lost, "two hours of silence and nothing to look at is lost"),
        (idle_late, "no promise, alive, 300 s: idle"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_seeded_bug_is_found(bug, name):
    assert name in all_broken(bug)


@pytest.mark.parametrize("index", range(len(RULES)), ids=[rule.name for rule in RULES])
def test_a_missing_rule_is_found(monkeypatch, index):
    """No row of the table is there for nothing: without it the checker or the judgement itself fails."""
    monkeypatch.setattr(verdict, "RULES", RULES[:index] + RULES[index + 1 :])
    if index == len(RULES) - 1:
        with pytest.raises(StopIteration):
            all_broken(judge)
    else:
        assert all_broken(judge)


def test_between_the_announced_silences_nothing_changes():
    """`next_silence_s` never sleeps through a change: the deadline of a session stands on it."""
    for evidence in everything():
        state = judge(evidence).state
        later_s = next_silence_s(evidence)
        assert later_s is None or later_s > evidence.silent_s
        for silent_s in SILENCES:
            if evidence.silent_s < silent_s and (later_s is None or silent_s < later_s):
                assert judge(replace(evidence, silent_s=silent_s)).state == state
