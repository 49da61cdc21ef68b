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


KNOWN: Final[tuple[Known, ...]] = ()


def new(violations: Iterable[Violation]) -> list[Violation]:
    """Those that are none of the known bugs."""
    return [each for each in violations if not any(known.masked and known.matches(each) for known in KNOWN)]
