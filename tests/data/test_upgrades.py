"""Upgrades: a backup before a migration, which is one transaction, killed anywhere; and the way back from it (P15)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosessiond.maintenance import keeping, upgrade
from cosessiond.maintenance.task import Task
from cosessiond.store import schema
from cosessiond.store.backup import BackupDirectory, Found
from cosessiond.store.migrations import MIGRATIONS, SCHEMA
from data import states, upgrades
from harness import Daemon
from process import killing
from process.maintaining import done
from process.starting import EXIT_CONFIG, refusal, tree
from rawclient import Pack

#: Of each store, in a test; tests/process/prove_acts.py has them all.
SAMPLED = 1


def named(store: states.Committed) -> str:
    return f"{store.schema}-{store.variant}"


@pytest.fixture(params=upgrades.OLDER, ids=named)
def store(request: pytest.FixtureRequest) -> states.Committed:
    return request.param


def backups_of(home: Path) -> list[Found]:
    directory = BackupDirectory(home / "state")
    try:
        return directory.found()
    finally:
        directory.close()


def test_before_a_migration_there_is_a_backup_of_what_was(home: Path, store: states.Committed) -> None:
    states.copy_store(store.place, home / "state")
    with Daemon(home) as daemon:
        assert upgrades.content(daemon.socket, store.load(), store) == []
        assert upgrades.kept(home / "state", store.load(), store.schema) == []
    (kept,) = [each for each in backups_of(home) if each.name.endswith("-migration")]
    if store is not upgrades.OLDER[0]:
        return
    with Daemon(home):
        pass
    assert [each.name for each in backups_of(home) if each.name.endswith("-migration")] == [kept.name], "not again"


def test_a_store_of_this_schema_or_none_needs_no_backup(home: Path) -> None:
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
    assert [each.name for each in backups_of(home) if each.name.endswith("-migration")] == []


@pytest.mark.parametrize("store", upgrades.OLDER[:1], ids=named)
def test_the_backup_of_before_can_be_restored(home: Path, store: states.Committed) -> None:
    states.copy_store(store.place, home / "state")
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="since", value=1)
    (kept,) = [each.name for each in backups_of(home) if each.name.endswith("-migration")]
    found = done(home, "restore", kept)
    assert (found["backup"]["schema"], found["backup"]["revision"]) == (store.schema, store.load().revision)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert peer.reply("get", key="since")["entry"] is None


def test_all_migrations_are_one_transaction(home: Path, store: states.Committed, monkeypatch) -> None:
    """The last one fails: nothing of those before it stays."""
    state = home / "state"
    states.copy_store(store.place, state)
    before = states.tables(state)

    def failing(db):
        db.execute("CREATE TABLE halfway (x)")
        raise OSError("no")

    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, failing))
    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 1)
    with pytest.raises(OSError, match="no"):
        schema.open_database(state / "store.db", was_used=True)
    schema._abandoned.clear()  # as the end of its process would
    assert states.tables(state) == before


def test_no_backup_no_migration(home: Path, store: states.Committed) -> None:
    states.copy_store(store.place, home / "state")
    (home / "state" / "backups").write_text("a file in the way")
    before = tree(home / "state", ignored=("daemon.lock",))
    assert str(home / "state" / "backups") in refusal(home, code=EXIT_CONFIG)
    assert tree(home / "state", ignored=("daemon.lock",)) == before


@pytest.mark.parametrize("store", [upgrades.OLDER[0], upgrades.OLDER[-1]], ids=named)
def test_a_migration_that_is_killed_is_done_again_with_nothing_lost(store: states.Committed) -> None:
    """A sample; tests/process/prove_acts.py has them all."""
    if reason := killing.missing():
        pytest.skip(reason)
    found = upgrades.migrating_points(store)
    inside = [point for point in found if "/state/store.db" in point.what]
    assert len(inside) >= 10, "it is in there"
    for point in killing.sample(inside, SAMPLED):
        is_killed, wrong = upgrades.killed(store, point)
        assert is_killed, point
        assert wrong == [], point


# -- seeded mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", upgrades.OLDER[:1], ids=named)
def test_a_migration_in_several_transactions_would_be_noticed(home: Path, store: states.Committed, monkeypatch) -> None:
    """As if each statement were committed: killed in the middle, the tables are neither of the one nor the other."""
    state = home / "state"
    states.copy_store(store.place, state)

    def failing(db):
        db.execute("COMMIT")
        db.execute("ALTER TABLE versions RENAME TO versions_1")
        raise OSError("no")

    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS[: store.schema], failing))
    monkeypatch.setattr(schema, "SCHEMA", store.schema + 1)
    before = states.tables(state)
    with pytest.raises(OSError, match="no"):
        schema.open_database(state / "store.db", was_used=True)
    schema._abandoned.clear()
    assert states.tables(state) != before


@pytest.mark.parametrize("store", upgrades.OLDER[:1], ids=named)
def test_a_backup_of_something_else_would_be_noticed(home: Path, store: states.Committed) -> None:
    state = home / "state"
    states.copy_store(store.place, state)
    with Daemon(home):
        pass
    descriptor = os.open(state, os.O_RDONLY)
    task = Task(state, descriptor, words=[], options={})
    keeping.keep(task, "migration")
    os.close(descriptor)
    wrong = upgrades.kept(state, store.load(), store.schema)
    assert any("of schema" in each for each in wrong)
    assert any("2 backups" in each for each in wrong)
    assert upgrade.back_up_older(Task(state, -1, words=[], options={})) is None
