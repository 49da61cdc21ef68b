"""`cosessiond salvage`: all that can be proved of a damaged store is in the new one, what cannot is named, and the
damaged files stay as they were.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness import Daemon
from process.maintaining import done, refused
from process.starting import EXIT_CONFIG, poured, refusal
from rawclient import Pack, Peer

LONG = "x" * 20_000


def varied(peer: Peer) -> None:
    """Small values and such as need many pages, versions, deletions, request ids, two projects."""
    for number in range(200):
        peer.reply("put", key=f"k{number % 50:02}", value=[number, "v" * (number % 7) * 100], request_id=f"r{number}")
    peer.reply("put", key="long", value=LONG)
    peer.reply("put", key="other", value=1, project="p2")
    for number in range(40, 50):
        peer.reply("delete", key=f"k{number}")


@pytest.fixture(params=[False, True], ids=["stopped", "killed"])
def damaged(home: Path, request: pytest.FixtureRequest) -> Path:
    poured(home, varied, killed=request.param)
    return home


def store(home: Path) -> Path:
    return home / "state" / "store.db"


def content(home: Path) -> dict[str, Any]:
    """What a daemon serves, and that it has its history."""
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert [each["value"][0] for each in peer.reply("history", key="k00")["versions"]] == [150, 100, 50, 0]
        found = {each["key"]: each["value"] for each in peer.reply("range", limit=1000)["entries"]}
        found |= {each["key"]: each["value"] for each in peer.reply("range", project="p2")["entries"]}
        assert peer.reply("put", key="goes on", value=1)["written"]["mod_revision"] > 1 << 20
    return found


EXPECTED: dict[str, Any] = {
    **{f"k{number:02}": [150 + number, "v" * ((150 + number) % 7) * 100] for number in range(40)},
    "long": LONG,
    "other": 1,
}


def nothing(home: Path) -> None:
    """Is damaged: what is whole is salvaged whole."""


def the_schema(home: Path) -> None:
    """The first page: SQLite finds no table any more."""
    data = bytearray(store(home).read_bytes())
    data[100:4096] = bytes(3996)
    store(home).write_bytes(data)


def the_header(home: Path) -> None:
    data = bytearray(store(home).read_bytes())
    data[:100] = bytes(100)
    store(home).write_bytes(data)


def the_roots(home: Path) -> None:
    """Pages that only lead to others, and hold no rows."""
    data = bytearray(store(home).read_bytes())
    for at in range(4096, len(data), 4096):
        if data[at] == 0x05:
            data[at : at + 4096] = bytes(4096)
    store(home).write_bytes(data)


@pytest.mark.parametrize("damage", [nothing, the_schema, the_header, the_roots], ids=lambda each: str(each.__name__))
def test_where_no_row_is_lost_none_is(damaged: Path, damage: Callable[[Path], None]) -> None:
    damage(damaged)
    before = {path.name: path.read_bytes() for path in store(damaged).parent.glob("store.db*")}
    said = done(damaged, "salvage")
    assert said["lost_keys"] == []
    assert {path.name: path.read_bytes() for path in store(damaged).parent.glob("store.db*")} == before
    assert not said["installed"]
    said = done(damaged, "salvage", "--install")
    assert said["installed"]
    for name, data in before.items():
        assert (Path(said["quarantine"]) / name).read_bytes() == data
    assert content(damaged) == EXPECTED


def test_a_damaged_row_is_left_out_and_named_with_its_revision(home: Path) -> None:
    poured(home, varied)
    with closing(sqlite3.connect(store(home))) as db, db:
        (revision,) = db.execute("SELECT mod_revision FROM entries WHERE key = 'other'").fetchone()
        for statement in (
            "UPDATE entries SET value = x'02' WHERE key = 'other'",
            "UPDATE versions SET value = x'02' WHERE key = 'other'",
            f"UPDATE log SET body = x'02' WHERE revision = {revision}",  # noqa: S608 - a number
        ):
            assert db.execute(statement).rowcount == 1
    assert "cosession doctor" in refusal(home, code=EXIT_CONFIG)
    said = done(home, "salvage", "--install")
    assert said["lost_keys"] == [{"key": "context/p2/other", "revision": revision}]
    assert [revision, revision] in said["lost_revisions"]
    assert content(home) == {key: value for key, value in EXPECTED.items() if key != "other"}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_bytes_are_hit_what_is_salvaged_was_once_committed(home: Path, seed: int) -> None:
    poured(home, varied)
    data = bytearray(store(home).read_bytes())
    numbers = random.Random(seed)
    for _ in range(60):
        data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
    store(home).write_bytes(data)
    done(home, "salvage", "--install")
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        for entry in peer.reply("range", limit=1000)["entries"]:
            number = int(entry["key"][1:]) if entry["key"] != "long" else 0
            value = entry["value"]
            assert (
                value == LONG
                if entry["key"] == "long"
                else value[0] % 50 == number and len(value[1]) == value[0] % 7 * 100
            )


def test_it_refuses_what_would_write_over_something(home: Path) -> None:
    poured(home, varied)
    done(home, "salvage")
    refused(home, "salvage", code="invalid_params")
    refused(home, "salvage", "--from", str(home / "absent"), code="not_found")
