"""Makes a failing run smaller while it still fails the same oracle: fewer faults, fewer clients, plainer limits.

Rule: greedy and bounded; every step is a whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, Final

from simulation.knobs import Knobs

RUNS_MAX: Final = 120
#: Whether a run of these knobs still fails.
Fails = Callable[[Knobs], bool]


def shrink(knobs: Knobs, fails: Fails) -> Knobs:
    """The smallest failing knobs that were found."""
    left = RUNS_MAX
    again = True
    while again:
        again = False
        for smaller in _smaller(knobs):
            if left == 0:
                return knobs
            left -= 1
            if fails(smaller):
                knobs, again = smaller, True
                break
    return knobs


def _smaller(knobs: Knobs) -> Iterator[Knobs]:
    for share in (0.25, 0.5, 0.8, 0.95):
        yield replace(knobs, duration_s=knobs.duration_s * share)
    for fault in sorted(knobs.faults):
        yield replace(knobs, faults=knobs.faults - {fault})
    if knobs.clients > 1:
        yield replace(knobs, clients=knobs.clients - 1)
    plain = Knobs(seed=knobs.seed)
    for field in fields(Knobs):
        value: Any = getattr(plain, field.name)
        if field.name not in ("duration_s", "faults", "clients", "engine") and getattr(knobs, field.name) != value:
            yield replace(knobs, **{field.name: value})
