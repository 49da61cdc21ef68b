"""`[store] on_damage = "restore"`: what is damaged goes aside whole, the newest copy that is whole takes its place in a
new epoch, and nobody is left to guess.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import Daemon
from process.maintaining import act
from process.starting import EXIT_CONFIG, poured, refusal
from rawclient import Pack, Peer


def ten_entries(peer: Peer) -> None:
    for number in range(10):
        peer.reply("put", key=f"k{number}", value=number)


@pytest.fixture
def home_to_restore(home: Path) -> Path:
    """A stopped store of ten entries, told to restore."""
    poured(home, ten_entries)
    config = home / "config"
    config.mkdir(mode=0o700)
    (config / "config.toml").write_text('[store]\non_damage = "restore"\n')
    (config / "config.toml").chmod(0o600)
    return home


def store(home: Path) -> Path:
    return home / "state" / "store.db"


def hit(home: Path) -> bytes:
    """Damage the live entries; what the file holds now."""
    data = bytearray(store(home).read_bytes())
    at = data.find(b"contextglobalk") if b"contextglobalk" in data else len(data) // 2
    data[at + 13] ^= 1
    store(home).write_bytes(data)
    return bytes(data)


def backed_up(home: Path) -> None:
    """One entry more than the backup has."""
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        peer.reply("put", key="later", value=1)


def keys(home: Path) -> tuple[list[str], dict[str, Any]]:
    """What a daemon serves, and its status."""
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        found = [each["key"] for each in peer.reply("range", keys_only=True)["entries"]]
        return found, peer.reply("status")


def kept(home: Path) -> None:
    """Make a backup of the store as it is: restoring nothing else than itself leaves one."""
    copy = home / "copy.db"
    shutil.copy(store(home), copy)
    assert act(home, "restore", str(copy)).result
    copy.unlink()


def test_the_newest_whole_backup_takes_the_place_of_what_is_damaged(home_to_restore: Path) -> None:
    home = home_to_restore
    kept(home)
    _, before = keys(home)
    damaged = hit(home)
    found, status = keys(home)
    assert found == [f"k{number}" for number in range(10)]
    assert status["epoch"] != before["epoch"]
    assert status["revision"] > before["revision"]
    (why,) = status["damage"]
    assert "restored was the backup" in why
    (aside,) = (home / "state" / "quarantine").glob("*-damage")
    assert (aside / "store.db").read_bytes() == damaged
    report = json.loads((aside / "report.json").read_text())
    assert report["epoch"] == status["epoch"]
    assert report["why"]["trouble"]
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert str(aside) in peer.reply("status")["damage"][0], "for as long as the epoch lasts"
        told = [each for each in peer.reply("audit", kind="admin")["records"] if each["operation"] == "damage"]
        assert [each["outcome"] for each in told] == ["start"], "once"


def test_where_only_the_end_is_missing_nothing_else_is_given_up(home_to_restore: Path) -> None:
    home = home_to_restore
    older = store(home).read_bytes()
    backed_up(home)
    store(home).write_bytes(older)
    for each in (home / "state" / "backups").glob("*-shutdown.*"):
        each.unlink()  # it has the entry that the store has lost
    found, status = keys(home)
    assert found == [f"k{number}" for number in range(10)]
    assert "1 acknowledged revisions are lost" in status["damage"][0]


def test_without_a_whole_backup_it_refuses_and_changes_nothing(home_to_restore: Path) -> None:
    damaged = hit(home_to_restore)
    said = refusal(home_to_restore, code=EXIT_CONFIG)
    assert "no backup was restored" in said
    assert store(home_to_restore).read_bytes() == damaged
