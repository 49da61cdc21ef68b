"""The act `restore` on real files: what it puts in place, what it keeps and refuses; and a real daemon over it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cosessiond.maintenance import swap
from cosessiond.process.sidecar import sealed
from cosessiond.store.epochs import EPOCH_STEP
from cosessiond.store.proving import prove
from data import states
from harness import Daemon, private_home
from process import killing
from process.maintaining import act, done, refused
from process.restoring import (
    NOW,
    REVISION_NOW,
    REVISION_THEN,
    THEN,
    copied,
    epoch_of,
    held,
    killed_restore,
    restore_points,
    settled,
    store_bytes,
    untouched,
    with_backup,
)
from process.starting import EXIT_CONFIG, EXIT_IO, environment, refusal
from process.test_disk_full import mounted
from rawclient import Pack


@pytest.fixture
def backup(home: Path) -> str:
    """The name of the backup in `home`, see `with_backup`."""
    return with_backup(home)


def database(home: Path, name: str) -> Path:
    return home / "state" / "backups" / f"{name}.db"


def test_a_restored_store_is_that_of_the_backup_in_an_epoch_of_its_own(home: Path, backup: str) -> None:
    before, epoch = store_bytes(home / "state"), epoch_of(home)
    found = done(home, "restore", backup)
    assert found["restored"]
    assert found["lost"] == {
        "revisions": REVISION_NOW - REVISION_THEN,
        "entries_gone": 1,
        "entries_back": 1,
        "entries_other": 1,
    }
    assert (found["now"]["revision"], found["backup"]["revision"]) == (REVISION_NOW, REVISION_THEN)
    assert found["revision"] == EPOCH_STEP
    assert store_bytes(Path(found["quarantine"])) == before, "what was there is kept to the byte"
    assert (Path(found["quarantine"]) / swap.REPORT).exists()
    assert prove(database(home, found["safety_backup"])).revision == REVISION_NOW
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        told = peer.call("hello", epoch=epoch, seen_revision=REVISION_NOW)
        assert told.code == "epoch_changed"
        acts = [each for each in peer.reply("audit", kind="admin")["records"] if each["operation"] == "restore"]
        assert [(each["subject"], each["facts"]["revision"]) for each in acts] == [(backup, EPOCH_STEP)]
    assert held(home) == (found["epoch"], THEN, ["before", "then"])
    again = done(home, "restore", found["safety_backup"])
    assert again["revision"] == 2 * EPOCH_STEP, "no revision is given out twice"
    assert held(home) == (again["epoch"], NOW, ["before", "then", "now"])


def test_the_newest_is_meant_by_latest(home: Path, backup: str) -> None:
    newer = done(home, "restore", backup)["safety_backup"]
    assert done(home, "restore", "--latest")["backup"]["name"] == newer
    assert held(home)[1] == NOW


def test_a_trial_says_the_same_and_changes_nothing(home: Path, backup: str) -> None:
    planned = untouched(home, lambda: done(home, "restore", backup, "--dry-run"))
    found = done(home, "restore", backup)
    same = ("backup", "now", "trouble", "lost")
    assert [planned[name] for name in same] == [found[name] for name in same]
    assert not planned["restored"]


def test_a_backup_of_another_machine_is_restored_by_its_path(home: Path, backup: str) -> None:
    with private_home() as other:
        with Daemon(other) as daemon, Pack(daemon.socket) as peer:
            peer.reply("put", key="elsewhere", value=1)
        brought = copied(other / "state" / "store.db", home / "brought.db")
    brought.chmod(0o644)
    found = done(home, "restore", str(brought))
    assert found["lost"]["revisions"] is None, "its revisions are of another epoch"
    assert held(home)[1] == {"elsewhere": 1}
    assert database(home, backup).exists()


@pytest.mark.parametrize("schema", states.SCHEMAS)
def test_a_backup_of_an_older_version_is_brought_up_to_this_one(home: Path, backup: str, schema: int) -> None:
    old = next(each for each in states.STORES if (each.schema, each.variant) == (schema, "clean"))
    brought = copied(old.place / "store.db", home / "old.db")
    before = brought.read_bytes()
    found = done(home, "restore", str(brought))
    assert found["backup"]["schema"] == schema
    assert found["backup"]["revision"] == old.load().revision
    assert brought.read_bytes() == before
    leases_ended = {
        each.entry.key: each.entry.value
        for each in old.load().entries
        if (each.space, each.project) == ("context", "global") and not each.entry.ttl_s and not each.entry.ephemeral
    }
    assert held(home)[1] == leases_ended
    assert backup


@pytest.mark.parametrize("how", ["missing", "garbage", "cut", "newer"])
def test_whatever_has_become_of_the_store_a_backup_takes_its_place(home: Path, backup: str, how: str) -> None:
    store = home / "state" / "store.db"
    match how:
        case "missing":
            store.unlink()
            Path(f"{store}-wal").unlink()
        case "garbage":
            store.write_bytes(os.urandom(20_000))
        case "cut":
            os.truncate(store, 5_000)
            Path(f"{store}-wal").unlink()
        case "newer":
            done(home, "restore", backup)
            with closing(sqlite3.connect(store)) as db:
                db.execute("PRAGMA user_version = 99")
    before = store_bytes(home / "state")
    found = done(home, "restore", backup)
    assert (found["now"], found["lost"], found["safety_backup"]) == (None, None, "")
    assert bool(found["trouble"]) == (how != "missing")
    assert store_bytes(Path(found["quarantine"])) == before
    assert held(home) == (found["epoch"], THEN, ["before", "then"])


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_damaged_backup_is_refused_and_others_are_named(home: Path, backup: str) -> None:
    newer = done(home, "restore", backup)["safety_backup"]
    content = bytearray(database(home, backup).read_bytes())
    content[content.index(b"\xa4then")] ^= 1
    database(home, backup).write_bytes(content)
    error = untouched(home, lambda: refused(home, "restore", backup, code="damaged"))
    assert error["data"]["others"] == [newer]
    assert newer in error["message"]


def test_a_backup_that_is_another_than_its_manifest_says_is_refused(home: Path, backup: str) -> None:
    """Every hash in it holds."""
    with private_home() as other:
        older = with_backup(other)
        newer = done(other, "restore", older)["safety_backup"]
        copied(database(other, newer), database(home, backup))
    assert "manifest" in untouched(home, lambda: refused(home, "restore", backup, code="damaged"))["message"]


def test_a_newer_schema_is_refused(home: Path, backup: str) -> None:
    brought = copied(database(home, backup), home / "newer.db")
    with closing(sqlite3.connect(brought)) as db:
        db.execute("PRAGMA user_version = 99")
    error = untouched(home, lambda: refused(home, "restore", str(brought), code="config"))
    assert "schema is 99" in error["message"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), "invalid_params"),
        (("--latest", "NAME"), "invalid_params"),
        (("notes",), "invalid_params"),
        (("..",), "invalid_params"),
        (("00000000000000000009-20260101T000000Z-demand",), "not_found"),
        (("/nowhere/at/all.db",), "not_found"),
        (("/dev/null",), "not_found"),
    ],
)
def test_what_is_no_backup_is_refused(home: Path, backup: str, words: tuple[str, ...], code: str) -> None:
    given = [backup if word == "NAME" else word for word in words]
    untouched(home, lambda: refused(home, "restore", *given, code=code))


def test_a_file_with_its_log_beside_it_is_refused(home: Path, backup: str) -> None:
    for name in ("store.db", "store.db-wal"):
        copied(home / "state" / name, home / name)
    error = untouched(home, lambda: refused(home, "restore", str(home / "store.db"), code="invalid_params"))
    assert "store.db-wal lies beside it" in error["message"]
    assert backup


def test_nothing_is_restored_while_a_daemon_serves_or_another_restore_runs(home: Path, backup: str) -> None:
    with Daemon(home) as daemon:
        assert refused(home, "restore", backup, code="already_running")["data"]["pid"] == daemon.pid
        assert done(home, "inspect", backup)["backup"]["revision"] == REVISION_THEN
    script = (
        "import sys; from cosessiond.maintenance import restore, frame; from cosessiond.maintenance.task import Act;"
    )
    script += "frame.main('restore', Act(lambda task: sys.stdin.read() or {}, (0, 0), {}, True), [])"
    with subprocess.Popen(
        [sys.executable, "-c", script + "; print()"], env=environment(home), stdin=subprocess.PIPE
    ) as it:
        while (home / "state" / "daemon.lock").read_text().find(f'"pid":{it.pid},') < 0:
            assert it.poll() is None
        assert refused(home, "restore", backup, code="already_running")["data"] == {"pid": it.pid, "act": "restore"}
        it.communicate(b"")


@pytest.fixture
def small(home: Path) -> Iterator[Path]:
    """A home on a file system of 8 MiB."""
    place = home / "small"
    place.mkdir()
    if not mounted(place):
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_noticed_before_anything_is_written(small: Path) -> None:
    backup = with_backup(small)
    error = untouched(small, lambda: refused(small, "restore", backup, code="disk_full"))
    assert error["data"]["needed_bytes"] > error["data"]["free_bytes"]


# -- broken off ------------------------------------------------------------------------------------------------------


def of_the_swap(found: list[killing.Point]) -> list[killing.Point]:
    """Those from the journal on."""
    first = next(at for at, point in enumerate(found) if swap.JOURNAL in point.what)
    return found[first:]


def test_a_restore_that_is_killed_leaves_the_old_store_or_the_new_one() -> None:
    """A sample; tests/process/prove_acts.py has them all."""
    if reason := killing.missing():
        pytest.skip(reason)
    found = restore_points()
    swapping = of_the_swap(found)
    renames = [point for point in swapping if point.call.startswith("rename")]
    assert len(renames) >= 5
    chosen = [*killing.sample(found[: -len(swapping)], 1), renames[1], renames[-1]]
    reached = 0
    for point in chosen:
        with private_home() as home:
            reached += killed_restore(home, point)
    assert reached == len(chosen), "each was killed"


def promised(home: Path, backup: str) -> swap.Journal:
    """What a restore leaves that was killed between its journal and the first of its moves."""
    state = home / "state"
    staged = swap.stage(state) / swap.DATABASE
    copied(database(home, backup), staged)
    facts = prove(staged)
    journal = swap.promise(state, "restore", facts, time_ms=0, why={})
    (state / swap.JOURNAL).write_bytes(sealed(journal))
    (state / swap.JOURNAL).chmod(0o600)
    return journal


def test_a_start_finishes_what_was_promised(home: Path, backup: str) -> None:
    journal = promised(home, backup)
    before = store_bytes(home / "state")
    assert held(home)[1] == THEN
    assert store_bytes(home / "state" / swap.QUARANTINE / journal.quarantine) == before
    assert not (home / "state" / swap.JOURNAL).exists()


@pytest.mark.parametrize("moved", [(), ("store.db-wal",), ("store.db-wal", "store.db")])
def test_a_start_undoes_it_when_what_was_staged_is_another(home: Path, backup: str, moved: tuple[str, ...]) -> None:
    before = store_bytes(home / "state")
    journal = promised(home, backup)
    aside = home / "state" / swap.QUARANTINE / journal.quarantine
    aside.mkdir(mode=0o700, parents=True)
    aside.parent.chmod(0o700)
    for name in moved:
        (home / "state" / name).rename(aside / name)
    staged = home / "state" / swap.STAGED / swap.DATABASE
    staged.write_bytes(staged.read_bytes()[:-1] + b"x")
    assert before
    assert held(home)[1] == NOW
    assert not aside.exists()


def test_a_journal_that_cannot_be_believed_refuses_the_start(home: Path, backup: str) -> None:
    """There may be no store in its place, which must not be begun anew."""
    promised(home, backup)
    journal = home / "state" / swap.JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b'"reason": "restore"', b'"reason": "salvage"'))
    (home / "state" / "store.db").unlink()
    assert str(journal) in refusal(home, code=EXIT_IO)


def test_a_store_is_not_begun_anew_when_both_are_gone(home: Path, backup: str) -> None:
    promised(home, backup)
    (home / "state" / "store.db").unlink()
    (home / "state" / swap.STAGED / swap.DATABASE).unlink()
    assert "neither the new store nor the old one" in refusal(home, code=EXIT_IO)


def test_a_link_in_place_of_what_was_staged_is_not_followed(home: Path, backup: str) -> None:
    promised(home, backup)
    staged = home / "state" / swap.STAGED / swap.DATABASE
    staged.rename(home / "elsewhere.db")
    staged.symlink_to(home / "elsewhere.db")
    assert held(home)[1] == NOW


@pytest.mark.parametrize("is_link", [True, False])
def test_a_foreign_thing_in_place_of_what_is_staged_is_refused_and_left_alone(
    home: Path, backup: str, is_link: bool
) -> None:
    staged = home / "state" / swap.STAGED
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "mine").touch()
    if is_link:
        staged.symlink_to(home / "elsewhere")
    else:
        staged.write_text("mine")
    assert str(staged) in refusal(home, code=EXIT_CONFIG)
    assert str(staged) in untouched(home, lambda: refused(home, "restore", backup, code="config"))["message"]


def test_the_oldest_stores_in_quarantine_go(home: Path, backup: str) -> None:
    kept = [Path(done(home, "restore", backup)["quarantine"]) for _ in range(4)]
    assert [path.exists() for path in kept] == [False, True, True, True]


def test_a_foreign_thing_in_place_of_quarantine_is_refused(home: Path, backup: str) -> None:
    (home / "elsewhere").mkdir(mode=0o700)
    (home / "state" / swap.QUARANTINE).symlink_to(home / "elsewhere")
    error = act(home, "restore", backup).error
    assert error is not None
    assert error["code"] == "config"
    assert refusal(home, code=EXIT_CONFIG), "the journal stands until it is mended"
    (home / "state" / swap.QUARANTINE).unlink()
    assert held(home)[1] == THEN


# -- seeded mistakes -------------------------------------------------------------------------------------------------


def test_a_log_of_the_old_store_beside_the_new_one_would_be_noticed(home: Path, backup: str) -> None:
    """As by a swap that moves the database and leaves its log."""
    before = epoch_of(home)
    quarantine = Path(done(home, "restore", backup)["quarantine"])
    copied(quarantine / "store.db-wal", home / "state" / "store.db-wal")
    with pytest.raises(AssertionError):
        settled(home, before)


def test_a_store_that_is_neither_would_be_noticed(home: Path, backup: str) -> None:
    before = epoch_of(home)
    done(home, "restore", backup)
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("delete", key="kept")
    with pytest.raises(AssertionError):
        settled(home, before)


def test_what_is_left_over_would_be_noticed(home: Path, backup: str) -> None:
    before = epoch_of(home)
    done(home, "restore", backup)
    (home / "state" / swap.JOURNAL).symlink_to("nowhere")  # no start can see to it
    with pytest.raises(AssertionError):
        settled(home, before)
