"""The service units travel in the wheel and are well-formed."""

import configparser
import os
import plistlib
import shutil
import subprocess
from importlib import resources

import pytest

UNITS = resources.files("cosession") / "_units"


@pytest.fixture
def service():
    return (UNITS / "systemd" / "cosessiond.service").read_text(encoding="utf-8")


def test_systemd_unit_restarts_only_what_a_restart_can_help(service):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(service)
    assert unit["Service"]["Type"] == "exec"
    assert unit["Service"]["ExecStart"] == "%h/.local/bin/cosessiond"
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"].split() == ["75", "78"]
    assert unit["Install"]["WantedBy"] == "default.target"


def test_systemd_accepts_the_unit(service, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed")
    # It checks that the program is there, so the unit gets a home in which it is.
    program = tmp_path / ".local" / "bin" / "cosessiond"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "cosessiond.service"
    unit.write_text(service)
    env = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [analyze, "--user", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_launch_agent_is_kept_alive_after_a_crash_only():
    agent = plistlib.loads((UNITS / "launchd" / "dev.cosession.daemon.plist").read_bytes())
    assert agent["Label"] == "dev.cosession.daemon"
    assert agent["KeepAlive"] == {"Crashed": True}
    assert agent["RunAtLoad"] is False
    assert agent["ThrottleInterval"] >= 1
    assert agent["ProgramArguments"][-1].endswith('/.local/bin/cosessiond"')
