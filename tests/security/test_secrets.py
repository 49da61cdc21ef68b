"""Planted secrets, looked for in every file of the daemon: what is written down, and what must not be.

A value is stored, so it is found in the store until it is purged (every file of a store: tests/store/test_purging.py;
with the daemon killed: tests/server/test_purge.py). What nobody stores is nowhere: no log, of any level, has a value, a
session token or a request that was refused.
"""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Cli
from harness import Daemon
from rawclient import Json, Pack

VALUE, REFUSED, TOKEN, REQUEST = (f"planted-{name}-4f1d" for name in ("value", "refused", "token", "request"))


def holding(home: Path, text: str) -> set[str]:
    """The files under a home that have these bytes."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(home)) for path in files if text.encode() in path.read_bytes()}


def test_no_log_of_any_level_has_what_was_sent(home):
    (home / "config").mkdir()
    (home / "config" / "config.toml").write_text('[log]\nlevel = "debug"\n')
    with Daemon(home) as daemon:
        for encoding in (Json, Pack):
            with encoding(daemon.socket) as peer:
                peer.reply("put", key="k", value={"password": VALUE}, request_id=REQUEST)
                peer.call("put", key="k", value={"password": REFUSED}, expect_revision=77)
                peer.call("put", key="k" * 600, value=REFUSED)
                peer.call(REFUSED, key="k")
                peer.call("session.heartbeat", session="s", session_token=TOKEN)
                token = peer.reply("session.register", id=f"s-{peer.encoding}", agent="custom")["session_token"]
                peer.send(REFUSED.encode() + b"\n")
            assert holding(home, token) == set(), "the token of a session is in no file"
        daemon.kill()
        daemon.start()
        assert holding(home, VALUE) <= {"state/store.db", "state/store.db-wal"}
        assert holding(home, VALUE)
        assert holding(home, REFUSED) == set()
        assert holding(home, TOKEN) == set()
        assert not [path for path in holding(home, REQUEST) if not path.startswith("state/store.db")]
        daemon.stop()
        assert holding(home, REFUSED) == set()
        daemon.start()


def test_no_error_of_a_command_quotes_the_value_it_could_not_write(daemon, tmp_path):
    cli = Cli(dict(daemon.env), str(tmp_path))
    for words in (
        ["put", "k" * 600, VALUE],
        ["put", "k", VALUE, "--expect", "9"],
        ["append", "k", f'"{VALUE}"', "--x"],
    ):
        found = cli.run(*words)
        assert found.code != 0
        assert VALUE not in found.err + found.out, words


def test_what_is_looked_for_would_be_found(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "daemon.log").write_text(f'{{"event": "put", "value": "{VALUE}"}}\n')
    assert holding(tmp_path, VALUE) == {"log/daemon.log"}
