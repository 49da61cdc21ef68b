"""Where things lie, as a table of environments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cosession import paths
from cosession.errors import ConfigError

LINUX = pytest.mark.skipif(sys.platform == "darwin", reason="the places of Linux")


@pytest.fixture(autouse=True)
def _no_run_user(monkeypatch):
    """Whatever the machine has: no /run/user/UID."""
    real = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **names: real("/nowhere" if "/run/user" in str(path) else path, **names)
    )


@pytest.mark.parametrize(
    ("env", "socket"),
    [
        ({"COSESSION_SOCKET": "/x/y.sock", "COSESSION_HOME": "/h"}, "/x/y.sock"),
        ({"COSESSION_HOME": "/h", "XDG_RUNTIME_DIR": "/tmp"}, "/h/run/d.sock"),
        ({"HOME": "/u"}, "/u/.local/state/cosession/run/d.sock"),
        ({"HOME": "/u", "XDG_STATE_HOME": "/elsewhere"}, "/u/.local/state/cosession/run/d.sock"),
        ({"HOME": "/u", "XDG_RUNTIME_DIR": "relative"}, "/u/.local/state/cosession/run/d.sock"),
        ({"HOME": "/u", "XDG_RUNTIME_DIR": "/nowhere"}, "/u/.local/state/cosession/run/d.sock"),
        ({"HOME": "/u", "COSESSION_SOCKET": "", "COSESSION_HOME": ""}, "/u/.local/state/cosession/run/d.sock"),
    ],
)
@LINUX
def test_socket_path(env, socket):
    assert paths.socket_path(env) == socket


def test_a_runtime_directory_of_ours_is_used(tmp_path):
    assert paths.socket_path({"XDG_RUNTIME_DIR": str(tmp_path)}) == f"{tmp_path}/cosession/d.sock"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@LINUX
def test_a_runtime_directory_of_somebody_else_is_not_used(tmp_path):
    os.chown(tmp_path, 12345, -1)
    assert paths.socket_path({"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/u"}).startswith("/u/")


def test_run_user_is_used_where_it_is_ours(tmp_path, monkeypatch):
    mine = os.lstat(tmp_path)
    real = os.stat
    runtime = f"/run/user/{os.geteuid()}"
    monkeypatch.setattr(os, "stat", lambda path, **names: mine if path == runtime else real(path, **names))
    assert paths.socket_path({"HOME": "/u"}) == f"{runtime}/cosession/d.sock"


@pytest.mark.parametrize(
    ("function", "under_home", "by_xdg", "default"),
    [
        (paths.state_directory, "/h/state", "/s/cosession", "/u/.local/state/cosession"),
        (paths.lock_file, "/h/state/daemon.lock", "/s/cosession/daemon.lock", "/u/.local/state/cosession/daemon.lock"),
        (paths.stop_latch, "/h/state/stopped", "/s/cosession/stopped", "/u/.local/state/cosession/stopped"),
        (paths.config_file, "/h/config/config.toml", "/c/cosession/config.toml", "/u/.config/cosession/config.toml"),
        (paths.log_directory, "/h/log", "/s/cosession/log", "/u/.local/state/cosession/log"),
    ],
)
@LINUX
def test_directories(function, under_home, by_xdg, default):
    xdg = {"XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c", "HOME": "/u"}
    assert function({"COSESSION_HOME": "/h", **xdg}) == under_home
    assert function(xdg) == by_xdg
    assert function({"HOME": "/u", "XDG_STATE_HOME": "rel", "XDG_CONFIG_HOME": "rel"}) == default


def test_a_relative_home_counts_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.state_directory({"COSESSION_HOME": "h"}) == f"{tmp_path}/h/state"


def test_without_home_the_password_database_is_asked():
    assert paths.state_directory({}).startswith("/")


def test_macos_places(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    support = "/u/Library/Application Support/cosession"
    env = {"HOME": "/u"}
    assert paths.socket_path(env) == f"{support}/run/d.sock"
    assert paths.state_directory(env) == f"{support}/state"
    assert paths.config_file(env) == f"{support}/config/config.toml"
    assert paths.log_directory(env) == f"{support}/log"


class TestLongPaths:
    """Over the limit: a short place that is the same every time, and safe."""

    LONG = "/u/" + "x" * 120

    def test_a_chosen_path_is_refused_with_its_length_and_the_limit(self):
        with pytest.raises(ConfigError, match=rf"123 bytes, the limit is {paths.SOCKET_PATH_BYTES_MAX}") as caught:
            paths.socket_path({"COSESSION_SOCKET": self.LONG})
        assert self.LONG in caught.value.message
        assert caught.value.data == {"path": self.LONG, "size": 123, "limit": paths.SOCKET_PATH_BYTES_MAX}

    def test_the_limit_counts_bytes(self):
        base = "/" + "ü" * 50
        assert paths.socket_path({"COSESSION_SOCKET": base + "/s"}) == base + "/s"
        with pytest.raises(ConfigError):
            paths.socket_path({"COSESSION_SOCKET": base + "/ssssss"})

    def test_a_short_hashed_one_replaces_it(self):
        path = paths.socket_path({"COSESSION_HOME": self.LONG})
        assert path == paths.socket_path({"COSESSION_HOME": self.LONG})
        assert path != paths.socket_path({"COSESSION_HOME": self.LONG + "y"})
        assert path.startswith(f"/tmp/cosession-{os.geteuid()}-")
        assert len(path) <= paths.SOCKET_PATH_BYTES_MAX

    def test_in_the_runtime_directory_where_there_is_one(self):
        with_runtime = {"COSESSION_HOME": self.LONG, "XDG_RUNTIME_DIR": "/tmp"} if os.geteuid() == 0 else None
        if with_runtime:
            assert paths.socket_path(with_runtime).startswith("/tmp/cosession-")

    @pytest.fixture
    def place(self):
        directory = Path(paths.socket_path({"COSESSION_HOME": self.LONG})).parent
        yield directory
        if directory.is_symlink():
            directory.unlink()
        elif directory.is_dir():
            directory.rmdir()

    def test_a_private_directory_of_ours_is_fine(self, place):
        place.mkdir(0o700)
        assert paths.socket_path({"COSESSION_HOME": self.LONG}) == f"{place}/d.sock"

    def test_one_that_others_can_enter_is_refused(self, place):
        place.mkdir()
        place.chmod(0o755)
        with pytest.raises(ConfigError, match="not a private directory of yours"):
            paths.socket_path({"COSESSION_HOME": self.LONG})

    def test_a_link_is_refused(self, place, tmp_path):
        place.symlink_to(tmp_path)
        with pytest.raises(ConfigError, match="not a private directory of yours"):
            paths.socket_path({"COSESSION_HOME": self.LONG})

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_one_of_somebody_else_is_refused(self, place):
        place.mkdir(0o700)
        os.chown(place, 12345, -1)
        with pytest.raises(ConfigError, match="not a private directory of yours"):
            paths.socket_path({"COSESSION_HOME": self.LONG})
