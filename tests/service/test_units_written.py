"""What an installation writes for systemd: the shipped units with its own paths, whatever is in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from cosession.errors import ConfigError
from cosession.service import place, units
from cosession.service.place import Place
from service.unitfile import settings, words

NASTY = 'a b%h$HOME "q" \\n ü'


#: What systemd takes in the path of a program.
BEARABLE = "a b%h$HOME ü"


def placed(base: str = f"/opt/{NASTY}", program: str = f"/opt/{BEARABLE}/python") -> Place:
    return Place(
        command=(program, "-I", f"{base}/$x", "cosessiond"),
        environment={"PATH": f"{base}:/bin", "COSESSION_HOME": base},
        socket=f"{base}/d.sock",
        state=f"{base}/state",
        log=f"{base}/log",
        spool=f"{base}/spool",
        home=base,
        config_home=f"{base}/.config",
    )


def written(name, **more):
    return settings(units.texts(placed(), **{"version": 252, "confined": True, **more})[name])


def test_paths_with_anything_in_them_come_back_as_they_are():
    service = written(units.SERVICE)["Service"]
    (command,) = service["ExecStart"]
    assert words(command, program=True) == list(placed().command)
    assert command.endswith(" $COSESSIOND_ARGS")
    env = [words(value.replace("$", "$$"))[0] for value in service["Environment"]]
    assert env == [f"{name}={value}" for name, value in placed().environment.items()]
    assert written(units.SOCKET)["Socket"]["ListenStream"] == [placed().socket.replace("%", "%%")]
    confined = written(units.DROP_IN)["Service"]
    assert [words(value.replace("$", "$$"))[0] for value in confined["ReadWritePaths"]] == [
        placed().state,
        f"/opt/{NASTY}",
        f"-/opt/{NASTY}/spool",
    ]


def test_nothing_else_of_the_shipped_units_is_changed():
    shipped = resources.files("cosession") / "_units" / "systemd"
    for name in (units.SERVICE, units.SOCKET, units.DROP_IN):
        before, after = settings((shipped / name).read_text()), written(name)
        for section, values in before.items():
            kept = set(values) - {"ExecStart", "Environment", "ListenStream", "ReadWritePaths"}
            assert {key: values[key] for key in kept} == {key: after[section][key] for key in kept}, name


def test_a_newer_systemd_gets_a_back_off():
    assert written(units.SERVICE)["Service"]["RestartSec"] == ["1"]
    service = written(units.SERVICE, version=254)["Service"]
    assert (service["RestartSec"], service["RestartSteps"]) == (["200ms"], ["5"])


def test_systemd_accepts_what_is_written(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / BEARABLE / "python"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    texts = units.texts(placed(str(tmp_path / NASTY), str(program)), version=252, confined=False)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    env = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [analyze, "--user", "verify", "--man=no", *(str(tmp_path / name) for name in texts)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_no_unit_can_say_is_refused(monkeypatch):
    env = {"HOME": "/h", "PATH": "/bin", "COSESSION_HOME": "/tmp/two\nlines"}
    with pytest.raises(ConfigError, match="plain path"):
        place.this_place(env)
    monkeypatch.setattr(sys, "executable", '/opt/"quoted"/python')
    with pytest.raises(ConfigError, match="no quote and no backslash"):
        place.this_place({"HOME": "/h"})


def test_everything_written_down_is_absolute(monkeypatch):
    monkeypatch.chdir("/tmp")
    env = {"HOME": "/h", "PATH": "bin:/usr/bin::.", "COSESSION_HOME": "home", "XDG_STATE_HOME": "relative", "LANG": "C"}
    found = place.this_place(env)
    assert found.environment["COSESSION_HOME"] == "/tmp/home"
    assert "XDG_STATE_HOME" not in found.environment
    assert all(each.startswith("/") for each in found.environment["PATH"].split(":"))
    assert found.environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert found.command[0] == sys.executable, "the environment's own Python, not what it is a link to"


@pytest.mark.parametrize(
    ("prefix", "base", "kind"),
    [
        ("/home/x/.local/pipx/venvs/cosession", "/usr", "pipx"),
        ("/home/x/.local/share/pipx/venvs/cosession", "/usr", "pipx"),
        ("/home/x/project/.venv", "/usr", "virtual environment"),
        ("/usr", "/usr", "pip"),
    ],
)
def test_each_kind_of_installation_is_told(prefix, base, kind, monkeypatch):
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", base)
    assert place.kind() == kind
