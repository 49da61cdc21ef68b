"""The daemon as a service of a user under a real systemd: one story, each test a chapter of it, in this order.

Installed, started by its socket, killed while a client waits, hung, reloaded, stopped, misconfigured, upgraded under a
client at work, confined, uninstalled.
"""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest

from cosession._version import __version__
from system import stock
from system.machine import HOME, RUNTIME, USER

UNITS = HOME / ".config/systemd/user"
STATE = HOME / ".local/state/cosession"
SOCKET = RUNTIME / "cosession/d.sock"
SERVICE = "cosessiond.service"
WAIT_S = 30.0
#: The most of `systemd-analyze security`, in tenths, lower is better. What a user's service manager cannot do at all
#: (capabilities, which no process of a user has anyway) counts there too.
EXPOSURE = {"plain": 65, "confined": 20, "system": 20}


@pytest.fixture
def ctl(machine):
    """Runs `systemctl --user ...`."""
    return lambda *words, check=True: machine.user("systemctl", "--user", *words, check=check).stdout.strip()


@pytest.fixture
def shown(ctl):
    """A property of the service."""
    return lambda name: ctl("show", f"--property={name}", "--value", SERVICE)


def until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def tree(machine):
    """Every file and directory of the user's, but what is the daemon's own or Python's."""
    left_out = [word for place in (stock.VENV, STATE.parents[1]) for word in ("-path", str(place), "-prune", "-o")]
    return set(machine.user("find", str(HOME), *left_out, "-print").stdout.split())


#: A client at work: says when it is connected, waits for a word, writes, and says what came of it.
CLIENT = """
import os, sys, cosession
with cosession.connect(timeout_s=60, spawn=False) as client:
    with client.session(agent="test", name="worker") as session:
        watch = client.watch(session.id + "/", timeout_s=60)
        print("connected", client.ping().pid, os.getpid(), flush=True)
        for line in sys.stdin:
            entry = client.put(session.id + "/" + line.strip(), line.strip())
            seen = next(watch)
            print("wrote", entry.mod_revision, seen.value, client.ping().pid, session.id, flush=True)
"""


class Worker:
    """That client, in a process."""

    def __init__(self, machine):
        command = machine.as_user(str(stock.VENV / "bin/python"), "-c", CLIENT)
        self.process = machine.pipe(command)
        #: The daemon's and its own, in the machine.
        self.pid, self.own_pid = map(int, self.said()[1:])

    def said(self):
        line = self.process.stdout.readline().split()
        assert line, self.process.stderr.read()
        return line

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def write(self, word):
        self.tell(word)
        return self.said()

    def close(self):
        self.process.stdin.close()
        error = self.process.stderr.read()
        assert self.process.wait(WAIT_S) == 0, error
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def worker(machine):
    """A client at work."""
    found = Worker(machine)
    yield found
    with contextlib.suppress(BrokenPipeError):
        found.close()


@pytest.fixture(scope="module")
def before(machine):
    """The user's files before anything was installed."""
    stock.install(machine, "now")
    return tree(machine)


# -- the story -------------------------------------------------------------------------------------------------------


def test_what_would_be_written_is_shown_and_not_written(machine, cosession, before, record):
    record.note("the machine booted", machine.boot_s)
    said = cosession("service", "install", "--dry-run")
    assert f'ExecStart="{stock.VENV}/bin/python" "-I" "-m" "cosessiond" $COSESSIOND_ARGS' in said
    assert f"ListenStream={SOCKET}" in said
    assert f"PATH={stock.VENV}/bin:" in said
    assert tree(machine) == before
    assert "not installed" in cosession("service", "status", code=1)


def test_install_takes_over_from_a_daemon_that_runs(machine, cosession, before, shown):
    cosession("put", "kept", "1")
    first = json.loads(cosession("debug", "call", "ping"))["pid"]
    said = cosession("service", "install")
    assert f"write        {UNITS}/{SERVICE} (new" in said
    assert int(shown("MainPID")) != first
    assert cosession("get", "kept") == "1\n"
    listed = json.loads(machine.path(STATE / "service.json").read_text())["manifest"]
    files = {each["path"] for each in listed["files"]}
    assert tree(machine) - before == files | set(listed["directories"]), "the manifest lists what was made, and no more"
    facts = json.loads(cosession("service", "status", "--json"))
    assert (facts["state"], facts["enabled"], facts["version"], facts["trouble"]) == ("running", True, __version__, [])
    assert facts["says"].startswith(f"{__version__}: revision ")
    assert "[Errno" not in cosession("service", "logs"), "nothing that the daemon needs is forbidden to it"


def test_systemd_accepts_the_units_and_what_they_expose_is_bounded(machine, record):
    assert machine.user("systemd-analyze", "--user", "verify", "--man=no", f"{UNITS}/{SERVICE}").stderr == ""
    record.note("systemd-analyze security (plain)", 0, exposure(machine, f"{UNITS}/{SERVICE}", "plain"))


def exposure(machine, unit, which):
    command = ["systemd-analyze", "--no-pager", "security", "--offline=yes", f"--threshold={EXPOSURE[which]}", unit]
    done = machine.user(*(["systemd-analyze", "--user", *command[1:]] if which != "system" else command), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.search(r"level for \S+: (.*)", done.stdout)[1]


#: The pid that SO_PEERCRED names.
PEER = f"""
import socket, struct
s = socket.socket(socket.AF_UNIX)
s.connect({str(SOCKET)!r})
print(struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
"""


def test_the_daemon_is_started_by_whoever_connects(machine, cosession, ctl, shown):
    ctl("stop", SERVICE)
    assert shown("ActiveState") == "inactive"
    assert json.loads(cosession("service", "status", "--json"))["state"] == "idle"
    assert cosession("get", "kept") == "1\n"
    assert shown("ActiveState") == "active"
    manager = int(machine.user("sh", "-c", "pgrep -u $(id -u) -x systemd").stdout.split()[0])
    assert int(machine.user("python3", "-c", PEER).stdout) == manager, "the trap: the kernel names the service manager"


def test_a_client_that_waits_is_answered_after_a_kill(machine, cosession, worker, shown, record):
    first = worker.write("before")
    machine.admin("kill", "-STOP", str(worker.pid))
    worker.tell("through")
    began = time.monotonic()
    machine.admin("kill", "-KILL", str(worker.pid))
    wrote = worker.said()
    record.note("SIGKILL while a client waits, until it was answered", time.monotonic() - began)
    assert wrote[2] == "through", "and the watch goes on without a gap"
    assert wrote[4] == first[4], "in the same session"
    assert int(wrote[3]) == int(shown("MainPID")) != worker.pid
    assert shown("NRestarts") == "1"
    assert json.loads(cosession("service", "status", "--json"))["restarts"] == 1


HANG = """import signal, sys, time
if "cosessiond" in sys.orig_argv:
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
"""


def test_a_loop_that_hangs_is_ended_by_the_service_watchdog(machine, cosession, ctl, shown, record):
    site = next(machine.path(stock.VENV).glob("lib/python*/site-packages"))
    (site / "hang.pth").write_text("import hang\n")
    (site / "hang.py").write_text(HANG)
    machine.user("mkdir", "-p", f"{UNITS}/{SERVICE}.d")
    machine.path(UNITS / f"{SERVICE}.d/short.conf").write_text("[Service]\nWatchdogSec=2\n")
    ctl("daemon-reload")
    ctl("restart", SERVICE)
    worker = Worker(machine)
    time.sleep(5)  # two and a half times as long as it waits: a daemon that is well is left alone
    assert int(shown("MainPID")) == worker.pid
    began = time.monotonic()
    machine.admin("kill", "-USR1", str(worker.pid))
    wrote = worker.write("hung")
    record.note("the loop hangs (WatchdogSec=2), until a client was answered", time.monotonic() - began)
    assert int(wrote[3]) != worker.pid
    worker.close()
    log = cosession("service", "logs", "-n", "100")
    assert "Watchdog timeout" in log
    assert "Result 'watchdog'" in log or "result 'watchdog'" in log
    machine.path(UNITS / f"{SERVICE}.d/short.conf").unlink()
    machine.user("rmdir", f"{UNITS}/{SERVICE}.d")
    for name in ("hang.pth", "hang.py"):
        (site / name).unlink()
    ctl("daemon-reload")
    ctl("restart", SERVICE)


def test_reload(machine, cosession, ctl, shown):
    pid = shown("MainPID")
    machine.user("mkdir", "-p", f"{HOME}/.config/cosession")
    machine.user("sh", "-c", f"printf '[log]\\nlevel = \"debug\"\\n' > {HOME}/.config/cosession/config.toml")
    ctl("reload", SERVICE)
    until(lambda: "configuration changed" in cosession("service", "logs"), "the configuration was not read again")
    assert "SIGHUP" in cosession("service", "logs") or "log.level" in cosession("service", "logs")
    assert until(lambda: shown("ActiveState") == "active", "it is still reloading")
    assert shown("MainPID") == pid
    machine.user("rm", "-r", f"{HOME}/.config/cosession")
    ctl("reload", SERVICE)


def test_the_log_is_in_the_journal_with_its_fields(machine, cosession):
    done = machine.user("journalctl", "--user", "--no-pager", "--output=json", "COSESSION_EVENT=ready", "--lines=1")
    event = json.loads(done.stdout)
    assert (event["SYSLOG_IDENTIFIER"], event["PRIORITY"], event["COSESSION_SOCKET"]) == (
        "cosessiond",
        "6",
        str(SOCKET),
    )
    assert json.loads(event["COSESSION_JSON"])["event"] == "ready"
    assert re.search(r"info +ready +socket=", cosession("logs")), "and shown as that of a daemon in the background"
    checks = json.loads(machine.user("cosession", "doctor", "--json", check=False).stdout)["checks"]
    (log,) = [check for check in checks if check["id"] == "log"]
    assert " and the journal" in log["evidence"], log


def test_stop_means_stop_and_a_start_on_demand_goes_through_the_unit(machine, cosession, shown):
    assert "stopped (pid" in cosession("stop")
    assert shown("ActiveState") == "inactive"
    assert "stopped on purpose" in cosession("get", "kept", code=69), "connecting does not start it"
    assert "it is stopped" in cosession("service", "status", code=1)
    machine.user("touch", "-d", "-60 seconds", str(STATE / "stopped"))
    assert cosession("get", "kept") == "1\n"
    pid = json.loads(cosession("debug", "call", "ping"))["pid"]
    assert int(shown("MainPID")) == pid, "the unit runs it, and not the client"
    assert cosession("stop", "--json").startswith('{"stopped": true')
    assert "started: pid" in cosession("start")


def test_a_configuration_that_cannot_be_used_is_said_at_once(machine, cosession):
    cosession("stop")
    machine.user("mkdir", "-p", f"{HOME}/.config/cosession")
    machine.user("sh", "-c", f"echo 'nonsense = 1' > {HOME}/.config/cosession/config.toml")
    said = cosession("start", code=78)
    assert "nonsense" in said
    assert "nonsense" in cosession("get", "kept", code=78), "a client that needs it is told the same"
    machine.user("rm", "-r", f"{HOME}/.config/cosession")
    cosession("start")
    assert cosession("get", "kept") == "1\n"


def test_an_interpreter_that_has_gone_is_named(machine, cosession):
    cosession("stop")
    other = [f"{stock.VENV}/bin/python3", "-c", "import sys; from cosession.cli.main import main; sys.exit(main())"]
    machine.user("mv", f"{stock.VENV}/bin/python", f"{stock.VENV}/bin/away")
    machine.user("touch", "-d", "-60 seconds", str(STATE / "stopped"))
    said = [machine.user(*other, *words, check=False) for words in (["service", "status"], ["start"], ["get", "kept"])]
    machine.user("mv", f"{stock.VENV}/bin/away", f"{stock.VENV}/bin/python")
    for done in said:
        assert done.returncode != 0
        assert f"{stock.VENV}/bin/python, which is not there" in done.stdout + done.stderr, done
    cosession("start")


def test_an_upgrade_under_a_client_at_work(machine, cosession, worker, record):
    first = worker.write("old")
    stock.install(machine, "later")
    facts = json.loads(cosession("service", "status", "--json"))
    assert (facts["version"], facts["installed"]) == (__version__, stock.LATER)
    assert f"version {__version__} -> {stock.LATER}" in cosession("service", "restart")
    began = time.monotonic()
    wrote = worker.write("new")
    record.note("a client at work goes on after the upgrade", time.monotonic() - began)
    assert wrote[2] == "new"
    assert wrote[4] == first[4], "in the same session, and its watch had no gap"
    assert int(wrote[1]) > int(first[1])
    said = cosession("service", "install")
    assert "(changed" in said, "the unit says which version wrote it"


def test_confined_it_still_knows_who_lives(machine, cosession, record):
    cosession("service", "install", "--confined")
    text = machine.path(UNITS / SERVICE).read_text() + machine.path(UNITS / f"{SERVICE}.d/namespace.conf").read_text()
    machine.user("mkdir", "-p", "/tmp/whole")
    machine.path(f"/tmp/whole/{SERVICE}").write_text(text)
    record.note("systemd-analyze security (confined)", 0, exposure(machine, f"/tmp/whole/{SERVICE}", "confined"))
    worker = Worker(machine)
    wrote = worker.write("confined")
    machine.admin("kill", "-KILL", str(worker.own_pid))
    explain = ["cosession", "explain", "session", wrote[4]]
    until(lambda: "crashed" in machine.user(*explain).stdout, "its death was not noticed")
    assert re.search(r"process\s+gone", machine.user(*explain).stdout)
    for pipe in (worker.process.stdin, worker.process.stdout, worker.process.stderr):
        pipe.close()
    worker.process.wait()
    assert cosession("backup", "now")
    assert "[Errno" not in cosession("service", "logs", "-n", "20")


def test_what_was_changed_by_hand_is_not_removed_unasked(machine, cosession):
    machine.user("sh", "-c", f"echo '# mine' >> {UNITS}/cosessiond.socket")
    assert "was changed" in cosession("service", "uninstall", code=78)
    assert "not as it was written" in cosession("service", "status", code=1)
    assert "(changed" in cosession("service", "install", "--confined")


def test_uninstall_leaves_nothing(machine, cosession, before, ctl, shown):
    cosession("service", "uninstall", "--dry-run")
    said = cosession("service", "uninstall")
    assert "nothing of it is left" in said
    assert tree(machine) == before
    assert not machine.path(STATE / "service.json").exists()
    assert shown("LoadState") == "not-found"
    assert not machine.path(SOCKET).exists()
    assert ctl("list-unit-files", "cosessiond*", "--no-legend", check=False) == ""
    assert "not installed" in cosession("service", "status", code=1)
    assert "nothing is installed" in cosession("service", "uninstall", code=1)
    assert cosession("get", "kept") == "1\n", "and a client starts the daemon as before"
    cosession("stop")


def test_the_unit_of_the_system(machine, cosession, record):
    """For machines whose users have no service manager: started by the one of the system, as the user."""
    name = f"cosessiond@{USER}.service"
    unit = machine.path("/etc/systemd/system/cosessiond@.service")
    shipped = next(
        machine.path(stock.VENV).glob("lib/python*/site-packages/cosession/_units/systemd/cosessiond@.service")
    )
    unit.write_text(shipped.read_text().replace("/usr/local/bin", f"{stock.VENV}/bin"))
    machine.admin("systemctl", "daemon-reload")
    assert machine.admin("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{name}").stderr == ""
    record.note("systemd-analyze security (system)", 0, exposure(machine, str(unit).split("/root", 1)[1], "system"))
    machine.admin("systemctl", "start", name)
    machine.user("rm", "-f", str(STATE / "stopped"))
    assert cosession("get", "kept", "--no-spawn") == "1\n", "it is found by the lock"
    pid = int(machine.admin("systemctl", "show", "--property=MainPID", "--value", name).stdout)
    assert json.loads(cosession("debug", "call", "ping"))["pid"] == pid
    machine.admin("systemctl", "reload", name)
    machine.admin("systemctl", "stop", name)
