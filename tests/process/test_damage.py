"""Damage to the store between two runs: noticed at the start or at the read that meets it, said with exit code 70, and
never served. The file stays as it was found.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import msgpack

from cosessiond.store.wal import Wal
from process.starting import EXIT_CONFIG, EXIT_IO, LOCK, poured, readable, refusal, served_or_refused, serves, tree
from rawclient import Answer, Ended, Pack, Peer

MARK = "a value to be found in the file"


def entries_and_history(peer: Peer) -> None:
    for number in range(20):
        peer.reply("put", key=f"k{number % 10}", value=f"{MARK} {number}", request_id=f"r{number}")
    peer.reply("delete", key="k9")


def twenty_entries(peer: Peer) -> None:
    for number in range(20):
        peer.reply("put", key=f"k{number}", value=f"{MARK} {number}")


@pytest.fixture
def home_with_data(home: Path) -> Path:
    """A stopped store: entries, a history, request ids."""
    poured(home, entries_and_history)
    return home


def store(home: Path) -> Path:
    return home / "state" / "store.db"


def flip(home: Path, statement: str, *parameters: Any) -> None:
    """Change a row behind the daemon's back."""
    with closing(sqlite3.connect(store(home))) as db, db:
        assert db.execute(statement, parameters).rowcount == 1
    for leftover in home.glob("state/store.db-*"):
        leftover.unlink()


def refused_untouched(home: Path) -> str:
    """What the daemon says: it refuses and leaves everything as it is, so that the next one says the same.

    SQLite may make an empty log beside a file that it has only looked at.
    """
    before = contents(home)
    said = refusal(home, code=EXIT_CONFIG)
    assert contents(home) == before
    return said


def contents(home: Path) -> dict[str, str]:
    """What each file holds, empty logs left out."""
    log = Path(f"{store(home)}-wal")
    empty = [str(log.relative_to(home))] if log.exists() and not log.stat().st_size else []
    return {name: facts[3] for name, facts in tree(home, ignored=[*LOCK, *empty]).items()}


ROWS = {
    "the value of an entry": "UPDATE entries SET value = x'a178' WHERE key = 'k1'",
    "the version of an entry": "UPDATE entries SET version = version + 1 WHERE key = 'k1'",
    "the key of an entry": "UPDATE entries SET key = 'moved' WHERE key = 'k1'",
    "the hash of an entry": "UPDATE entries SET hash = zeroblob(16) WHERE key = 'k1'",
    "an entry that is gone": "DELETE FROM entries WHERE key = 'k1'",
    "an entry that came back": "INSERT INTO entries SELECT space, project, 'k99', version, create_revision,"
    " mod_revision, time_ms, session, ttl_ms, owner, hash, value FROM entries WHERE key = 'k1'",
    "a batch of the log": "UPDATE log SET body = substr(body, 1, length(body) - 1) || x'00' WHERE revision = 7",
    "the hash of a batch": "UPDATE log SET hash = zeroblob(32) WHERE revision = 7",
    "a batch that is gone": "DELETE FROM log WHERE revision = 7",
    "the newest batch gone": "DELETE FROM log WHERE revision = 21",
    "the recorded revision": "UPDATE meta SET revision = revision - 1",
    "a revision ahead of the log": "UPDATE meta SET revision = revision + 1",
    "the head of the chain": "UPDATE meta SET chain_hash = zeroblob(32)",
    "the state hash": "UPDATE meta SET state_hash = zeroblob(16)",
    "the size of the log": "UPDATE meta SET log_bytes = log_bytes + 1",
    "the count of request ids": "UPDATE meta SET request_count = 0",
    "what is forgotten": "UPDATE meta SET forgotten_revision = 7",
    "the position is gone": "DELETE FROM meta",
}


@pytest.mark.parametrize("statement", ROWS.values(), ids=ROWS.keys())
def test_a_row_changed_behind_the_daemon_s_back_is_noticed_at_the_start(home_with_data: Path, statement: str) -> None:
    flip(home_with_data, statement)
    assert "cannot" in refused_untouched(home_with_data)


@pytest.mark.parametrize("occurrence", [0, 1, -1])
def test_one_bit_of_a_value_is_noticed_wherever_the_value_lies(home_with_data: Path, occurrence: int) -> None:
    """Each value lies in the file three times: in its entry, in a version, in the log."""
    data = bytearray(store(home_with_data).read_bytes())
    places = []
    at = data.find(MARK.encode())
    while at >= 0:
        places.append(at)
        at = data.find(MARK.encode(), at + 1)
    assert len(places) >= 3
    data[places[occurrence]] ^= 1
    store(home_with_data).write_bytes(data)
    never_served(home_with_data)


def never_served(home: Path, *, noticed: bool = True) -> None:
    """The daemon refuses to start, or stops at the read that meets the damage, or never comes across it: whatever it
    shows is right. With `noticed` it must come across it.
    """
    with served_or_refused(home) as daemon:
        if daemon is None:
            return
        try:
            with Pack(daemon.socket) as peer:
                for number in range(10):
                    shown = [peer.reply("get", key=f"k{number}")["entry"]]
                    past = peer.call("history", key=f"k{number}")
                    if past.kind != "reply":
                        refused_and_told(peer, past)
                        return
                    for each in shown + past.body["versions"]:
                        assert each is None or each["value"] is None or each["value"].startswith(MARK), each
                for number in range(20):
                    params = {"key": f"k{number % 10}", "value": f"{MARK} {number}", "request_id": f"r{number}"}
                    found = peer.reply("put", **params)
                    assert (found["repeated"], found["written"]["mod_revision"]) == (True, number + 1)
        except Ended:
            assert daemon.wait() == EXIT_IO
            assert '"cannot ' in daemon.stderr()
        else:
            assert not noticed, "nobody noticed"


def refused_and_told(peer: Peer, answer: Answer) -> None:
    """A read that met damage: refused with what to do, in the status and the audit, and the daemon goes on."""
    assert answer.code == "damaged"
    readable(answer.body["message"])
    (what,) = peer.reply("status")["damage"]
    assert answer.body["message"].startswith(what)
    assert peer.reply("put", key="goes on", value=1)["written"]["version"] == 1
    assert [each["operation"] for each in peer.reply("audit", kind="admin")["records"]].count("damage") == 1


def test_damage_to_a_kept_version_never_reaches_a_client(home_with_data: Path) -> None:
    flip(home_with_data, "UPDATE versions SET value = x'a178' WHERE key = 'k3' AND mod_revision = 4")
    never_served(home_with_data)


def test_damage_to_a_kept_request_is_not_answered_as_an_outcome(home_with_data: Path) -> None:
    flip(home_with_data, "UPDATE requests SET body = x'c1' WHERE request_id = 'r3'")
    with_request(home_with_data, 3)


def test_a_kept_request_that_says_something_else_is_not_answered_as_an_outcome(home_with_data: Path) -> None:
    """The body is whole MessagePack, only of another request."""
    flip(
        home_with_data,
        "UPDATE requests SET body = (SELECT body FROM requests WHERE request_id = 'r5') WHERE request_id = 'r3'",
    )
    with_request(home_with_data, 3)


def test_one_field_of_a_kept_request_is_noticed(home_with_data: Path) -> None:
    """The body is that of this request, with another version in it."""
    with closing(sqlite3.connect(store(home_with_data))) as db:
        (body,) = db.execute("SELECT body FROM requests WHERE request_id = 'r3'").fetchone()
    succeeded, time_ms, origin, (change,) = msgpack.decode(body)
    change[3] += 1
    body = msgpack.encode((succeeded, time_ms, origin, [change]))
    flip(home_with_data, "UPDATE requests SET body = ? WHERE request_id = 'r3'", body)
    with served_or_refused(home_with_data) as daemon:
        assert daemon is not None, "it is not read at the start"
        with Pack(daemon.socket) as peer:
            refused_and_told(peer, peer.call("put", key="k3", value=f"{MARK} 3", request_id="r3"))
            assert peer.reply("put", key="k4", value=f"{MARK} 4", request_id="r4")["repeated"]


def with_request(home: Path, number: int) -> None:
    """Repeat a request whose record is damaged: no outcome is answered that is not its own, and nobody hangs."""
    with served_or_refused(home) as daemon:
        if daemon is None:
            return
        try:
            with Pack(daemon.socket, timeout_s=5) as peer:
                found = peer.call("put", key=f"k{number}", value=f"{MARK} {number}", request_id=f"r{number}")
        except Ended:
            assert daemon.wait() == EXIT_IO
            return
        if found.kind == "reply":
            assert found.body["written"]["key"] == f"k{number}"
            assert found.body["written"]["mod_revision"] == number + 1
        else:
            assert found.code in ("damaged", "io_error")


@pytest.mark.parametrize("bytes_left", [0.999, 0.5, 0.02])
def test_a_file_that_was_cut_is_noticed(home_with_data: Path, bytes_left: float) -> None:
    data = store(home_with_data).read_bytes()
    store(home_with_data).write_bytes(data[: int(len(data) * bytes_left)])
    refused_untouched(home_with_data)


@pytest.mark.parametrize("page", range(8))
def test_a_page_of_zeros_is_never_served(home_with_data: Path, page: int) -> None:
    data = bytearray(store(home_with_data).read_bytes())
    size = int.from_bytes(data[16:18])
    start = (1 + page * (len(data) // size - 1) // 8) * size
    data[start : start + size] = bytes(size)
    store(home_with_data).write_bytes(data)
    never_served(home_with_data, noticed=False)


def killed_with_a_log(home: Path) -> tuple[Path, str, int]:
    """A store whose newest writes are in the -wal alone; its epoch and revision as a client knows them."""
    poured(home, twenty_entries, killed=True)
    wal = Path(f"{store(home)}-wal")
    assert wal.stat().st_size > 0
    copy = home / "copy.db"
    shutil.copy(store(home), copy)
    shutil.copy(wal, f"{copy}-wal")
    with closing(sqlite3.connect(copy)) as db:
        epoch, revision = db.execute("SELECT epoch, (SELECT max(revision) FROM log) FROM meta").fetchone()
    for leftover in home.glob("copy.db*"):
        leftover.unlink()
    assert revision == 20
    return wal, epoch, revision


def test_a_log_that_was_removed_is_noticed(home: Path) -> None:
    """Acknowledged writes are gone with it: never served as if nothing had happened."""
    wal, epoch, revision = killed_with_a_log(home)
    wal.unlink()
    lost_tail(home, epoch, revision)


def test_a_log_that_was_cut_is_noticed(home: Path) -> None:
    wal, epoch, revision = killed_with_a_log(home)
    with wal.open("r+b") as file:
        file.truncate(Wal(wal).bytes() * 3 // 4)
    lost_tail(home, epoch, revision)


def test_one_bit_of_the_log_is_noticed(home: Path) -> None:
    """SQLite drops the rest of a log from the first frame whose checksum fails, and says nothing."""
    wal, epoch, revision = killed_with_a_log(home)
    data = bytearray(wal.read_bytes())
    data[Wal(wal).bytes() // 2] ^= 1
    wal.write_bytes(data)
    lost_tail(home, epoch, revision)


def lost_tail(home: Path, epoch: str, revision: int) -> None:
    """A lost tail is refused by the daemon, or told to the client that remembers it (P14 promises no more). It is
    never a store begun anew: in whatever epoch, revisions do not go back.
    """
    with served_or_refused(home) as daemon:
        if daemon is not None:
            with Pack(daemon.socket) as peer:
                found = peer.call("hello", epoch=epoch, seen_revision=revision)
                assert found.code == "damaged" or found.body["revision"] > revision, found


def test_the_parts_of_two_stores_are_not_one(home: Path) -> None:
    """The log of one store beside the file of another: SQLite sees the salts, or the chain does."""
    one, two = home / "one", home / "two"
    for each, write in ((one, twenty_entries), (two, entries_and_history)):
        each.mkdir(mode=0o700)
        poured(each, write, killed=True)
    shutil.copy(f"{store(one)}-wal", f"{store(two)}-wal")
    with served_or_refused(two) as daemon:
        if daemon is not None:
            with Pack(daemon.socket) as peer:
                assert len(peer.reply("range")["entries"]) in (0, 9, 20), "one or the other, or what both began as"


def test_a_store_that_is_gone_is_never_begun_anew_by_accident(home_with_data: Path) -> None:
    for file in home_with_data.glob("state/store.db*"):
        file.unlink()
    assert "remove the file `mark`" in refused_untouched(home_with_data)
    assert not store(home_with_data).exists()
    (home_with_data / "state" / "mark").unlink()
    serves(home_with_data, keys=0)


def test_a_store_without_damage_is_served_after_all_this_care(home_with_data: Path) -> None:
    serves(home_with_data, keys=9)
