"""A version that a search does not find is damage, wherever the gap is looked at from: it is never a shorter history.

Rows are taken away through the engine's own connection, which is what a damaged page of an index does without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cosessiond.store import continuity
from cosessiond.store.continuity import EPOCH_STEP, Link, Standing
from cosessiond.store.engine import Scrubbed, StoreDamaged, Window
from cosessiond.store.sqlite import SqliteEngine
from store.engines import EPOCH, commit, delete, id_of, put

#: Of the key "a": two versions, a deletion, three versions. Each with another key between.
MODIFIED = (1, 3, 5, 7, 9, 11)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine.open(tmp_path, window=Window(), new_epoch=lambda: EPOCH)
    for number, revision in enumerate(MODIFIED):
        assert commit(engine, delete("a") if number == 2 else put("a", number)).revision == revision
        commit(engine, put(f"b{number}"), request=f"r{number}")
    assert engine.settle(1_000)
    yield engine
    engine.close()


def lose(engine: SqliteEngine, *revisions: int) -> None:
    """Take versions of "a" away."""
    for revision in revisions:
        found = engine._db.execute("DELETE FROM versions WHERE key = 'a' AND mod_revision = ?", (revision,))
        assert found.rowcount == 1


def looks(engine: SqliteEngine, lost: int) -> dict[str, Callable[[], object]]:
    """Whatever would show that a version is missing."""
    return {
        "history": lambda: engine.history(id_of("a"), 50, 0),
        "a page of history": lambda: engine.history(id_of("a"), 1, lost + 1),
        "a read at its revision": lambda: engine.entry_at(id_of("a"), lost),
        "a range at its revision": lambda: engine.range_at(
            "context", "p", prefix="", after="", limit=50, revision=lost
        ),
    }


def scrubbed(engine: SqliteEngine) -> list[str]:
    """What a whole pass of the scrub finds."""
    at, wrong = Scrubbed("log", 0, ("", "", ""), 0, ()), []
    while at.table:
        at = engine.scrub(at, 4)
        wrong += at.wrong
    return wrong


@pytest.mark.parametrize("lost", MODIFIED)
def test_a_missing_version_is_noticed_by_every_read_that_would_show_it(engine: SqliteEngine, lost: int) -> None:
    lose(engine, lost)
    noticed = {name for name, look in looks(engine, lost).items() if _is_refused(look)}
    assert noticed == set(looks(engine, lost)) - BLIND_SPOTS.get(lost, set())
    assert f"version {lost} of 'a' is not what the log says" in "\n".join(scrubbed(engine))


#: The deletion knows only its life, not how many versions that had; the log knows, and so the scrub does.
BLIND_SPOTS = {3: {"history", "a page of history", "a read at its revision", "a range at its revision"}}


def _is_refused(look: Callable[[], object]) -> bool:
    try:
        look()
    except StoreDamaged:
        return True
    return False


def test_all_versions_of_a_live_entry_missing_are_noticed(engine: SqliteEngine) -> None:
    lose(engine, *MODIFIED)
    for name, look in looks(engine, 11).items():
        assert _is_refused(look), name


def test_what_is_behind_the_tables_joins_on_to_them(engine: SqliteEngine) -> None:
    commit(engine, put("a", "behind"))
    assert [row.mod_revision for row in engine.history(id_of("a"), 50, 0)] == [13, *reversed(MODIFIED)]
    lose(engine, 11)
    for name, look in looks(engine, 11).items():
        assert name == "a range at its revision" or _is_refused(look), name


def test_below_the_log_window_a_gap_is_noticed_too(engine: SqliteEngine) -> None:
    engine.compact(12)
    while engine.trim(100):
        pass
    assert engine.position().compact_revision == 12
    assert scrubbed(engine) == []
    lose(engine, 9)
    with pytest.raises(StoreDamaged, match="before revision 11 is missing"):
        engine.history(id_of("a"), 50, 0)
    assert len(scrubbed(engine)) == 1


def test_a_gap_from_before_the_epoch_is_shown_as_it_is(engine: SqliteEngine) -> None:
    """Salvage leaves such, and has said so."""
    lose(engine, 9)
    engine.begin_epoch("salvaged", known=(), time_ms=0)
    assert [row.mod_revision for row in engine.history(id_of("a"), 50, 0)] == [11, 7, 5, 3, 1]
    commit(engine, put("a", "on"))
    assert [row.mod_revision for row in engine.history(id_of("a"), 50, 0)][1:] == [11, 7, 5, 3, 1]
    assert engine.settle(1_000)
    assert scrubbed(engine) == []


def test_a_whole_store_has_no_gap(engine: SqliteEngine) -> None:
    assert scrubbed(engine) == []
    for revision in range(1, 13):
        for name, look in looks(engine, revision).items():
            assert not _is_refused(look), (name, revision)


def test_the_scrub_sees_surplus_rows_lost_requests_and_another_position(engine: SqliteEngine) -> None:
    engine._db.execute(
        "INSERT INTO entries SELECT space, project, 'z', version, create_revision, mod_revision,"
        " time_ms, session, ttl_ms, owner, hash, value FROM entries WHERE key = 'a'"
    )
    engine._db.execute("DELETE FROM requests WHERE request_id = 'r3'")
    engine._db.execute("UPDATE meta SET log_bytes = log_bytes + 1")
    found = "\n".join(scrubbed(engine))
    assert "an entry 'z' of context that was not committed" in found
    assert "the outcome of request 'r3' is missing" in found
    assert "the record of its position" in found
    engine._db.execute("DELETE FROM entries WHERE key = 'z'")


def test_without_the_checks_a_shorter_history_would_be_served(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeded bug: what the other tests of this file would see."""
    monkeypatch.setattr(continuity, "check", lambda *_, **__: None)
    monkeypatch.setattr(continuity, "check_newest", lambda *_: None)
    lose(engine, 9)
    assert [row.mod_revision for row in engine.history(id_of("a"), 50, 0)] == [11, 7, 5, 3, 1]
    before = engine.entry_at(id_of("a"), 9)
    assert before is not None
    assert before.mod_revision == 7


FIRST, SECOND, GONE, AGAIN = (Link(1, "put", 1, 1), Link(2, "put", 2, 1), Link(3, "delete", 0, 1), Link(4, "put", 1, 4))


@pytest.mark.parametrize(
    ("rows", "is_whole"),
    [
        ([AGAIN, GONE, SECOND, FIRST], True),
        ([AGAIN, GONE, FIRST], True),  # a deletion does not know
        ([AGAIN, SECOND], False),
        ([GONE, AGAIN], False),
        ([AGAIN, GONE], False),
        ([SECOND], False),
        ([Link(3, "put", 3, 1), FIRST], False),
        ([], True),
    ],
)
def test_neighbours(rows: list[Link], *, is_whole: bool) -> None:
    def whole(since: int) -> bool:
        return not _is_refused(lambda: continuity.check(id_of("a"), rows, since=since, is_cut=False))

    assert whole(0) is is_whole
    assert whole(EPOCH_STEP), "nothing is held against what lies before the epoch"


def test_a_key_that_nobody_has_has_no_newest_version() -> None:
    continuity.check_newest(id_of("a"), None, Standing(None, 0))
    continuity.check_newest(id_of("a"), GONE, Standing(None, 0))
    with pytest.raises(StoreDamaged):
        continuity.check_newest(id_of("a"), FIRST, Standing(None, 0))
