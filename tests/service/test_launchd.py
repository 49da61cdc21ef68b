"""launchd, which nobody here has: the agent against its manual, launchctl's answers and races against a fake of it."""

from __future__ import annotations

import json
import os
import plistlib
import sys
from pathlib import Path

import pytest

from cosession.errors import CosessionError, TimedOut
from cosession.service import agent, launchd
from cosession.service.asking import Answer
from cosession.service.launchd import Launchd, read_print
from cosession.service.place import Place
from cosessiond.process import activation
from harness import Daemon
from service.fake_launchctl import GUI, USER, FakeLaunchd

PLACE = Place(
    command=("/Users/ä b/venv/bin/python", "-I", "-m", "cosessiond"),
    environment={"PATH": "/usr/bin:/bin", "COSESSION_HOME": "/Users/ä b/<&>"},
    socket="/Users/ä b/run/d.sock",
    state="/Users/ä b/state",
    log="/Users/ä b/log",
    spool="/Users/ä b/spool",
    home="/Users/ä b",
    config_home="/Users/ä b/.config",
)

#: launchd.plist(5), the part of it that is used: what each key takes.
SCHEMA = {
    "Label": str,
    "ProgramArguments": [str],
    "EnvironmentVariables": {...: str},
    "WorkingDirectory": str,
    "RunAtLoad": bool,
    "KeepAlive": {"Crashed": bool},
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "SoftResourceLimits": {"NumberOfFiles": int, "Core": int},
    "HardResourceLimits": {"NumberOfFiles": int, "Core": int},
    "StandardErrorPath": str,
    "Sockets": {...: {"SockFamily": str, "SockType": str, "SockPathName": str, "SockPathMode": int}},
}


def fits(value, wanted, where="agent"):
    """Everything in a property list that its manual would not take."""
    if isinstance(wanted, dict):
        if not isinstance(value, dict):
            return [f"{where} is no dictionary"]
        unknown = [f"{where}.{key} is unknown" for key in value if key not in wanted and ... not in wanted]
        inner = [(key, wanted.get(key, wanted.get(...))) for key in value]
        return unknown + [each for key, kind in inner if kind for each in fits(value[key], kind, f"{where}.{key}")]
    if isinstance(wanted, list):
        return [each for item in value for each in fits(item, wanted[0], f"{where}[]")]
    return [] if type(value) is wanted else [f"{where} is {type(value).__name__}"]


def test_the_agent_says_what_its_manual_takes():
    found = plistlib.loads(agent.text(PLACE))
    assert fits(found, SCHEMA) == []
    assert found["ProgramArguments"] == list(PLACE.command)
    assert found["EnvironmentVariables"] == PLACE.environment
    assert found["Sockets"]["Listener"]["SockPathName"] == PLACE.socket
    assert oct(found["Sockets"]["Listener"]["SockPathMode"]) == "0o600"
    assert oct(found["Umask"]) == "0o77"
    assert found["SoftResourceLimits"]["NumberOfFiles"] >= 4 * 1_024 + 256, "what a full daemon needs"
    paths = [found["ProgramArguments"][0], found["StandardErrorPath"], found["WorkingDirectory"]]
    assert all(Path(path).is_absolute() for path in paths)
    assert "~" not in agent.text(PLACE).decode()


@pytest.mark.parametrize(
    ("key", "value"), [("KeepAlife", True), ("RunAtLoad", "no"), ("Umask", "077"), ("ProgramArguments", [1])]
)
def test_a_mistake_in_the_agent_is_noticed(key, value):
    assert fits({**agent.properties(PLACE), key: value}, SCHEMA) != []


def test_both_sides_speak_of_the_same_agent():
    assert (agent.LABEL, agent.SOCKET_NAME) == (activation.LABEL, activation.SOCKET_NAME)


# -- launchctl -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mac(home, monkeypatch):
    """A Launchd that talks to a fake, on a clock that only its waiting moves."""

    def make(**knobs):
        fake, clock = FakeLaunchd(**knobs), [0.0]
        monkeypatch.setattr(launchd, "ask", lambda _, *words, **__: Answer(*fake.answer(*words)))
        env = {"HOME": str(home)}
        real = Launchd(env, sleep=lambda s: clock.__setitem__(0, clock[0] + s), now_s=lambda: clock[0])
        (path,) = real.files(PLACE, confined=False)
        Path(path).parent.mkdir(parents=True)
        Path(path).write_bytes(agent.text(PLACE))
        return real, fake

    return make


def test_a_life(mac):
    real, fake = mac()
    assert real.report().state == "unknown"
    real.register(10, changed=True)
    assert (fake.domain, real.report().state) == (GUI, "idle")
    real.start(10)
    assert (real.report().state, real.report().pid) == ("running", fake.pid)
    first = fake.pid
    real.restart(10)
    assert real.report().pid == fake.pid != first
    assert ("kill", "SIGTERM", f"{GUI}/{agent.LABEL}") in fake.asked, "it is asked to end, not killed"
    real.unregister(10)
    assert real.report().state == "unknown"
    real.unregister(10)  # that there is nothing is fine


def test_what_is_installed_again_is_taken_out_first(mac):
    real, fake = mac(lingers=4)
    real.register(10, changed=True)
    fake.run()
    real.register(10, changed=True)
    assert fake.domain == GUI
    assert fake.pid == 0, "it is the new one"
    words = [each[0] for each in fake.asked]
    last_bootstrap = len(words) - 1 - words[::-1].index("bootstrap")
    assert words[last_bootstrap - 1] == "print", (
        "launchd was asked whether the old one had gone before the new one came"
    )


def test_what_is_the_same_is_left_alone(mac):
    real, fake = mac()
    real.register(10, changed=True)
    fake.run()
    before = fake.pid
    real.register(10, changed=False)
    assert fake.pid == before


def test_bootstrap_that_fails_for_a_moment(mac):
    real, fake = mac(flaky=3)
    real.register(10, changed=True)
    assert fake.domain == GUI


def test_bootstrap_that_never_comes_ends(mac):
    real, _ = mac(flaky=1_000_000)
    with pytest.raises(TimedOut, match="5: Input/output error"):
        real.register(10, changed=True)


def test_bootout_that_never_ends_ends(mac):
    real, fake = mac(lingers=1_000_000)
    real.register(10, changed=True)
    with pytest.raises(TimedOut, match="Operation now in progress"):
        real.unregister(10)
    assert fake.domain


def test_without_a_screen_it_is_the_domain_of_the_user(mac):
    real, fake = mac(gui=False)
    real.register(10, changed=True)
    assert fake.domain == USER
    real.start(10)
    assert real.report().state == "running"
    real.stop(10)
    assert fake.domain == ""


def test_one_that_was_disabled_is_enabled(mac):
    real, fake = mac(disabled=True)
    real.register(10, changed=True)
    assert fake.domain == GUI


def test_an_answer_that_nobody_knows_is_told(mac, monkeypatch):
    real, _ = mac()
    monkeypatch.setattr(launchd, "ask", lambda *_, **__: Answer(64, "", "Unrecognized subcommand\n"))
    with pytest.raises(CosessionError, match="launchctl ended with 64, Unrecognized subcommand"):
        real.register(10, changed=True)


def test_there_is_nothing_to_confine_with(mac):
    real, _ = mac()
    with pytest.raises(CosessionError, match="launchd has no namespaces"):
        real.files(PLACE, confined=True)


def test_the_outer_lines_of_print_count():
    fake = FakeLaunchd()
    fake.domain = GUI
    fake.run()
    fake.end(78)
    _, text, _ = fake.answer("print", f"{GUI}/{agent.LABEL}")
    report = read_print(text)
    assert (report.pid, report.exit_code, report.state) == (0, 78, "idle")
    assert report.result == "it ended with exit code 78"
    assert report.missing == "/x/python"


# -- the whole, with a daemon ----------------------------------------------------------------------------------------


@pytest.fixture
def as_on_a_mac(home, monkeypatch):
    """A machine with a launchctl that starts real daemons, and no systemctl."""
    programs = home / "bin"
    programs.mkdir()
    script = programs / "launchctl"
    fake = Path(__file__).with_name("fake_launchctl.py")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
    script.chmod(0o755)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COSESSION_", "XDG_"))},
        "COSESSION_HOME": str(home),
        "HOME": str(home / "user"),
        "PATH": str(programs),
        "FAKE_LAUNCHD": str(home / "launchd.json"),
    }
    (home / "user").mkdir()
    monkeypatch.setenv("COSESSION_HOME", str(home))
    yield env
    Daemon(home).close()


def test_install_restart_and_uninstall_as_on_a_mac(as_on_a_mac, home, run_cli):
    def run(*words, code=0):
        done = run_cli(*words, env=as_on_a_mac)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    file = home / "user/Library/LaunchAgents" / agent.FILE
    assert f"would write  {file} (new" in run("service", "install", "--dry-run")
    assert not file.exists()
    said = run("service", "install")
    assert f"launchctl bootstrap {GUI} {file}" in said
    assert "installed: pid" in said
    assert plistlib.loads(file.read_bytes())["Sockets"]["Listener"]["SockPathName"] == str(home / "run/d.sock")
    facts = json.loads(run("service", "status", "--json"))
    assert (facts["manager"], facts["state"], facts["trouble"]) == ("launchd", "running", [])
    assert json.loads(run("service", "restart", "--json"))["pid"] != facts["pid"]
    run("service", "uninstall")
    assert not file.exists()
    assert list((home / "user").iterdir()) == []
    assert run("service", "status", code=1).startswith("not installed")
