"""`cosession services` and the doctor's units under a real systemd: one user unit for each way to be, a service manager
that does not answer, and a unit whose interpreter is gone.

What is recorded in `tests/data/services` came from such units; here the parsers meet the systemd of today.
"""

from __future__ import annotations

import json
import time

import pytest

from system import stock
from system.machine import HOME, UID

UNITS = HOME / ".config/systemd/user"
MANAGER = f"user@{UID}.service"
WAIT_S = 30.0

#: Each by its name, the lines of its section, its state, and the beginning of the reason.
TRIALS = {
    "ok": ("[Service]\nExecStart=/bin/sleep infinity\n", "HEALTHY", "running"),
    "fails": ("[Service]\nExecStart=/bin/sh -c 'exit 78'\n", "FAILED", "exit code 78"),
    "killed": ("[Service]\nExecStart=/bin/sh -c 'kill -9 $$$$'\n", "FAILED", "signal 9, SIGKILL"),
    "gone": ("[Service]\nExecStart=/nonexistent/python3 -m cosessiond\n", "FAILED", "exit code 203"),
    "slow": (
        "[Service]\nType=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 60\n",
        "FAILED",
        "it took longer to start",
    ),
    "job": ("[Service]\nType=oneshot\nExecStart=/bin/true\n", "IDLE", "waits for trial-job.timer"),
    "odd": ("[Service]\nExecStart=relative/path\n", "UNKNOWN", "Unit trial-odd.service has a bad unit file setting."),
    "stopped": (
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=default.target\n",
        "UNKNOWN",
        "it is enabled and does not run",
    ),
}
TIMER = "[Timer]\nOnCalendar=hourly\n"


def write(machine, name, text):
    machine.user(
        "sh", "-c", 'mkdir -p "$1" && cat > "$1/$2" <<END\n' + text.replace("$", r"\$") + "END", "-", str(UNITS), name
    )


@pytest.fixture(scope="module", autouse=True)
def trials(machine):
    """Those units, each started, and nothing of them left afterwards."""
    stock.install(machine, "now")
    for name, (text, _, _) in TRIALS.items():
        write(machine, f"trial-{name}.service", f"[Unit]\nDescription=Trial: {name}\n{text}")
    write(machine, "trial-job.timer", TIMER)
    machine.user("systemctl", "--user", "daemon-reload")
    machine.user("systemctl", "--user", "enable", "--quiet", "trial-stopped")
    for unit in ("ok", "fails", "killed", "gone", "slow", "job", "job.timer"):
        machine.user("systemctl", "--user", "start", f"trial-{unit}", check=False)
    yield
    machine.user("systemctl", "--user", "stop", "trial-ok", "trial-job.timer", check=False)
    machine.user("systemctl", "--user", "disable", "--quiet", "trial-stopped")
    machine.user("sh", "-c", f"rm -f {UNITS}/trial-*")
    machine.user("systemctl", "--user", "daemon-reload")
    machine.user("systemctl", "--user", "reset-failed")


def services(cosession, *words, code=1):
    """The services by name, once none of them is just ending, and what they come to."""
    deadline = time.monotonic() + WAIT_S
    while True:
        body = json.loads(cosession("services", "trial-*", "--json", *words, code=code))
        found = {each["name"].removeprefix("trial-").removesuffix(".service"): each for each in body.pop("services")}
        if time.monotonic() > deadline or not any("activating" in each["reason"] for each in found.values()):
            return found, body


def test_each_unit_is_what_it_was_made_to_be(cosession):
    found, body = services(cosession)
    told = {name: (each["state"], each["reason"]) for name, each in found.items()}
    assert told.keys() == TRIALS.keys()
    for name, (_, state, reason) in TRIALS.items():
        assert told[name][0] == state, told
        assert told[name][1].startswith(reason), told
    assert found["job"]["next_s"] % 3600 == 0
    assert found["ok"]["pid"] > 1
    assert (body["overall"], body["running"], body["idle"], body["failed"], body["unknown"]) == ("DEGRADED", 1, 1, 4, 2)
    assert body["availability"] == 25.0
    assert services(cosession, "--failed-only")[0].keys() == {"fails", "killed", "gone", "slow", "odd", "stopped"}


def test_the_log_and_a_restart(machine, cosession):
    config = f"{HOME}/.config/cosession"
    said = """services.patterns = "trial-*" """
    machine.user("sh", "-c", f"mkdir -p -m 700 {config} && echo '{said}' > {config}/config.toml")
    before = services(cosession)[0]["ok"]["pid"]
    assert "restarted trial-ok.service: HEALTHY, running" in cosession("services", "restart", "trial-ok", "--yes")
    assert services(cosession)[0]["ok"]["pid"] != before
    deadline = time.monotonic() + WAIT_S
    while "status=78" not in cosession("services", "--logs", "trial-fails"):
        assert time.monotonic() < deadline, "the journal has it"
        time.sleep(0.2)
    assert "cannot do" in cosession("services", "restart", "trial-slow", "--yes", code=70)
    machine.user("rm", "-r", config)


def test_a_service_manager_that_does_not_answer_is_named(machine, cosession):
    write(machine, "cosessiond.service", "[Service]\nExecStart=/bin/sh -c true\n")
    machine.admin("systemctl", "kill", "--kill-whom=main", "--signal=STOP", MANAGER)
    try:
        assert "gave no answer within 1 s" in cosession("services", "--timeout", "1", code=75)
        units = checks(cosession)["units"]
        assert "cannot ask the service manager" in units["evidence"]
        assert units["status"] == "warning"
    finally:
        machine.admin("systemctl", "kill", "--kill-whom=main", "--signal=CONT", MANAGER)


def test_a_unit_whose_interpreter_is_gone_is_named_with_the_remedy(machine, cosession):
    write(machine, "cosessiond.service", "[Service]\nExecStart=/home/tester/old/bin/python -m cosessiond\n")
    machine.user("systemctl", "--user", "daemon-reload")
    units = checks(cosession)["units"]
    machine.user("rm", f"{UNITS}/cosessiond.service")
    machine.user("systemctl", "--user", "daemon-reload")
    assert (units["status"], units["remedy"].endswith("cosession service install")) == ("failure", True)
    assert "/home/tester/old/bin/python is not there" in units["evidence"]


def checks(cosession):
    """What the doctor says, by id."""
    said = cosession("doctor", "--json", "--no-spawn", code=None)
    return {each["id"]: each for each in json.loads(said)["checks"]}
