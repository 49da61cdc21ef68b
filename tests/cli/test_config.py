"""`config show`, `check`, `path`: with and without a daemon, which they never start, and what strangers get wrong."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from cosession.config import Config, values

DEFAULTS = values(Config())


@pytest.fixture
def file(home: Path) -> Path:
    """The path of the file, which is not there; its directory is."""
    path = home / "config" / "config.toml"
    path.parent.mkdir(mode=0o700)
    return path


def test_path_needs_neither_the_file_nor_a_daemon(nowhere, home):
    path = str(home / "config" / "config.toml")
    assert nowhere.ok("config", "path").out == path + "\n"
    assert nowhere.ok("config", "path", "--json").json == {"path": path, "exists": False, "origin": "COSESSION_HOME"}
    env = {"COSESSION_HOME": "", "XDG_CONFIG_HOME": str(home)}
    found = nowhere.ok("config", "path", "--json", env=env).json
    assert found == {"path": f"{home}/cosession/config.toml", "exists": False, "origin": "XDG_CONFIG_HOME"}
    found = nowhere.ok("config", "path", "--json", env={"COSESSION_HOME": "", "XDG_CONFIG_HOME": "relative"}).json
    assert found["origin"] == ""


def test_nothing_of_it_starts_a_daemon_or_makes_a_file(spawning, home):
    for arguments in (("show",), ("show", "--origin"), ("show", "--json"), ("check",), ("check", "--json"), ("path",)):
        spawning.ok("config", *arguments)
    assert list(home.rglob("*")) == []
    spawning.refused(69, "status")


def test_show_without_a_file_shows_the_defaults(nowhere, home):
    rows = [line.split(None, 1) for line in nowhere.ok("config", "show").out.splitlines()]
    assert rows[0] == ["KEY", "VALUE"]
    assert dict(rows[1:]) == {
        key: f"{value:g}" if isinstance(value, float) else str(value) or '""' for key, value in DEFAULTS.items()
    }
    out = nowhere.ok("config", "show", "--origin").out
    assert f"file: {home}/config/config.toml (COSESSION_HOME), which is not there" in out
    found = nowhere.ok("config", "show", "--json").json
    assert found["values"] == DEFAULTS
    assert set(found["origins"].values()) == {"default"}
    assert (found["exists"], found["daemon"]) == (False, None)


def test_show_says_where_each_value_comes_from(nowhere, file):
    file.write_text('[log]\nlevel = "debug"\n\n[limits]\n"watches_max" = 3\n"key_bytes\\u005fmax" = 64\n')
    found = nowhere.ok("config", "show", "--json").json
    assert found["values"] == {**DEFAULTS, "log.level": "debug", "limits.watches_max": 3, "limits.key_bytes_max": 64}
    set_here = {key: where for key, where in found["origins"].items() if where != "default"}
    assert set_here == {
        "log.level": f"{file}:2",
        "limits.watches_max": f"{file}:5",
        "limits.key_bytes_max": str(file),  # no line, since it is not certain
    }
    out = nowhere.ok("config", "show", "--origin").out
    assert any(line.split() == ["limits.watches_max", "3", f"{file}:5"] for line in out.splitlines())


MISTAKES = {
    "a key misspelled": ("[limits]\nmax_watches = 9\n", "max_watches is unknown, did you mean limits.watches_max?"),
    "a limit raised": ("limits.value_bytes_max = 1_000_000\n", "value_bytes_max = 1000000, allowed is 64 to 262144"),
    "a value of another kind": ("log.level = debug\n", "config.toml:1: it is no TOML"),
    "a unit": ('[limits]\nvalue_bytes_max = "64 KiB"\n', "value_bytes_max = '64 KiB', allowed is a whole number"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.parametrize("verb", ["show", "check"])
def test_what_a_stranger_gets_wrong_is_told_by_line_and_ends_with_78(nowhere, file, verb, text, said):
    file.write_text(text)
    err = nowhere.refused(78, "config", verb).err
    assert said in err
    assert "correct it there" in err
    error = nowhere.run("config", verb, "--json").error
    assert error["code"] == "config"
    assert error["data"]["problems"][0]["line"] in (1, 2)


def test_what_else_a_stranger_may_try(nowhere, file, tmp_path):
    assert "did you mean config show?" in nowhere.refused(64, "config", "shwo").err
    assert "cosession config check" in nowhere.run("config").out
    assert "there is no such file" in nowhere.refused(78, "config", "check", str(tmp_path / "gone.toml")).err
    assert "no plain file" in nowhere.refused(78, "config", "check", str(tmp_path)).err
    assert "a word too many" in nowhere.refused(64, "config", "show", "limits.watches_max").err
    assert (
        "there is no option '--origins', did you mean --origin?"
        in nowhere.refused(64, "config", "show", "--origins").err
    )
    file.write_text("")
    file.chmod(0o666)
    assert f"run: chmod go-w {file}" in nowhere.refused(78, "config", "show").err


def test_check_tells_all_mistakes_at_once(nowhere, file):
    file.write_text("[limits]\nwatch_max = 1\nkey_bytes_max = 9_999\n[logs]\n")
    result = nowhere.refused(78, "config", "check")
    rows = [line.split(None, 1) for line in result.out.splitlines()]
    assert [row[0] for row in rows] == ["LINE", "2", "3", "4"]
    assert "(2 more to correct)" in result.err
    assert [each["key"] for each in nowhere.run("config", "check", "--json").error["data"]["problems"]] == [
        "limits.watch_max",
        "limits.key_bytes_max",
        "logs",
    ]


def test_check_says_what_a_file_would_change_and_when(nowhere, tmp_path):
    assert (
        "is not there, so the defaults hold; against the defaults it changes nothing"
        in nowhere.ok("config", "check").out
    )
    draft = tmp_path / "draft.toml"
    draft.write_text('log.level = "debug"\n[limits]\nwatches_max = 3\nrequest_id_s = 60\n')
    out = nowhere.ok("config", "check", str(draft)).out
    assert out.splitlines()[1:] == [
        "  log.level: info -> debug, applies at once",
        "  limits.watches_max: 64 -> 3, applies to new connections",
        "  limits.request_id_s: 86400 -> 60, applies at a restart",
    ]
    found = nowhere.ok("config", "check", str(draft), "--json").json
    assert found["against"] == "the defaults"
    assert found["changes"][2] == {"key": "limits.request_id_s", "before": 86_400, "after": 60, "applies": "restart"}


def test_a_running_daemon_is_compared(cli, daemon):
    file = daemon.home / "config" / "config.toml"
    file.parent.mkdir(mode=0o700)
    file.write_text("limits.request_id_s = 60\n")
    cli.ok("debug", "call", "admin.reload", "{}")
    result = cli.ok("config", "show")
    assert "goes by another value: limits.request_id_s: 86400 -> 60, applies at a restart" in result.err
    assert result.err.endswith("cosession: do: cosession restart\n")
    found = cli.ok("config", "show", "--json").json["daemon"]
    assert found["differs"] == [{"key": "limits.request_id_s", "daemon": 86_400, "file": 60, "applies": "restart"}]
    assert (found["pid"], found["same"], found["config_error"]) == (daemon.pid, False, "")
    out = cli.ok("config", "check").out
    assert f"against the running daemon (pid {daemon.pid}) it changes this" in out
    assert "limits.request_id_s: changed at a restart only" in cli.ok("status").out
    file.write_text("limits.request_id_s = ")
    assert cli.run("debug", "call", "admin.reload", "{}").code == 78
    assert "it is no TOML" in cli.ok("status").out
    assert cli.run("config", "show").code == 78
    file.unlink()
    cli.ok("debug", "call", "admin.reload", "{}")
    assert cli.ok("config", "show", "--json").json["daemon"]["same"] is True
    assert cli.ok("config", "show").err == ""
    elsewhere = {"COSESSION_HOME": str(daemon.home / "other"), "COSESSION_SOCKET": str(daemon.socket)}
    assert f"reads another file, {file}" in cli.ok("config", "show", env=elsewhere).err


def test_foreign_text_reaches_no_terminal_unescaped(nowhere, file):
    file.write_text('"\\u001b]0;owned\\u0007" = 1\n[limits]\n"\\u202e" = 2\n')
    ours, theirs = pty.openpty()
    done = subprocess.run(
        nowhere.popen_command("config", "check"), env=nowhere.env, stdout=theirs, stderr=theirs, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 78
    assert b"\x1b]" not in shown
    assert "\u202e".encode() not in shown
    assert b"is unknown" in shown
