"""Where things lie, as a table of environments."""

from __future__ import annotations

import importlib.util
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


class TestMac:
    """The places of macOS, by the module as a Mac would load it; no Mac was there."""

    SUPPORT = "/u/Library/Application Support/cosession"

    @pytest.fixture(autouse=True)
    def mac(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")
        spec = importlib.util.spec_from_file_location("mac_paths", paths.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_the_places(self, mac):
        env = {"HOME": "/u"}
        assert mac.socket_path(env) == f"{self.SUPPORT}/run/d.sock"
        assert mac.state_directory(env) == f"{self.SUPPORT}/state"
        assert mac.lock_file(env) == f"{self.SUPPORT}/state/daemon.lock"
        assert mac.stop_latch(env) == f"{self.SUPPORT}/state/stopped"
        assert mac.config_file(env) == f"{self.SUPPORT}/config/config.toml"
        assert mac.log_directory(env) == f"{self.SUPPORT}/log"

    def test_a_home_moves_everything_and_a_chosen_socket_wins(self, mac):
        env = {"HOME": "/u", "COSESSION_HOME": "/h"}
        assert mac.socket_path(env) == "/h/run/d.sock"
        assert mac.state_directory(env) == "/h/state"
        assert mac.config_file(env) == "/h/config/config.toml"
        assert mac.log_directory(env) == "/h/log"
        assert mac.socket_path(env | {"COSESSION_SOCKET": "/x/y.sock"}) == "/x/y.sock"

    def test_who_sets_the_variables_of_xdg_means_them(self, mac, tmp_path):
        env = {"HOME": "/u", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": str(tmp_path)}
        assert mac.state_directory(env) == "/s/cosession"
        assert mac.config_file(env) == "/c/cosession/config.toml"
        assert mac.socket_path(env) == f"{tmp_path}/cosession/d.sock"
        assert mac.log_directory(env) == f"{self.SUPPORT}/log", "there is none for logs"

    def test_a_socket_path_has_103_bytes_at_most(self, mac):
        assert mac.SOCKET_PATH_BYTES_MAX == 103
        home = "/" + "u" * (103 - 1 - len("/Library/Application Support/cosession/run/d.sock"))
        fits = mac.socket_path({"HOME": home})
        assert len(fits) == 103
        assert fits.startswith(home)
        short = mac.socket_path({"HOME": home + "u"})
        assert short.startswith(f"/tmp/cosession-{os.geteuid()}-")
        assert len(short) <= 103
        assert short == mac.socket_path({"HOME": home + "u"})
        assert short != mac.socket_path({"HOME": home + "v"})

    def test_a_chosen_path_too_long_is_refused_with_the_limit_of_the_system(self, mac):
        chosen = "/" + "x" * 103
        with pytest.raises(ConfigError, match="it has 104 bytes, the limit is 103"):
            mac.socket_path({"COSESSION_SOCKET": chosen})


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
