"""A configuration that cannot be used: refused with cause and remedy before anything is made or changed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from msgspec import structs

from cosession.configfile import load
from cosession.errors import ConfigError
from cosession.messages.limits import FLOORS, LIMITS
from cosessiond.process.logs import escape
from harness import Daemon
from process.starting import EXIT_CONFIG, filled, readable, refusal, tree
from rawclient import Pack


def configured(home: Path, text: str | bytes) -> Path:
    path = home / "config" / "config.toml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BROKEN: dict[str, str | bytes] = {
    "no TOML": "limits = [",
    "a word": "hello",
    "no UTF-8": b'[log]\nlevel = "\xff"\n',
    "NUL": b"\x00",
    "unknown table": "[colors]\nred = 1\n",
    "unknown limit": "[limits]\nkey_bytes = 3\n",
    "unknown log key": '[log]\nfile = "/tmp/x"\n',
    "above the maximum": "[limits]\nkey_bytes_max = 513\n",
    "far above": "[limits]\nconnections_max = 9223372036854775808\n",
    "below the floor": "[limits]\nunsent_bytes_max = 65536\n",
    "zero": "[limits]\nconnections_max = 0\n",
    "negative": "[limits]\nvalue_bytes_max = -1\n",
    "a text": '[limits]\nkey_bytes_max = "64"\n',
    "a boolean": "[limits]\nkey_bytes_max = true\n",
    "a float": "[limits]\nkey_bytes_max = 64.5\n",
    "NaN": "[limits]\nframe_finish_s = nan\n",
    "infinity": "[limits]\nframe_finish_s = inf\n",
    "no level": '[log]\nlevel = "loud"\n',
    "a list": "limits = [1]\n",
    "the same twice": "[limits]\nkey_bytes_max = 64\nkey_bytes_max = 64\n",
    "too large": "# " + "x" * 70_000,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_configuration_is_an_error_with_its_path_cause_and_remedy(home: Path, text: str | bytes) -> None:
    path = configured(home, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == EXIT_CONFIG
    readable(escape(caught.value.message))  # as the daemon shows it


@pytest.mark.parametrize("name", structs.asdict(FLOORS))
def test_every_limit_has_a_floor_below_which_it_is_refused(home: Path, name: str) -> None:
    floor, most = getattr(FLOORS, name), getattr(LIMITS, name)
    assert 0 < floor < most
    assert getattr(load(configured(home, f"[limits]\n{name} = {floor}\n")).limits, name) == floor
    with pytest.raises(ConfigError, match=f"limits.{name} = .*, allowed is {floor} to {most}; correct it there"):
        load(configured(home, f"[limits]\n{name} = {floor * 0.5 if isinstance(floor, float) else floor - 1}\n"))


@pytest.mark.parametrize("name", ["no TOML", "unknown limit", "above the maximum"])
def test_a_broken_configuration_is_refused_and_nothing_is_made(home: Path, name: str) -> None:
    path = configured(home, BROKEN[name])
    before = tree(home)
    assert str(path) in refusal(home, code=EXIT_CONFIG)
    assert tree(home) == before


def test_a_broken_configuration_leaves_an_existing_store_alone(home: Path) -> None:
    filled(home)
    configured(home, BROKEN["unknown limit"])
    before = tree(home)
    refusal(home, code=EXIT_CONFIG)
    refusal(home, "--detach", code=EXIT_CONFIG)
    assert tree(home) == before


def test_a_running_daemon_does_not_mind_what_becomes_of_its_configuration(daemon: Daemon) -> None:
    configured(daemon.home, BROKEN["no TOML"])
    with Pack(daemon.socket) as peer:
        assert peer.reply("put", key="a", value=1)
    (daemon.home / "config" / "config.toml").unlink()


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to nothing", "socket"])
def test_a_configuration_that_is_no_file_is_refused(home: Path, kind: str) -> None:
    path = home / "config" / "config.toml"
    path.parent.mkdir(mode=0o700)
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to(home / "absent")
        with Daemon(home):
            return  # there is no such file, so the defaults hold
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    assert str(path) in refusal(home, code=EXIT_CONFIG)


def test_without_a_configuration_the_defaults_hold(home: Path) -> None:
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        limits = peer.reply("hello")["limits"]
        assert limits["key_bytes_max"] == 512
        assert limits["frame_bytes_max"] == 1 << 20
    configured(home, "")
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert peer.reply("hello")["limits"] == limits
