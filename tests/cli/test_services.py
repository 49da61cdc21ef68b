"""`cosession services`, with the recorded answers of a systemd in the place of systemctl."""

from __future__ import annotations

import pytest

from doctor.test_services import ANSWERS, program
from source_tree import ROOT

RECORDED = ROOT / "tests" / "data" / "services"


@pytest.fixture
def managed(nowhere, tmp_path):
    """Commands that find that systemctl."""
    program(
        tmp_path, "systemctl", ANSWERS.replace('echo "Job for x failed." >&2; exit 1', f'echo "$*" > {tmp_path}/did')
    )
    program(tmp_path, "journalctl", 'echo "a line of $*"')
    nowhere.env["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    return nowhere


def test_how_the_services_are(managed):
    result = managed.run("services", "trial*")
    assert result.code == 1
    assert "FAILED   trial-gone.service  exit code 203 (its program cannot be executed" in result.out
    assert "starts   by time (trial-job.timer), next " in result.out
    assert "restart  systemctl --user restart trial-gone.service" in result.out
    assert result.out.splitlines()[-2] == "DEGRADED: 1 of 10 running, 2 idle, 4 failed, 3 unknown"
    assert result.out.splitlines()[-1] == (
        "available 30.0 % of a target of 99.9 %; 0 % of the error budget is left, as of now"
    )
    body = managed.run("services", "--failed-only", "--json").json
    assert {each["state"] for each in body["services"]} == {"FAILED", "UNKNOWN"}
    assert (body["overall"], body["total"], body["availability"]) == ("DEGRADED", 10, 30.0)


def test_the_log_and_the_restart_of_one(managed, tmp_path):
    assert managed.ok("services", "--logs", "trial-ok", "--lines", "7").out == (
        "a line of --user --no-pager --output=short-iso --lines=7 --unit=trial-ok.service\n"
    )
    assert "did you mean trial-ok.service?" in managed.refused(1, "services", "--logs", "trial-ko.service").err
    assert "it asks before it does that" in managed.refused(64, "services", "restart", "trial-ok").err
    assert "restarted trial-ok.service: HEALTHY, running" in managed.ok("services", "restart", "trial-ok", "--yes").out
    assert (tmp_path / "did").read_text() == "--user restart -- trial-ok.service\n"


def test_patterns_and_target_are_of_the_configuration_and_none_may_match(managed, home, tmp_path):
    (home / "config").mkdir(mode=0o700)
    (home / "config" / "config.toml").write_text('[services]\npatterns = "a* b"\ntarget_percent = 90\n')
    program(tmp_path, "systemctl", f'echo "$*" >> {tmp_path}/asked; echo "[]"; exit 1')
    assert "no service is called a* or b;" in managed.ok("services").out
    assert "-- a*.service a*.timer a*.socket a*.path b.service" in (tmp_path / "asked").read_text()


def test_a_manager_that_never_answers_ends_with_75(managed, tmp_path):
    program(tmp_path, "systemctl", "sleep 600")
    assert "gave no answer within 0.3 s" in managed.refused(75, "services", "--timeout", "0.3").err
