"""Fixtures of all tests: a private home, a real daemon; and the table of what was skipped at the end of every run."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

from harness import Daemon, private_home

# A property fails because it does not hold, not because the machine was busy; slow tests have the timeout of pytest.
# A gate repeats itself: with CI set the examples are the same each time; without, every run looks elsewhere.
hypothesis.settings.register_profile(
    "cosession",
    deadline=None,
    print_blob=True,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("cosession")


def pytest_configure():
    """Ctrl-C means something to the processes that tests start, also when this run was started with `&` by a shell
    without job control, which ignores SIGINT for all that it starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _strangers_out():
    """No test may see the user's own daemon, configuration or session, whatever its environment says."""
    with pytest.MonkeyPatch.context() as patch, private_home() as nowhere:
        for name in [name for name in os.environ if name.startswith("COSESSION_")]:
            patch.delenv(name)
        patch.setenv("COSESSION_HOME", str(nowhere))
        patch.setenv("COSESSION_NO_SPAWN", "1")
        yield


@pytest.fixture
def home():
    """A short private directory for COSESSION_HOME, removed afterwards."""
    with private_home() as path:
        yield path


@pytest.fixture
def daemon(home):
    """A real daemon process serving `home`; see harness.Daemon. The test fails if it does not end well."""
    with Daemon(home) as running:
        yield running
        if running.log.exists():
            print(running.stderr()[-4000:], end="")  # shown by pytest with a failed test, else swallowed


def pytest_terminal_summary(terminalreporter):
    """What was skipped and why, or that nothing was: a skip that nobody reads is a test that nobody has."""
    where_by_reason: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        where_by_reason.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    terminalreporter.section("skipped")
    if not where_by_reason:
        terminalreporter.write_line("nothing was skipped")
    for reason, where in sorted(where_by_reason.items()):
        terminalreporter.write_line(f"{len(where):4} x {reason}")
        for nodeid in sorted(where):
            terminalreporter.write_line(f"       {nodeid}")
