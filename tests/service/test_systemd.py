"""systemctl's answers, and its silence: read, bounded, and told with what to do. The real one is in tests/system."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from cosession.errors import CosessionError, TimedOut, Unreachable
from cosession.service import manifest
from cosession.service.manifest import Manifest
from cosession.service.systemd import Systemd
from harness import Daemon

WELL = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "MainPID": "42",
    "UnitFileState": "enabled",
    "ExecStart": "{ path=/bin/sh ; argv[]=/bin/sh -c x ; ignore_errors=no ; pid=42 ; code=(null) ; status=0/0 }",
    "Result": "success",
    "ExecMainStatus": "0",
    "ExecMainCode": "0",
    "StatusText": "0.1.0: revision 7, 2 connections",
    "NRestarts": "0",
}
SOCKET = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}


class Fake:
    """A machine whose systemctl says what it is told to say."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.place = home / "says"
        self.place.mkdir()
        programs = home / "bin"
        programs.mkdir()
        (programs / "systemctl").symlink_to(Path(__file__).with_name("fake_systemctl.sh"))
        self.env = {
            "HOME": str(home),
            "COSESSION_HOME": str(home),
            "PATH": f"{programs}:/usr/bin:/bin",
        }
        self.shows()

    def says(self, word: str, out: str = "", err: str = "", code: int = 0, late: float = 0) -> None:
        """From now on `word` is answered so."""
        for name, text in (("out", out), ("err", err), ("code", str(code) if code else ""), ("late", str(late or ""))):
            file = self.place / f"{word}.{name}"
            file.unlink(missing_ok=True)
            if text:
                file.write_text(text)

    def shows(self, service: dict[str, str] | None = None, socket: dict[str, str] | None = None) -> None:
        """How the units stand."""
        for word, facts in (("service", {**WELL, **(service or {})}), ("socket", {**SOCKET, **(socket or {})})):
            self.says(f"show-{word}", "".join(f"{name}={value}\n" for name, value in facts.items()))

    def asked(self) -> list[str]:
        """What it was asked so far."""
        return (self.place / "asked").read_text().splitlines()


@pytest.fixture
def fake(home):
    """See `Fake`."""
    return Fake(home)


STATES = {
    "running": ({}, {}),
    "starting": ({"ActiveState": "activating"}, {}),
    "stopping": ({"ActiveState": "deactivating"}, {}),
    "idle": ({"ActiveState": "inactive"}, {}),
    "stopped": ({"ActiveState": "inactive"}, {"ActiveState": "inactive"}),
    "failed": ({"ActiveState": "failed"}, {"ActiveState": "failed"}),
    "unknown": ({"LoadState": "not-found"}, {"LoadState": "not-found"}),
}


@pytest.mark.parametrize("state", STATES)
def test_states(state, fake):
    fake.shows(*STATES[state])
    report = Systemd(fake.env).report()
    assert report.state == state
    assert (report.pid == 42) == (state in ("running", "starting", "stopping"))


ENDS = [
    ({"Result": "exit-code", "ExecMainStatus": "78", "ExecMainCode": "1"}, 78, "exit code 78"),
    ({"Result": "signal", "ExecMainStatus": "9", "ExecMainCode": "2"}, 0, "signal 9"),
    ({"Result": "watchdog", "ExecMainStatus": "6", "ExecMainCode": "3"}, 0, "service watchdog"),
    ({"Result": "start-limit-hit", "ExecMainStatus": "70", "ExecMainCode": "1"}, 70, "gave up"),
    ({"Result": "exit-code", "ExecMainStatus": "226", "ExecMainCode": "1"}, 226, "namespaces"),
    ({"Result": "something-new", "ExecMainStatus": "?", "ExecMainCode": ""}, 0, "something-new"),
]


@pytest.mark.parametrize(("facts", "code", "words"), ENDS)
def test_how_it_ended(facts, code, words, fake):
    fake.shows({"ActiveState": "failed", **facts})
    report = Systemd(fake.env).report()
    assert report.exit_code == code
    assert words in report.result


def test_a_program_that_has_gone_is_named(fake):
    fake.shows({"ExecStart": WELL["ExecStart"].replace("/bin/sh", "/gone/python")})
    assert Systemd(fake.env).report().missing == "/gone/python"
    fake.says("start", err="Job for cosessiond.service failed.\nSee x for details.\n", code=1)
    with pytest.raises(CosessionError, match="the unit runs /gone/python, which is not there; run: ") as failed:
        Systemd(fake.env).start(5)
    assert failed.value.code == "config"


def test_a_start_that_fails_says_what_the_daemon_said(fake):
    said = "cannot use /x/config.toml:1: nonsense is unknown; correct it there"
    fake.shows({"Result": "exit-code", "ExecMainStatus": "78", "ExecMainCode": "1", "StatusText": said})
    fake.says("start", err="Job for cosessiond.service failed because ...\n", code=1)
    with pytest.raises(CosessionError) as failed:
        Systemd(fake.env).start(5)
    assert (failed.value.code, failed.value.message) == ("config", f"cannot start the service: {said}")
    assert failed.value.exit_code == 78


@pytest.mark.parametrize(
    "said",
    [
        "Failed to connect to bus: No medium found",
        "Failed to connect to bus: $DBUS_SESSION_BUS_ADDRESS and $XDG_RUNTIME_DIR not defined (consider using ...)",
    ],
)
def test_no_service_manager_at_all(said, fake):
    fake.says("show-service", err=said + "\n", code=1)
    with pytest.raises(Unreachable, match="loginctl enable-linger"):
        Systemd(fake.env).report()


def test_no_systemctl_at_all(home):
    with pytest.raises(CosessionError, match="cannot run systemctl") as failed:
        Systemd({"PATH": str(home)}).report()
    assert failed.value.code == "not_found"


def test_one_that_never_answers_is_given_up(fake):
    fake.says("stop", late=600)
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"has not answered `systemctl --user stop .*` within 0.3 s"):
        Systemd(fake.env).stop(0.3)
    assert time.monotonic() - began < 30


def test_what_went_wrong_before_counts_for_a_client_and_not_for_a_person(fake):
    Systemd(fake.env).start(5, anew=False)
    assert not [each for each in fake.asked() if each.startswith("reset-failed")]
    Systemd(fake.env).start(5)
    assert fake.asked()[-2:] == [
        "reset-failed cosessiond.service cosessiond.socket",
        "start cosessiond.socket cosessiond.service",
    ]


def test_arguments_for_once_are_taken_back(fake):
    fake.says("start", err="no\n", code=1)
    with pytest.raises(CosessionError):
        Systemd(fake.env).start(5, arguments="--force")
    words = [each.split()[0] for each in fake.asked()]
    assert words == ["reset-failed", "set-environment", "start", "unset-environment"]
    assert "set-environment COSESSIOND_ARGS=--force" in fake.asked()


def test_answers_that_make_no_sense_are_no_trouble(fake):
    fake.says("show-service", "\0\xff=\n=\nLoadState\nMainPID=x\nNRestarts=\nExecMainStatus=-1\n")
    assert Systemd(fake.env).report().state == "unknown"
    fake.says("--version", "something else entirely\n")
    assert Systemd(fake.env).version() == 0


# -- a client that needs a daemon where a unit is installed ----------------------------------------------------------


@pytest.fixture
def installed(fake, home):
    """A home with a manifest, so that the unit is what is started."""
    (home / "state").mkdir(mode=0o700)

    def make(interpreter=sys.executable):
        found = Manifest(manager="systemd", version="9", interpreter=interpreter, socket=str(home / "run/d.sock"))
        manifest.write(str(home / "state"), found)
        return fake

    return make


def test_a_client_has_the_unit_started_and_waits_no_longer_than_it_wants_to(installed, run_cli):
    fake = installed()
    fake.says("start", late=600)
    began = time.monotonic()
    done = run_cli("get", "k", "--timeout", "3", env=fake.env)
    assert time.monotonic() - began < 40
    assert (done.returncode, done.stdout) == (69, "")
    assert "cannot reach the daemon" in done.stderr
    assert fake.asked() == ["start cosessiond.socket cosessiond.service"], "and what failed before still counts"
    assert not Daemon(fake.home).processes(), "nothing that waits for it is left"


def test_a_client_is_told_what_the_daemon_said(installed, run_cli):
    fake = installed()
    said = "cannot use /x/config.toml:1: nonsense is unknown; correct it there"
    fake.shows({"Result": "exit-code", "ExecMainStatus": "78", "ExecMainCode": "1", "StatusText": said})
    fake.says("start", err="Job for cosessiond.service failed because ...\n", code=1)
    done = run_cli("get", "k", env=fake.env)
    assert done.returncode == 78
    assert f"cannot start the daemon: it {said}" in done.stderr


def test_a_client_is_told_that_the_interpreter_of_the_unit_has_gone(installed, run_cli):
    fake = installed(interpreter="/gone/python")
    done = run_cli("get", "k", env=fake.env)
    assert done.returncode == 78
    assert "its unit runs /gone/python, which is not there any more; run: cosession service install" in done.stderr
    assert not (fake.place / "asked").exists(), "the service manager is not even asked"


def test_a_stop_stops_the_socket_first(installed, run_cli, home):
    fake = installed()
    done = run_cli("stop", env=fake.env)
    assert done.stdout.startswith("stopped (pid 42)")
    assert fake.asked()[-1] == "stop cosessiond.socket cosessiond.service"
    assert abs((home / "state" / "stopped").stat().st_mtime - time.time()) < 60


def test_without_a_unit_nobody_asks_the_service_manager(fake, run_cli):
    assert run_cli("stop", env=fake.env).stdout == "no daemon was running\n"
    assert run_cli("service", "restart", env=fake.env).returncode == 1
    assert not (fake.place / "asked").exists()
