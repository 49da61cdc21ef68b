"""Bugs of the daemon that the simulation has found and nobody has mended yet, so that new ones stand out.

Rule: empty is the aim. Each entry has a seed that shows it; when that seed no longer does, the test says so and the
entry goes to `mended`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from simulation.oracles import Violation


@dataclass(frozen=True)
class Known:
    """One bug: the sentence it is known by, why it happens, and a seed that shows it.

    `masked` False: the seeds of the tests do not come near it, and its sentence may mean something else elsewhere.
    """

    pattern: str
    why: str
    seed: int
    fixed: dict[str, Any] = field(default_factory=dict)
    masked: bool = True

    def matches(self, violation: Violation) -> bool:
        """Whether that is this bug."""
        return re.search(self.pattern, str(violation)) is not None


KNOWN: Final[tuple[Known, ...]] = (
    Known(
        "since upkeep was last done",
        "Worker.step: a read that waits comes before upkeep every time, so while reads never run out (64 watches that "
        "catch up are enough) nothing is trimmed and the WAL is not checkpointed, however much is written",
        seed=12,
        fixed={
            "upkeep_every": 4,
            "group_max": 4,
            "think_s": 0.01,
            "duration_s": 3.0,
            "clients": 4,
            "faults": frozenset(),
            "in_flight": 256,
        },
    ),
)


def new(violations: Iterable[Violation]) -> list[Violation]:
    """Those that are none of the known bugs."""
    return [each for each in violations if not any(known.masked and known.matches(each) for known in KNOWN)]
