"""The corruption matrix in short, and that it sees what is served when a check is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cosessiond.store import continuity, marks, reads, sqlite, walcheck
from durability import corruption
from durability.corruption import Base

#: A few of what `prove_corruption` goes through for minutes; and what it has found: an index that
#: leads to no row, a row without a value, request ids that no search finds.
SEEDS = (1, 2, 3, 10_725, 20_237, 30_214, 40_004)
#: How many of the damages to one file are tried until a seeded bug is seen; it is, far sooner.
TRIED_MAX = 120


@pytest.fixture(scope="module")
def bases() -> Iterator[list[Base]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "WAL_BYTES", corruption.WAL_BYTES)
        yield [corruption.base(killed=killed) for killed in (False, True)]


def test_a_seed_is_always_the_same_damage_to_the_same_store(bases: list[Base]) -> None:
    for killed, base in zip((False, True), bases, strict=True):
        again = corruption.base(killed=killed)
        assert (again.files, again.older, again.epoch) == (base.files, base.older, base.epoch)
        assert "store.db-wal" in again.files or not killed
        assert corruption.damaged(again, 5) == corruption.damaged(base, 5)


def test_damage_to_one_file_is_noticed_or_harmless(bases: list[Base]) -> None:
    found = [corruption.judge(bases[seed % 2], seed) for seed in SEEDS]
    assert [each.what for each in found if each.outcome == "served"] == []
    assert {each.outcome for each in found} >= {"detected"}


def test_an_undamaged_store_has_nothing_to_notice(bases: list[Base], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "KINDS", (lambda _drawn, content, _older: content,))
    for seed, base in enumerate(bases, start=1):
        assert corruption.judge(base, seed).outcome == "harmless"


def rows_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "checked", lambda row: row)


def gaps_unchecked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuity, "check", lambda *_, **__: None)
    patch.setattr(continuity, "check_newest", lambda *_: None)


def mark_unread(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(marks, "judge", lambda *_: None)
    patch.setattr(walcheck, "torn", lambda _: "")


@pytest.mark.parametrize(
    ("bug", "file", "first"),
    [
        (rows_unchecked, "store.db", 401),
        (gaps_unchecked, "store.db", 391),
        (mark_unread, "store.db-wal", 5),
    ],
)
def test_the_matrix_catches(
    bases: list[Base],
    monkeypatch: pytest.MonkeyPatch,
    bug: Callable[[pytest.MonkeyPatch], None],
    file: str,
    first: int,
) -> None:
    bug(monkeypatch)
    seeds = [seed for seed in range(first, first + 2_000) if corruption.damaged(bases[seed % 2], seed)[1] == file]
    assert any(corruption.judge(bases[seed % 2], seed).outcome == "served" for seed in seeds[:TRIED_MAX])
