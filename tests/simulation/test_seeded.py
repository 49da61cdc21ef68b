"""Every oracle can fail: a bug seeded in the daemon is found within some seeds, which are clean without it."""

from __future__ import annotations

import pytest

from simulation.knobs import draw
from simulation.known import new
from simulation.oracles import ORACLES, judge
from simulation.seeded import BUGS, Bug
from simulation.world import run_knobs

SEEDS_MAX = 40


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_seeded_bug_is_found(bug: Bug) -> None:
    assert bug.oracles <= ORACLES.keys()
    for seed in range(SEEDS_MAX):
        knobs = draw(seed, **bug.fixed)
        found = new(judge(run_knobs(knobs, seed_bug=bug.in_daemon, wrap=bug.in_engine)))
        clean = new(judge(run_knobs(knobs)))
        assert not clean, f"seed {seed} is not clean without the bug: {clean[0]}"
        if bug.oracles & {violation.oracle for violation in found}:
            return
    pytest.fail(f"not found in {SEEDS_MAX} seeds")
