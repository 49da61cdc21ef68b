"""Backups under kill -9 in short (P10), and that its judge sees what it is for: each seeded bug is reported."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from durability.backup_sabotage import SABOTAGES
from durability.backupkill import PHASES, Found, Loop

#: A kill that comes late hits nothing; each phase has its turn again.
CYCLES_MAX = 24


def killed(home: Path, sabotage: str = "") -> Found:
    """Kills until each phase was hit; of a seeded bug until something was found wrong."""
    with closing(Loop(home, seed=7, sabotage=sabotage)) as loop:
        while not loop.found.wrong and loop.found.cycles < CYCLES_MAX:
            if not sabotage and all(loop.found.hits.values()):
                break
            loop.cycle()
        return loop.found


def test_no_backup_is_published_wrong_whenever_its_making_is_killed(home: Path) -> None:
    found = killed(home)
    assert found.wrong == []
    assert all(found.hits[phase] for phase in PHASES), found


#: What is said of each bug.
CAUGHT = {
    "named_before_proved": "does not match its hash",
    "named_before_its_manifest": "has its name and is no_manifest",
}


@pytest.mark.parametrize("bug", CAUGHT)
def test_the_judge_catches_a_daemon_whose_backups_are(home: Path, bug: str) -> None:
    found = killed(home, bug)
    assert any(CAUGHT[bug] in word for word in found.wrong), found


def test_the_judge_catches_nothing_where_the_copies_are_damaged_and_proved(home: Path) -> None:
    """What is damaged between copy and proof gets no name, by whatever phase it is killed in."""
    with closing(Loop(home, seed=7, sabotage="damaged")) as loop:
        for _ in PHASES:
            loop.cycle()
    assert (loop.found.wrong, loop.found.published, loop.found.hits["publishing"]) == ([], 0, 0)


def test_every_seeded_bug_is_put() -> None:
    assert set(CAUGHT) == set(SABOTAGES) - {"none", "damaged", "hung"}
