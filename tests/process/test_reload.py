"""A real daemon whose configuration changes under it: by signal, by request, by an editor, half written, and often."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cosessiond.process.filewatch import SETTLE_S_MAX
from harness import Daemon
from rawclient import Json, Pack
from server.daemons import eventually, rests


class Edited:
    """A running daemon and its file. Nothing here tells the daemon of a change but the file itself."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.path = daemon.home / "config" / "config.toml"
        self.peer = Pack(daemon.socket)

    def write(self, text: str) -> None:
        """In one piece, as an editor does: another file under this name."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.rename(self.path)

    @property
    def status(self) -> dict[str, Any]:
        return self.peer.reply("status")

    def goes_by(self, key: str, value: object) -> None:
        """Wait until the daemon goes by it."""
        eventually(lambda: self.status["config"][key] == value, f"{key} = {value}")

    def log(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.daemon.stderr().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def edited(daemon: Daemon) -> Iterator[Edited]:
    edited = Edited(daemon)
    with edited.peer:
        yield edited


#: Of the daemon: the loop and the store, and of watchdog on Linux three, for the configuration and for the spool.
THREADS = 8
KEPT = "cannot use the configuration; the one in force is kept"


def test_sighup_takes_the_file_up(edited: Edited) -> None:
    edited.daemon.signal(signal.SIGHUP)
    eventually(lambda: bool(edited.log("SIGHUP: no change of the configuration takes effect")), "a line of the log")
    edited.write("[limits]\nwatches_max = 9\nrequest_id_s = 60\n")
    edited.daemon.signal(signal.SIGHUP)
    edited.goes_by("limits.watches_max", 9)
    assert edited.status["restart_needed"] == ["limits.request_id_s"]
    assert edited.status["config"]["limits.request_id_s"] == 86_400
    (line,) = edited.log("configuration changed")
    assert line["changed"] == {"limits.watches_max": "64 -> 9"}
    assert line["restart_needed"] == {"limits.request_id_s": "86400 -> 60"}


def test_a_changed_file_is_taken_up_by_itself_also_when_its_directory_comes_after_the_start(edited: Edited) -> None:
    assert not edited.path.parent.exists()
    edited.write("limits.key_bytes_max = 99\n")
    edited.goes_by("limits.key_bytes_max", 99)
    edited.write("limits.key_bytes_max = 98\n")
    edited.goes_by("limits.key_bytes_max", 98)
    edited.path.unlink()
    edited.goes_by("limits.key_bytes_max", 512)


def test_a_file_half_written_changes_nothing_is_told_and_is_taken_up_when_whole(edited: Edited) -> None:
    edited.write("limits.watches_max = 9\n")
    edited.goes_by("limits.watches_max", 9)
    with edited.path.open("w") as file:
        file.write("[limits]\nwatches_max = 3\nkey_bytes_max = ")
        file.flush()
        eventually(lambda: bool(edited.status["config_error"]), "the error is shown")
        status = edited.status
        assert f"{edited.path}:3: it is no TOML" in status["config_error"]
        assert status["config"]["limits.watches_max"] == 9
        (line,) = edited.log(KEPT)
        assert line["level"] == "error"
        assert line["reason"] == status["config_error"]
        file.write("64\n")
    edited.goes_by("limits.watches_max", 3)
    assert edited.status["config_error"] == ""
    assert edited.log("the configuration can be used again")


def test_admin_reload_answers_what_changed_what_waits_and_why_not(edited: Edited) -> None:
    edited.write('[log]\nlevel = "warning"\n[limits]\nwatches_max = 2\nlog_window_revisions = 7\n')
    with Json(edited.daemon.socket) as other:
        answer = other.reply("admin.reload")
        assert answer["config_file"] == str(edited.path)
        assert answer["changed"] == [
            {"key": "log.level", "before": "info", "after": "warning", "applies": "at_once"},
            {"key": "limits.watches_max", "before": 64, "after": 2, "applies": "new_connections"},
        ]
        waiting = [{"key": "limits.log_window_revisions", "before": 100_000, "after": 7, "applies": "restart"}]
        assert answer["restart_needed"] == waiting
        again = other.reply("admin.reload")
        assert (again["changed"], again["restart_needed"]) == ([], waiting)
        edited.write("[limit]\nwatches_max = 3\n")
        error = other.call("admin.reload")
        assert error.code == "config"
        assert error.body["message"].endswith("the configuration in force is kept")
        assert "did you mean limits?" in error.body["message"]
        assert error.body["data"]["problems"][0]["line"] == 1
        assert edited.status["config"]["limits.watches_max"] == 2
    edited.write("limits.log_window_revisions = 7\n")
    edited.daemon.restart()
    with Pack(edited.daemon.socket) as other:
        status = other.reply("status")
        assert status["config"]["limits.log_window_revisions"] == 7
        assert status["restart_needed"] == []


def watch(peer: Pack) -> None:
    peer.reply("watch", prefix="k")
    assert peer.next().kind == "event", "the end of the snapshot"


def test_what_is_lowered_below_what_is_in_use_cuts_nobody_off(edited: Edited) -> None:
    daemon = edited.daemon
    with Pack(daemon.socket) as old:
        for _ in range(8):
            watch(old)
        edited.write("[limits]\nconnections_max = 4\nwatches_max = 2\nframe_bytes_max = 4096\nkey_bytes_max = 16\n")
        others = [Pack(daemon.socket) for _ in range(3)]
        for each in others:
            each.reply("ping")
        edited.peer.reply("admin.reload")
        told = old.reply("hello")["limits"]
        assert (told["watches_max"], told["frame_bytes_max"]) == (64, 1 << 20), "as it was told"
        assert (told["key_bytes_max"], told["connections_max"]) == (16, 4), "at once"
        watch(old)
        old.reply("put", key="other", value="x" * 10_000)
        assert old.call("put", key="k" * 17, value=1).code == "too_large"
        assert all(each.reply("ping")["pid"] == daemon.pid for each in others)
        with Pack(daemon.socket) as new:
            assert [answer.body["code"] for answer in new.until_ended()] == ["overloaded"]
        for each in others:
            each.close()
        eventually(lambda: edited.status["connections"] == 2, "they have gone")
        with Pack(daemon.socket) as new:
            told = new.reply("hello")["limits"]
            assert (told["watches_max"], told["frame_bytes_max"]) == (2, 4096)
            for _ in range(2):
                watch(new)
            assert new.call("watch", prefix="k").code == "overloaded"


def test_the_limits_of_the_store_hold_at_once(edited: Edited) -> None:
    for number in range(5):
        edited.peer.reply("put", key=f"k{number}", value=1)
    edited.write("limits.live_entries_max = 3\n")
    edited.peer.reply("admin.reload")
    assert edited.peer.call("put", key="k5", value=1).code == "store_full"
    edited.peer.reply("put", key="k0", value=2)
    edited.path.unlink()
    edited.peer.reply("admin.reload")
    edited.peer.reply("put", key="k5", value=1)


def test_the_quotas_hold_at_once(edited: Edited) -> None:
    for number in range(3):
        edited.peer.reply("put", key=f"k{number}", value=1, project="p")
    edited.write("limits.project_entries_max = 2\n")
    edited.peer.reply("admin.reload")
    refused = edited.peer.call("put", key="k3", value=1, project="p")
    assert (refused.code, refused.body["data"]["used"]) == ("quota_exceeded", 3)
    edited.peer.reply("put", key="k0", value=2, project="p")
    edited.peer.reply("put", key="k3", value=1, project="another")
    edited.peer.reply("delete", key="k0", project="p")
    edited.path.unlink()
    edited.peer.reply("admin.reload")
    edited.peer.reply("put", key="k3", value=1, project="p")


def test_the_level_of_the_log_holds_at_once(edited: Edited) -> None:
    edited.write('log.level = "error"\n')
    edited.peer.reply("admin.reload")
    edited.write('log.level = "warning"\n')
    edited.peer.reply("admin.reload")
    edited.write("log.level = 3\n")
    assert edited.peer.call("admin.reload").code == "config"
    assert len(edited.log(KEPT)) == 1
    assert len(edited.log("configuration changed")) == 0


def test_many_rapid_changes_are_bounded_work_and_the_last_one_holds(edited: Edited) -> None:
    edited.write("limits.watches_max = 1\n")
    edited.goes_by("limits.watches_max", 1)
    lines = len(edited.daemon.stderr().splitlines())
    eventually(lambda: psutil.Process(edited.daemon.pid).num_threads() == THREADS, "the watch stands")
    for number in range(2_000):
        edited.write(f"limits.watches_max = {number % 60 + 1}\n" if number % 2 else f"limits.watches_max = {number} {{")
    edited.write("limits.watches_max = 64\n")
    edited.goes_by("limits.watches_max", 64)
    assert edited.status["config_error"] == ""
    eventually(lambda: psutil.Process(edited.daemon.pid).num_threads() == THREADS, "no thread is left over")
    assert len(edited.daemon.stderr().splitlines()) - lines < 60 / SETTLE_S_MAX


def test_a_repository_configures_nothing(daemon: Daemon, tmp_path: Path) -> None:
    """DESIGN 5: only the user's own file; whoever clones something must not be configured by it."""
    for name in ("config.toml", ".cosession.toml", "cosession.toml", ".cosession/config.toml", "config/config.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("limits.watches_max = 1\n")
    with Pack(daemon.socket) as peer:
        peer.reply("hello", project=str(tmp_path))
        assert peer.reply("admin.reload")["changed"] == []
    where = psutil.Process(daemon.pid).cwd()
    assert where == "/"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
@pytest.mark.parametrize("wrong", ["owner", "mode"])
def test_a_file_that_is_not_ours_alone_is_refused_while_running_too(edited: Edited, wrong: str) -> None:
    edited.write("limits.watches_max = 9\n")
    if wrong == "owner":
        os.chown(edited.path, 4242, -1)
    else:
        edited.path.chmod(0o666)
    answer = edited.peer.call("admin.reload")
    assert answer.code == "config"
    assert "4242" in answer.body["message"] or "chmod go-w" in answer.body["message"]
    os.chown(edited.path, 0, -1)
    edited.path.chmod(0o600)
    edited.goes_by("limits.watches_max", 9)


def test_a_pipe_in_its_place_holds_nobody_up(edited: Edited) -> None:
    edited.path.parent.mkdir(mode=0o700)
    os.mkfifo(edited.path)
    assert edited.peer.call("admin.reload").code == "config"
    edited.path.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(edited.path))
        assert edited.peer.call("admin.reload").code == "config"
    edited.path.unlink()
    assert edited.peer.reply("admin.reload")["changed"] == []


def test_a_link_in_circles_is_an_error_like_any_other(edited: Edited) -> None:
    edited.path.parent.symlink_to(edited.path.parent.name)
    assert edited.peer.call("admin.reload").code == "config"
    eventually(lambda: bool(edited.log(KEPT)), "the reason is logged")
    edited.path.parent.unlink()
    edited.write("limits.watches_max = 9\n")
    edited.goes_by("limits.watches_max", 9)


def test_an_idle_daemon_that_watches_its_configuration_stays_idle(edited: Edited) -> None:
    """It opens descriptors and threads for it, and none of them wakes."""
    edited.write("limits.watches_max = 9\n")
    edited.goes_by("limits.watches_max", 9)
    rests(edited.daemon)
