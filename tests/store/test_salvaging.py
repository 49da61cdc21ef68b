"""What is read out of the pages of a damaged store: all of it when nothing is damaged, never what was not committed;
and that the judge of this sees it when a check is missing.
"""

from __future__ import annotations

import random
from operator import itemgetter
from unittest import mock

import pytest

from cosessiond.store import carving, reads, salvaging
from cosessiond.store.carving import Pages
from cosessiond.store.salvaging import Salvage
from store.engines import Place, commit, delete, id_of, put, raw

LONG = "x" * 20_000
SEEDS = range(12)
ENTRY_COLUMNS = 12


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One that was closed, and one that was killed; see `filled`."""
    return [filled(tmp_path_factory.mktemp("store"), killed=killed) for killed in (False, True)]


def filled(directory, *, killed):
    """The two files, and every value that each key ever had, by revision; None: a deletion."""
    place = Place("sqlite", directory)
    engine = place.open()
    committed = {}
    for number in range(160):
        key, value = f"k{number % 40:02}", LONG if number in (7, 90) else [number, "v" * (number % 5) * 60]
        is_gone = number in (50, 121, 159)
        revision = commit(engine, delete(key) if is_gone else put(key, value)).revision
        committed[id_of(key), revision] = None if is_gone else raw(value)
        if number % 20 == 0:
            engine.settle(1_000)
        if number == 60:
            engine.move()
    if not killed:
        place.close()
    found = [
        path.read_bytes() if path.exists() else b"" for path in (directory / "store.db", directory / "store.db-wal")
    ]
    place.close()
    return *found, committed


def salvaged(database, log):
    found = Salvage()
    found.take(Pages(database, log).rows())
    found.follow()
    return found


def strange(found, committed):
    """What was never committed and counts as proved."""
    return [id for id, (revision, entry) in found.newest.items() if committed.get((id, revision), 0) != value_of(entry)]


def value_of(entry):
    return None if entry is None else entry.value


def missing(found, committed):
    """What is live and not there, or not the newest."""
    newest = dict(sorted(committed, key=itemgetter(1)))
    return [id for id, revision in newest.items() if found.newest.get(id, (0, None))[0] != revision]


def hit(data, seed):
    changed, drawn = bytearray(data), random.Random(seed)
    for _ in range(len(changed) // 4_000):
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    return bytes(changed)


def judged(stores):
    """Everything wrong that whole stores and damaged ones show."""
    for database, log, committed in stores:
        whole = salvaged(database, log)
        yield from (("missing", id) for id in missing(whole, committed))
        yield from (("gap", gap) for gap in whole.gaps())
        if not log:  # then the table has everything, whatever versions and batches tell
            kept = {columns[:3] for _, columns in Pages(database, log).rows() if len(columns) == ENTRY_COLUMNS}
            yield from (
                ("missing in the table", id) for id, (_, entry) in whole.newest.items() if entry and id not in kept
            )
        for seed in SEEDS:
            yield from (("strange", id) for id in strange(salvaged(hit(database, seed), hit(log, seed)), committed))


def test_nothing_is_missing_and_nothing_strange(stores):
    assert list(judged(stores)) == []


def local_only(_pages, page, at, size, *, is_table):
    """The chain of pages behind a long row is not followed."""
    del is_table
    return page[at : at + size]


BUGS = {
    "chains are not followed": lambda: mock.patch.object(Pages, "_payload", local_only),
    "rows of entries are not checked": lambda: mock.patch.object(salvaging, "row_hash", return_value=mock.ANY),
    "rows of versions are not checked": lambda: mock.patch.object(reads, "checked", lambda row: row),
    "batches are not checked": lambda: mock.patch.object(salvaging, "_links", return_value=True),
    "what is older wins": lambda: mock.patch.object(
        Salvage, "_newer", lambda self, id, revision, entry: self.newest.setdefault(id, (revision, entry))
    ),
    "cells of inner pages are not read": lambda: mock.patch.object(carving, "_INDEX_INTERIOR", -1),
    "the log is not read": lambda: mock.patch.object(carving, "frames_that_hold", return_value=({}, 0)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_judge_catches(stores, bug):
    with BUGS[bug]():
        assert any(judged(stores))
