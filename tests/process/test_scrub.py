"""The scrub finds damage that no start and no read has met, in every table, and the daemon goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness import Daemon
from process.starting import poured
from rawclient import Pack, Peer


def history(peer: Peer) -> None:
    """More batches than a start looks at, an entry with versions, request ids, audit."""
    for number in range(1_100):
        peer.reply("put", key=f"k{number % 10}", value=number, request_id=f"r{number}")
    for _ in range(2):
        peer.reply("session.close", session=peer.reply("session.register", agent="a")["session"]["id"])


@pytest.fixture
def home_with_history(home: Path) -> Path:
    poured(home, history)
    return home


DAMAGES = {
    "log": "UPDATE log SET body = substr(body, 1, length(body) - 1) || x'00' WHERE revision = 7",
    "versions": "UPDATE versions SET value = x'a178' WHERE key = 'k3' AND version = 90",
    "requests": "UPDATE requests SET time_ms = time_ms + 1 WHERE request_id = 'r3'",
    "audit": "UPDATE audit SET session = 'x' WHERE id = 2",
}


@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_row_that_no_start_looks_at_is_found(home_with_history: Path, statement: str) -> None:
    with closing(sqlite3.connect(home_with_history / "state" / "store.db")) as db, db:
        assert db.execute(statement).rowcount == 1
    with Daemon(home_with_history) as daemon, Pack(daemon.socket) as peer:
        assert peer.reply("status")["damage"] == []
        found = peer.reply("admin.scrub")
        assert found["damaged"] == 1, found
        status = peer.reply("status")
        assert status["damage"] == found["damage"]
        assert len(found["damage"]) == 1
        assert status["scrub_time"] > 0
        assert status["scrub_rows"] == found["rows"] > 3_000, found
        assert status["counters"]["damage.scrub"] == 1
        assert peer.reply("put", key="goes on", value=1)
        assert peer.reply("admin.scrub")["damaged"] == 1, "again, and told once"
        told = [each for each in peer.reply("audit", kind="admin", after=2)["records"] if each["operation"] == "damage"]
        assert len(told) == 1


def test_a_whole_store_has_no_damage_while_it_is_written(home_with_history: Path) -> None:
    with Daemon(home_with_history) as daemon, Pack(daemon.socket) as peer, Pack(daemon.socket) as writer:
        for number in range(50):
            writer.post("put", key=f"w{number}", value=number)
        found = peer.reply("admin.scrub")
        assert (found["damaged"], found["damage"]) == (0, [])
        assert found["rows"] > 3_000
