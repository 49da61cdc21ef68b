"""A copy made in steps between commits: whole, of one revision, proved; and never of what is not committed."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cosession._version import __version__
from cosessiond.store import proving, schema, verifying
from cosessiond.store.backup import BackupDirectory, Manifest
from cosessiond.store.copying import Copying
from cosessiond.store.engine import CopyFailed, StoreBroken, Window
from cosessiond.store.sqlite import SqliteEngine
from store.engines import EPOCH, commit, delete, put, trim_all

WINDOW = Window(log_revisions=150)
PREPARED = 190


def fill(engine: SqliteEngine, numbers: range) -> None:
    for number in numbers:
        commit(engine, put(f"k{number % 40:02}", "x" * 3_000 + str(number)), request=f"r{number}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some hundred pages, closed."""
    place = tmp_path_factory.mktemp("prepared")
    with closing(SqliteEngine.open(place, window=WINDOW, new_epoch=lambda: EPOCH)) as found:
        fill(found, range(PREPARED))
    return place


@pytest.fixture
def engine(prepared: Path, tmp_path: Path) -> Iterator[SqliteEngine]:
    """One of its own, the newest of it in the log only."""
    for each in prepared.iterdir():
        shutil.copy(each, tmp_path)
    found = SqliteEngine.open(tmp_path, window=WINDOW, new_epoch=lambda: EPOCH)
    fill(found, range(PREPARED, 200))
    assert found.unsettled_rows
    yield found
    found.close()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[BackupDirectory]:
    found = BackupDirectory(tmp_path)
    yield found
    found.close()


def begin(engine: SqliteEngine, directory: BackupDirectory, *, pages: int = 8, sync_steps: int = 3) -> Copying:
    return Copying(engine._db, directory.partial("x"), directory.begin("x"), pages=pages, sync_steps=sync_steps)


def rest(copying: Copying) -> None:
    while copying.step() != "whole":
        pass
    copying.finish()


def test_what_is_committed_between_steps_is_in_the_copy(engine: SqliteEngine, directory: BackupDirectory) -> None:
    """All kinds of work that the thread does between two steps: commits, settling, checkpoints, trimming."""
    copying = begin(engine, directory)
    number, done = 0, ""
    while done != "whole":
        done = copying.step()
        if done == "more" and number < 30:
            number += 1
            commit(engine, put(f"n{number}", "y" * 2_000), put("k01", number), delete(f"k{number + 1:02}"))
            if number % 11 == 0:
                engine.settle(9)
            if number % 5 == 0:
                engine.move()
            if number % 7 == 0:
                engine.trim(5)
    stood, entries = engine.position(), len(list(engine.entries()))
    assert engine.unsettled_rows, "the copy has to be followed from its log"
    commit(engine, put("later", 1))
    copying.finish()
    proving.compare(proving.prove(directory.partial("x")), stood, entries)
    assert number == 30
    assert stood.revision == 230


def test_a_purge_between_steps_leaves_nothing_in_the_copy(engine: SqliteEngine, directory: BackupDirectory) -> None:
    commit(engine, put("k00", "the secret of the house"))
    copying = begin(engine, directory)
    for _ in range(12):
        copying.step()
    commit(engine, delete("k00"))
    revision = engine.position().revision
    assert engine.purge(("context", "p", "k00"), before=revision + 1, after=0, rows_max=100)
    assert engine.erase()
    rest(copying)
    assert b"the secret of" not in directory.partial("x").read_bytes()
    proving.compare(proving.prove(directory.partial("x")), engine.position(), 39)


def test_a_step_inside_a_transaction_is_refused(engine: SqliteEngine, directory: BackupDirectory) -> None:
    copying = begin(engine, directory)
    copying.step()
    engine._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(AssertionError, match="not committed"):
        copying.step()
    engine._db.execute("ROLLBACK")
    rest(copying)
    proving.compare(proving.prove(directory.partial("x")), engine.position(), 40)


def test_sqlite_itself_copies_nothing_inside_a_transaction(engine: SqliteEngine, directory: BackupDirectory) -> None:
    """Seeded: without the assertion before the step SQLite says that it is busy, and the copy ends."""
    copying = begin(engine, directory)
    copying.step()
    engine._db.execute("BEGIN IMMEDIATE")
    engine._db.execute("DELETE FROM entries")

    class Blind:
        in_transaction = False

    copying._source = Blind()  # type: ignore[assignment]
    with pytest.raises(CopyFailed, match="inside a transaction"):
        copying.step()
    engine._db.execute("ROLLBACK")


def test_a_rollback_of_what_was_written_already_leaves_the_copy_right(
    engine: SqliteEngine, directory: BackupDirectory
) -> None:
    """A transaction too large for the cache is in the WAL, and so in the copy, before it is rolled back."""
    copying = begin(engine, directory)
    for _ in range(12):
        copying.step()
    db = engine._db
    db.execute("PRAGMA cache_size=10")
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE versions SET value = zeroblob(3000)")
    db.execute("ROLLBACK")
    rest(copying)
    proving.compare(proving.prove(directory.partial("x")), engine.position(), 40)


def test_the_copy_is_one_plain_file(engine: SqliteEngine, directory: BackupDirectory) -> None:
    rest(begin(engine, directory))
    path = directory.partial("x")
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("SELECT count(*) FROM log").fetchone() > (0,)
    assert list(directory.path.iterdir()) == [path]


def test_a_copy_can_be_given_up(engine: SqliteEngine, directory: BackupDirectory) -> None:
    copying = begin(engine, directory)
    copying.step()
    assert copying.abandon()
    assert copying.abandon()
    directory.discard("x")
    assert begin(engine, directory).abandon(), "before its first step"
    commit(engine, put("a", 1))


def test_nobody_waits_for_the_sync_of_a_copy_that_is_given_up(
    engine: SqliteEngine, directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may never come back: the store goes on, and can be closed."""
    is_answering = threading.Event()
    monkeypatch.setattr("cosessiond.store.copying.sync", lambda _: is_answering.wait())
    copying = begin(engine, directory)
    while copying.step() != "syncing":
        pass
    assert not copying.abandon()
    commit(engine, put("a", 1))
    engine.settle(10)
    is_answering.set()
    while not copying.abandon():
        pass


def test_a_sync_that_fails_ends_the_copy(
    engine: SqliteEngine, directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cosessiond.store.copying.sync", failing)
    with pytest.raises(CopyFailed) as caught:
        rest(begin(engine, directory))
    assert caught.value.is_full
    directory.discard("x")
    with pytest.raises(CopyFailed):
        rest(begin(engine, directory, sync_steps=0))


def test_a_link_planted_in_its_place_is_not_followed(
    engine: SqliteEngine, directory: BackupDirectory, tmp_path: Path
) -> None:
    aim = tmp_path / "aim"
    aim.write_bytes(b"")
    directory.partial("x").symlink_to(aim)
    with pytest.raises(FileExistsError):
        directory.begin("x")
    directory.discard("x")
    copying = begin(engine, directory)
    directory.partial("x").unlink()
    directory.partial("x").symlink_to(aim)
    with pytest.raises(CopyFailed, match="taken the place"):
        copying.step()
    assert aim.read_bytes() == b""


# -- proving --------------------------------------------------------------------------------------------------------


def back_up(engine: SqliteEngine, directory: BackupDirectory) -> tuple[str, Manifest]:
    return proving.back_up(engine._db, directory, version=__version__, time_ms=1_700_000_000_000, reason="rescue")


def test_a_backup_made_at_once(engine: SqliteEngine, directory: BackupDirectory) -> None:
    name, manifest = back_up(engine, directory)
    assert name == "00000000000000000200-20231114T221320Z-rescue"
    assert (manifest.revision, manifest.entries, manifest.epoch) == (200, 40, EPOCH)
    (found,) = directory.valid()
    assert found.manifest == manifest
    assert not proving.differs(manifest, proving.prove(directory.database(name)))
    again, _ = back_up(engine, directory)
    assert again == "00000000000000000200-20231114T221321Z-rescue", "the next second is free"


def test_a_whole_file_is_backed_up_as_it_is(engine: SqliteEngine, directory: BackupDirectory) -> None:
    """As before a migration: nobody has it open."""
    name, manifest = back_up(engine, directory)
    path = directory.database(name)
    _, copy = proving.back_up(path, directory, version="0", time_ms=0, reason="migration")
    assert (copy.revision, copy.chain_hash, copy.entries) == (200, manifest.chain_hash, 40)


SEEDED = [
    "UPDATE entries SET value = x'01' WHERE key = 'k05'",
    "DELETE FROM entries WHERE key = 'k05'",
    "UPDATE versions SET kind = 'delete' WHERE mod_revision = 120",
    "UPDATE log SET body = x'00' WHERE revision = 199",
    "DELETE FROM log WHERE revision = 199",
    "DELETE FROM log WHERE revision = 130",
    "DELETE FROM log WHERE revision = 200",
    "UPDATE requests SET request_hash = x'01' WHERE revision = 100",
    "UPDATE meta SET revision = revision - 1",
    "UPDATE meta SET state_hash = zeroblob(16)",
    "DELETE FROM meta",
    "DROP INDEX versions_by_key",
    "PRAGMA user_version = 99",
    "PRAGMA application_id = 7",
]


@pytest.mark.parametrize("wrong", SEEDED)
def test_no_row_can_be_wrong_unnoticed(engine: SqliteEngine, directory: BackupDirectory, wrong: str) -> None:
    trim_all(engine)
    name, manifest = back_up(engine, directory)
    path = directory.database(name)
    with closing(sqlite3.connect(path)) as db:
        db.execute(wrong)
        db.commit()
    try:
        facts = verifying.verify(path)
    except (StoreBroken, schema.ConfigError):
        return
    assert proving.differs(manifest, facts), "told by its sum alone"
    assert wrong in ("DELETE FROM log WHERE revision = 200", "DROP INDEX versions_by_key")


def test_no_byte_can_be_wrong_unnoticed(engine: SqliteEngine, directory: BackupDirectory) -> None:
    name, manifest = back_up(engine, directory)
    path = directory.database(name)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            facts = verifying.verify(path)
        except (StoreBroken, schema.ConfigError):
            continue
        assert proving.differs(manifest, facts)
    for size in (0, 99, 4096, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises((StoreBroken, schema.ConfigError)):
            verifying.verify(path)
