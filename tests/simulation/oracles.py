"""All oracles by name, and `judge`, which asks each of them about one history.

Rule: an oracle is a pure function of (history, model) that yields one sentence for each thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from simulation import (
    judge_claims,
    judge_mail,
    judge_past,
    judge_reads,
    judge_time,
    judge_turns,
    judge_watches,
    judge_writes,
)
from simulation.history import History
from simulation.model import Model

Oracle = Callable[[History, Model], Iterator[str]]

ORACLES: Final[dict[str, Oracle]] = {
    "answered": judge_reads.answered,
    "durable": judge_writes.durable,
    "dense": judge_writes.dense,
    "acknowledged": judge_writes.acknowledged,
    "refused": judge_writes.refused,
    "once": judge_writes.once,
    "unknown": judge_writes.unknown,
    "in order": judge_writes.in_order,
    "linear": judge_reads.linear,
    "purged": judge_past.purged,
    "turns": judge_turns.turns,
    "unhindered": judge_turns.unhindered,
    "exclusive": judge_claims.exclusive,
    "tokens": judge_claims.tokens,
    "in time": judge_claims.in_time,
    "fenced": judge_claims.fenced,
    "in line": judge_claims.in_line,
    "letters": judge_mail.letters,
    "handed": judge_mail.handed,
    "inbox": judge_mail.inbox,
    "forward": judge_reads.forward,
    "watched": judge_watches.watched,
    "leases": judge_time.leases,
    "ephemerals": judge_time.ephemerals,
    "sessions": judge_time.sessions,
    "noticed": judge_time.noticed,
    "sound": judge_reads.sound,
    "at rest": judge_reads.at_rest,
}
#: Of each oracle no more than this is told: what follows the first is mostly its echo.
TOLD_MAX: Final = 3


class Violation(NamedTuple):
    """One thing that is wrong."""

    oracle: str
    what: str
    judged: bool = True  # False: the history was too broken for this oracle to be asked

    def __str__(self) -> str:
        return f"{self.oracle}: {self.what}"


def judge(history: History) -> list[Violation]:
    """What is wrong with a run; empty when nothing is."""
    model = Model(history.rows, history.calls)
    found: list[Violation] = []
    for name, oracle in ORACLES.items():
        try:
            found += [Violation(name, what) for what in islice(oracle(history, model), TOLD_MAX)]
        except (LookupError, AssertionError) as error:
            found.append(Violation(name, f"cannot judge so broken a history: {error!r}", judged=False))
    return found
