"""Something else lies where the daemon keeps its files: it is refused by name and stays as it is, to the byte."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from harness import Daemon
from process.starting import EXIT_CONFIG, LOCK, filled, refusal, serves, tree
from rawclient import Pack


def text_file(path: Path) -> None:
    path.write_text("Dear diary,\n" * 100)


def short_file(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + b"\x10\x00\x01\x01")


def random_file(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def database_of_another_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA application_id = 0x12345678")
        db.execute("CREATE TABLE notes (text TEXT)")
        db.execute("INSERT INTO notes VALUES ('mine')")


def database_of_no_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE entries (key TEXT, value TEXT)")


def database_with_a_log_beside_it(path: Path) -> None:
    """In WAL mode, never checkpointed: its tables are in the -wal alone, and the header says nothing of them."""
    with closing(sqlite3.connect(path.with_suffix(".tmp"), isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE notes (text TEXT)")
        db.execute("INSERT INTO notes VALUES ('mine')")
        shutil.copy(path.with_suffix(".tmp"), path)
        shutil.copy(f"{path.with_suffix('.tmp')}-wal", f"{path}-wal")
    path.with_suffix(".tmp").unlink()


def directory(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("mine")


def link_to_a_store(path: Path) -> None:
    """A real store of ours, but elsewhere."""
    elsewhere = path.parent.parent / "other"
    elsewhere.mkdir(mode=0o700)
    filled(elsewhere)
    path.symlink_to(elsewhere / "state" / "store.db")


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.parent / "absent")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))


Foreign = Callable[[Path], None]


def named(foreign: Foreign) -> str:
    return foreign.__name__


@pytest.mark.parametrize(
    "foreign",
    [
        text_file,
        short_file,
        random_file,
        database_of_another_application,
        database_of_no_application,
        database_with_a_log_beside_it,
        directory,
        link_to_a_store,
        link_to_nothing,
        pipe,
        bound_socket,
    ],
    ids=named,
)
def test_a_foreign_thing_in_place_of_the_database_is_refused_and_left_alone(home: Path, foreign: Foreign) -> None:
    state = home / "state"
    state.mkdir(mode=0o700)
    foreign(state / "store.db")
    (home / "run").mkdir(mode=0o700)
    before = tree(home, ignored=LOCK)
    said = refusal(home, code=EXIT_CONFIG)
    assert str(state / "store.db") in said
    assert tree(home, ignored=LOCK) == before


@pytest.mark.parametrize("foreign", [directory, link_to_nothing, link_to_a_store, bound_socket, pipe], ids=named)
@pytest.mark.parametrize("name", ["daemon.lock", "secret"])
def test_a_foreign_thing_in_place_of_a_small_file_is_refused_and_left_alone(
    home: Path, name: str, foreign: Foreign
) -> None:
    state = home / "state"
    state.mkdir(mode=0o700)
    (home / "run").mkdir(mode=0o700)
    foreign(state / name)
    ignored = ["state/store.db", "state/backups", "state/reserve", *(LOCK if name == "secret" else ())]
    before = tree(home, ignored=ignored)
    said = refusal(home, code=EXIT_CONFIG)
    assert str(state / name) in said
    assert tree(home, ignored=ignored) == before


def test_a_newer_schema_is_refused_before_the_file_is_opened(home: Path) -> None:
    filled(home)
    store = home / "state" / "store.db"
    with closing(sqlite3.connect(store)) as db:
        db.execute("PRAGMA user_version = 99")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for leftover in home.glob("state/store.db-*"):
        leftover.unlink()
    before = tree(home, ignored=LOCK)
    said = refusal(home, code=EXIT_CONFIG)
    assert str(store) in said
    assert "schema is 99" in said
    assert "install the newer cosession" in said
    assert tree(home, ignored=LOCK) == before


def test_a_newer_schema_that_only_the_log_knows_of_is_refused(home: Path) -> None:
    """A newer daemon has migrated and was killed before its first checkpoint: the header still says 1."""
    filled(home)
    store = home / "state" / "store.db"
    copy = home / "copy.db"
    shutil.copy(store, copy)
    db = sqlite3.connect(copy, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA user_version = 99")
    shutil.copy(copy, store)
    shutil.copy(f"{copy}-wal", f"{store}-wal")
    db.close()
    for leftover in home.glob("copy.db*"):
        leftover.unlink()
    store.chmod(0o600)
    before = {name: facts[3] for name, facts in tree(home, ignored=LOCK).items()}
    assert "schema is 99" in refusal(home, code=EXIT_CONFIG)
    assert {name: facts[3] for name, facts in tree(home, ignored=LOCK).items()} == before


def test_an_empty_file_is_a_store_that_was_just_begun(home: Path) -> None:
    """A crash while the first start made the file leaves this; there is nothing in it to lose."""
    state = home / "state"
    state.mkdir(mode=0o700)
    (state / "store.db").touch(mode=0o600)
    serves(home, keys=0)


def test_an_empty_file_where_a_store_has_been_is_not_begun_anew(home: Path) -> None:
    """Never start clean by accident: the epoch that clients know has gone with the content."""
    filled(home)
    (home / "state" / "store.db").write_bytes(b"")
    before = tree(home, ignored=LOCK)
    said = refusal(home, code=EXIT_CONFIG)
    assert "store.db" in said
    assert tree(home, ignored=LOCK) == before


def test_a_secret_that_is_cut_is_made_anew_and_the_store_is_served(home: Path) -> None:
    filled(home)
    secret = home / "state" / "secret"
    whole = secret.read_bytes()
    secret.write_bytes(whole[:10])
    serves(home, keys=3)
    assert len(secret.read_bytes()) == len(whole)


@pytest.mark.parametrize("foreign", [text_file, directory, link_to_nothing], ids=named)
def test_a_foreign_thing_at_the_path_of_the_socket_is_refused_and_left_alone(home: Path, foreign: Foreign) -> None:
    filled(home)
    foreign(home / "run" / "d.sock")
    # The store is opened first.
    begun = [*LOCK, "state/store.db", "state/store.db-wal", "state/backups", "state/reserve"]
    before = tree(home, ignored=begun)
    said = refusal(home, code=EXIT_CONFIG)
    assert str(home / "run" / "d.sock") in said
    assert tree(home, ignored=begun) == before
    (home / "run" / "d.sock").rename(home / "away")
    serves(home, keys=3)


def test_foreign_files_beside_ours_are_left_alone(home: Path) -> None:
    filled(home)
    for name in ("state/notes.txt", "state/store.db.bak", "run/other.sock", "note"):
        (home / name).write_text("mine")
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="a", value=1)
    for name in ("state/notes.txt", "state/store.db.bak", "run/other.sock", "note"):
        assert (home / name).read_text() == "mine"
