"""The service units travel in the wheel and are well-formed; what an installation makes of them is in tests/service."""

import os
import plistlib
import shutil
import subprocess
from importlib import resources

import pytest

from service.unitfile import settings

UNITS = resources.files("cosession") / "_units"


def shipped(name):
    return (UNITS / "systemd" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cosessiond.service", "cosessiond@.service"])
def test_a_unit_restarts_only_what_a_restart_can_help(name):
    unit = settings(shipped(name))
    service = unit["Service"]
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["75 78"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(service["WatchdogSec"][0]) >= 30
    assert unit["Unit"]["StartLimitBurst"] == ["5"]


def test_the_traps_of_a_users_service_manager_are_minded():
    service, socket = settings(shipped("cosessiond.service")), settings(shipped("cosessiond.socket"))
    assert service["Service"]["RuntimeDirectoryPreserve"] == ["yes"], "the socket lies in it"
    assert service["Unit"]["Requires"] == ["cosessiond.socket"]
    assert socket["Socket"]["SocketMode"] == ["0600"]
    assert socket["Socket"]["DirectoryMode"] == ["0700"]
    without = {"PrivateDevices", "ProtectHome", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet"}
    assert not without & set(service["Service"]), "without a user namespace they do nothing, or it does not start"
    confined = settings(shipped("cosessiond.service.d/namespace.conf"))["Service"]
    assert next(iter(confined)) == "PrivateUsers"
    assert "notify-reload" not in service["Service"]["Type"], "only from systemd 253 on"


def test_the_unit_of_the_system_has_no_socket_that_root_would_open():
    unit = settings(shipped("cosessiond@.service"))
    assert unit["Service"]["User"] == ["%i"]
    assert "Requires" not in unit["Unit"], "a client talks to nobody but a daemon of its own user"
    assert unit["Service"]["Environment"] == ["COSESSION_SOCKET=%t/cosession-%i/d.sock"]
    assert unit["Service"]["RuntimeDirectory"] == ["cosession-%i"]


def test_systemd_accepts_the_units(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed")
    # It checks that the program is there, so the unit gets a home in which it is.
    program = tmp_path / ".local" / "bin" / "cosessiond"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = []
    for name in ("cosessiond.service", "cosessiond.socket"):
        units.append(tmp_path / name)
        units[-1].write_text(shipped(name))
    env = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    command = [analyze, "--user", "verify", "--man=no", *map(str, units)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_launch_agent_is_kept_alive_after_a_crash_only():
    agent = plistlib.loads((UNITS / "launchd" / "dev.cosession.daemon.plist").read_bytes())
    assert agent["Label"] == "dev.cosession.daemon"
    assert agent["KeepAlive"] == {"Crashed": True}
    assert agent["RunAtLoad"] is False
    assert agent["ThrottleInterval"] >= 1
    assert agent["ProgramArguments"][-1].endswith('/.local/bin/cosessiond"')
