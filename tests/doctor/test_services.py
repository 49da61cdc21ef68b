"""Services as systemd and launchd tell them: recorded answers of systemd 252, documented shapes of launchctl, a service
manager that answers late, never, or nonsense.

`tests/data/services` was recorded from a systemd-nspawn of Debian 12 with one user unit for each way to be.
"""

from __future__ import annotations

import plistlib
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cosession.errors import CosessionError, TimedOut
from cosession.services import endings, finding, judging, launchctl, systemd
from source_tree import ROOT

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECORDED = ROOT / "tests" / "data" / "services"


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


def recorded(name):
    return (RECORDED / name).read_text()


@pytest.fixture(scope="module")
def trial():
    """The services of the recording, by name."""
    found = systemd.services(systemd.blocks(recorded("show.txt")), systemd.next_times(recorded("timers.json")))
    return {each.name.removesuffix(".service"): each for each in found}


# -- systemd -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("trial-ok", "HEALTHY", "running"),
        ("trial-fails", "FAILED", "exit code 78 (its configuration, permissions, schema or store forbid the start)"),
        ("trial-killed", "FAILED", "signal 9, SIGKILL (killed by somebody, or by the system for want of memory)"),
        ("trial-gone", "FAILED", "exit code 203 (its program cannot be executed"),
        ("trial-again", "FAILED", "exit code 1 (failed); it is tried again, 0 times so far"),
        ("trial-job", "IDLE", "waits for trial-job.timer"),
        ("trial-sock", "IDLE", "waits for trial-sock.socket"),
        ("trial-stopped", "UNKNOWN", "it is enabled and does not run"),
        ("trial-bad", "UNKNOWN", "Unit trial-bad.service has a bad unit file setting."),
        ("trial-nothere", "UNKNOWN", "Unit trial-nothere.service not found."),
    ],
)
def test_each_recorded_unit_is_what_it_was_made_to_be(trial, name, state, reason):
    assert trial[name].state == state
    assert trial[name].reason.startswith(reason)


def test_what_is_told_beside_the_state(trial):
    assert set(trial) == {each.removesuffix(".service") for each in recorded_names() if each.endswith(".service")}
    ok, job, stopped = trial["trial-ok"], trial["trial-job"], trial["trial-stopped"]
    assert (ok.purpose, ok.trigger, ok.log) == ("Trial: serves", "at login", "journal")
    assert ok.pid > 1
    assert 1.79e9 < ok.since_s < 1.8e9
    assert job.trigger == "by time (trial-job.timer)"
    assert job.next_s % 3600 == 0, "OnCalendar=hourly"
    assert job.next_s > ok.since_s
    assert stopped.log == "append"
    assert stopped.commands["restart"] == "systemctl --user restart trial-stopped.service"


def recorded_names():
    return {
        *systemd.names(recorded("units.json")),
        *systemd.names(recorded("unit-files.json")),
        "trial-nothere.service",
    }


def test_a_timer_that_does_not_run_makes_its_service_unknown_and_not_idle():
    text = recorded("show.txt").replace("ActiveState=active\nSubState=waiting", "ActiveState=inactive\nSubState=dead")
    (job,) = [each for each in systemd.services(systemd.blocks(text), {}) if each.name == "trial-job.service"]
    assert (job.state, job.reason) == ("UNKNOWN", "what starts it does not run: trial-job.timer")


@pytest.mark.parametrize("text", ["", "[]", "Id=\n\n=\nno line at all\n"])
def test_nothing_is_no_service(text):
    assert systemd.services(systemd.blocks(text), {}) == []


@pytest.mark.parametrize("text", ["{}", "[1", "oops", "[" * 100_000])
def test_what_is_no_list_of_units_is_said(text):
    with pytest.raises(CosessionError, match="cannot read what systemctl says"):
        systemd.names(text)


# -- what they come to -------------------------------------------------------------------------------------------------


def service(state):
    return judging.Service(name="x", state=state, reason="")


@pytest.mark.parametrize(
    ("states", "overall", "availability", "left"),
    [
        ("HHHHHHHHHH", "HEALTHY", 100.0, 100.0),
        ("HHHHHIIIII", "HEALTHY", 100.0, 100.0),
        ("HHHHHHHHHF", "DEGRADED", 90.0, 0.0),
        ("HHHU", "DEGRADED", 75.0, 0.0),
        ("IF", "DEGRADED", 50.0, 0.0),
        ("FU", "FAILED", 0.0, 0.0),
        ("", "HEALTHY", None, None),
    ],
)
def test_availability_counts_what_waits_for_its_time(states, overall, availability, left):
    names = {"H": "HEALTHY", "I": "IDLE", "F": "FAILED", "U": "UNKNOWN"}
    total = judging.summed([service(names[each]) for each in states], 99.9)
    assert (total.overall, total.availability, total.budget_left) == (overall, availability, left)
    assert total.running == states.count("H")
    assert total.total == len(states)


def test_the_budget_is_what_the_target_leaves():
    one_of_two_thousand = [service("FAILED"), *[service("HEALTHY")] * 1999]
    assert judging.summed(one_of_two_thousand, 99.9).budget_left == pytest.approx(50.0)
    assert judging.summed(one_of_two_thousand, 100.0).budget_left == 0.0
    assert judging.summed([service("IDLE")], 100.0).budget_left == 100.0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (endings.of_code(0), "exit code 0"),
        (endings.of_code(75), "running already"),
        (endings.of_code(137), "kill -9"),
        (endings.of_code(139), "SIGSEGV"),
        (endings.of_code(99), "exit code 99"),
        (endings.of_signal(6), "service watchdog"),
        (endings.of_signal(0), "signal 0"),
        (endings.of_result("watchdog"), "service watchdog"),
        (endings.of_result("exit-code"), ""),
    ],
)
def test_numbers_are_explained(said, words):
    assert words in said


# -- launchd -----------------------------------------------------------------------------------------------------------

PRINTED = """gui/501/dev.cosession.daemon = {
\tactive count = 1
\tpath = /Users/otter/Library/LaunchAgents/dev.cosession.daemon.plist
\ttype = LaunchAgent
\tstate = %s

\tprogram = /bin/sh
\targuments = {
\t\t/bin/sh
\t\t-c
\t\tstate = running
\t}

\tstdout path = /tmp/out.log
\tstderr path = /tmp/err.log
\tdefault environment = {
\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin
\t}

\truns = 3
%s
\tspawn type = background (5)
\tproperties = keepalive | inferred program
}
"""


@pytest.mark.parametrize(
    ("state", "more", "plist", "expected", "reason"),
    [
        ("running", "\tpid = 4711\n\tlast exit code = (never exited)", {}, "HEALTHY", "running"),
        ("not running", "\tlast exit code = 78: EX_CONFIG", {}, "FAILED", "exit code 78"),
        ("not running", "\tlast terminating signal = Killed: 9", {}, "FAILED", "signal 9, SIGKILL"),
        ("spawn failed", "", {}, "FAILED", "its program could not be started"),
        ("not running", "\tlast exit code = 0", {"StartInterval": 300}, "IDLE", "waits: every 300 s"),
        ("not running", "\tlast exit code = 0", {"StartCalendarInterval": {"Hour": 3}}, "IDLE", "waits: at 03:*"),
        ("not running", "\tlast exit code = (never exited)", {"KeepAlive": True}, "UNKNOWN", "it is kept alive"),
        ("not running", "\tlast exit code = 0", {}, "IDLE", "nothing starts it by itself"),
    ],
)
def test_an_agent_is_judged_by_what_launchctl_prints(state, more, plist, expected, reason):
    said = launchctl.fields(PRINTED % (state, more))
    assert said["state"] == state, "what stands deeper is another's"
    found = launchctl.service("dev.cosession.daemon", "gui/501", said, plist, now=NOW)
    assert found.state == expected
    assert found.reason.startswith(reason)
    assert found.log == "/tmp/err.log"
    assert found.commands["restart"] == "launchctl kickstart -k gui/501/dev.cosession.daemon"


def test_an_agent_that_is_not_loaded_is_unknown():
    found = launchctl.service("a", "gui/1", {}, {"ProgramArguments": ["/bin/a"]}, now=NOW)
    assert (found.state, found.reason, found.purpose) == ("UNKNOWN", "it is not loaded", "/bin/a")


def test_the_list_of_agents_is_read_and_its_heading_passed_over():
    text = "PID\tStatus\tLabel\n123\t0\tcom.a\n-\t78\tdev.b\n-\t-9\tdev.c\nnonsense\n-\tx\ty\n"
    assert launchctl.labels(text) == {"com.a": (123, 0), "dev.b": (0, 78), "dev.c": (0, -9)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"Hour": 3, "Minute": 15}, at(2026, 1, 2, 3, 15)),
        ({"Minute": 30}, at(2026, 1, 1, 12, 30)),
        ({"Weekday": 0, "Hour": 0, "Minute": 0}, at(2026, 1, 4)),
        ({"Weekday": 7, "Hour": 0, "Minute": 0}, at(2026, 1, 4)),
        ([{"Day": 5}, {"Day": 3, "Hour": 1}], at(2026, 1, 3, 1, 0)),
        ({}, at(2026, 1, 1, 12, 1)),
        ({"Day": 31, "Month": 2}, None),
        ({"Hour": 25}, None),
        ("daily", None),
        (None, None),
    ],
)
def test_the_next_time_of_a_calendar(rule, expected):
    assert launchctl.next_time(rule, at(2026, 1, 1, 12, 0, 30)) == expected


# -- asking ------------------------------------------------------------------------------------------------------------


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def systemctl(tmp_path):
    """Put a program in the place of systemctl; the environment that finds it, and the tools of a shell."""

    def place(script):
        program(tmp_path, "systemctl", script)
        return {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}

    return place


ANSWERS = f"""
case "$*" in
  *list-unit-files*) cat {RECORDED}/unit-files.json;;
  *list-units*) cat {RECORDED}/units.json;;
  *list-timers*) cat {RECORDED}/timers.json;;
  *show*) cat {RECORDED}/show.txt;;
  *restart*) echo "Job for x failed." >&2; exit 1;;
esac
"""


def test_a_manager_that_answers_late_is_heard(systemctl):
    env = systemctl("sleep 0.2" + ANSWERS)
    assert len(finding.found(["trial*"], env, timeout_s=60.0)) == 10


def test_a_manager_that_never_answers_is_named_and_not_waited_for(systemctl):
    env = systemctl("sleep 600 & sleep 600")
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"gave no answer within 0.2 s; see whether it is at work"):
        finding.found(["*"], env, timeout_s=0.2)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("echo 'Failed to connect to bus: No medium found' >&2; exit 1", "unreachable", "enable-linger"),
        ("echo nonsense", "parse_error", "it is no JSON"),
        ("exit 4", "io_error", "it ended with 4"),
        ("head -c 3000000 /dev/zero", "parse_error", "it is no JSON"),
    ],
)
def test_a_manager_that_answers_nonsense_is_named(systemctl, script, code, words):
    with pytest.raises(CosessionError) as caught:
        finding.found(["*"], systemctl(script), timeout_s=60.0)
    assert caught.value.code == code
    assert words in caught.value.message


def test_what_a_refused_restart_says_is_told(systemctl):
    with pytest.raises(CosessionError, match="Job for x failed"):
        finding.restart("trial-ok.service", systemctl(ANSWERS))


def test_without_a_manager_it_says_so(tmp_path):
    with pytest.raises(CosessionError, match="neither systemctl nor launchctl"):
        finding.found(["*"], {"PATH": str(tmp_path)})


def test_agents_are_found_by_their_plists_and_by_launchctl(tmp_path):
    agents = tmp_path / "Library" / "LaunchAgents"
    agents.mkdir(parents=True)
    for label in ("dev.cosession.daemon", "dev.other"):
        (agents / f"{label}.plist").write_bytes(plistlib.dumps({"Label": label, "StartInterval": 60}))
    (agents / "dev.broken.plist").write_text("<plist")
    (tmp_path / "printed").write_text(PRINTED % ("running", "\tpid = 7"))
    program(
        tmp_path,
        "launchctl",
        f"""case "$1" in
          list) printf 'PID\\tStatus\\tLabel\\n7\\t0\\tdev.cosession.daemon\\n';;
          print) cat {tmp_path}/printed;;
          kickstart) echo "$3" > {tmp_path}/kicked;;
        esac""",
    )
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    states = {each.name: each.state for each in finding.found(["dev.*"], env, timeout_s=60.0)}
    assert states == {"dev.cosession.daemon": "HEALTHY", "dev.other": "UNKNOWN"}
    finding.restart("dev.cosession.daemon", env)
    assert (tmp_path / "kicked").read_text().endswith("/dev.cosession.daemon\n")
