"""The benchmarks run, on a scale that measures nothing; and a broken promise ends them."""

from __future__ import annotations

import functools

import pytest

from bench import figures, looking, run
from durability.loop import sabotaged

TINY = figures.Scale(
    increments=5,
    crashes=3,
    kills=1,
    entries=300,
    writes=20,
    pace_s=0.001,
    idle_s=0.5,
    rate_s=0.05,
    starts=1,
    commands=1,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(figures, "WATCHERS", (1, 2))
    monkeypatch.setattr(figures, "CLIENTS", (1, 2))
    monkeypatch.setattr(figures, "SESSIONS_AT_ONCE", 3)
    monkeypatch.setattr(looking, "CLIENTS", 1)
    monkeypatch.setattr(looking, "TURNS", 1)


@pytest.mark.parametrize("letter", sorted({**figures.EACH_ROUND, **figures.ONCE}))
def test_every_figure_can_be_measured(letter):
    rows = run.measure(letter, TINY, 1)
    assert rows
    assert {row.figure for each in rows for row in each} == {letter}
    assert all(row.value >= 0 for each in rows for row in each)


def test_a_lost_update_fails_the_run(monkeypatch, capsys):
    monkeypatch.setattr(figures, "served", functools.partial(figures.served, sabotaged("blind_compare")))
    monkeypatch.setattr(figures, "QUICK", TINY)
    assert run.main(["--quick", "--only", "a"]) == 1
    assert "were lost" in capsys.readouterr().err


def test_the_table_shows_the_median_round_and_its_goal():
    rows = [figures.Row(figure="a", name="x", value=value, unit="us", goal="< 2", met=value < 2) for value in (3, 1, 2)]
    middle = run.median(rows)
    assert (middle.value, middle.met) == (2, False)
    assert "MISSED" in run.table({"cores": 1}, [middle])
