"""Every oracle can fail: each seeded bug is told by each oracle it names, and what they name is all oracles.

The seeds that show a bug are clean without it.
"""

from __future__ import annotations

import pytest

from simulation.knobs import draw
from simulation.known import new
from simulation.oracles import ORACLES, judge
from simulation.seeded import BUGS, Bug
from simulation.world import run_knobs

SEEDS_MAX = 40


def _shown(bug: Bug, seed: int) -> set[str]:
    """The oracles that tell of the bug; one that could only say that it is confused does not count."""
    history = run_knobs(draw(seed, **bug.knobs), seed_bug=bug.in_daemon, wrap=bug.in_engine)
    return {violation.oracle for violation in new(judge(history)) if violation.judged}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_seeded_bug_is_told_by_each_oracle_it_names(bug: Bug) -> None:
    missing = set(bug.oracles)
    for seed in (bug.seed, *range(SEEDS_MAX)):
        shown = _shown(bug, seed) & missing
        if shown:
            clean = new(judge(run_knobs(draw(seed, **bug.knobs))))
            assert not clean, f"seed {seed} is not clean without the bug: {clean[0]}"
            missing -= shown
        if not missing:
            return
    pytest.fail(f"not told by {sorted(missing)} in {SEEDS_MAX} seeds")


def test_each_oracle_has_a_seeded_bug() -> None:
    assert {oracle for bug in BUGS for oracle in bug.oracles} == ORACLES.keys()
