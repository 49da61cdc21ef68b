"""The machine that all tests of this directory share, and the record of what was done in it, with seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

from system import stock
from system.machine import Machine, missing

#: An install that hangs is given up: then this is skipped with that reason.
INSTALL_S = 180.0


@pytest.fixture(scope="session")
def machine():
    """One booted machine with the wheels in it; skipped, with the reason, where none can be had."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a machine: no test under a real systemd was run")
    if wanted := _installed(missing()):
        pytest.skip(f"{', '.join(wanted)} cannot be installed: no test under a real systemd was run")
    booting = Machine(furnish=stock.lay_in)
    try:
        booting.__enter__()
    except OSError as error:
        pytest.skip(f"{error}: no test under a real systemd was run")
    try:
        yield booting
    finally:
        booting.__exit__(None, None, None)


def _installed(wanted: list[str]) -> list[str]:
    """Install Debian packages by name; those that are still missing."""
    if not wanted or not shutil.which("apt-get"):
        return wanted
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted]
    for command in (install, ["apt-get", "update", "-q"], install):
        try:
            subprocess.run(command, env=env, capture_output=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            break
        if not missing():
            break
    return missing()


class Record:
    """What was run in the machine and how long it took, shown at the end of the run with `-v`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, what: str, seconds: float, came: str = "") -> None:
        """One step."""
        self.lines.append(f"{seconds:7.2f} s  {what}{f': {came}' if came else ''}")


RECORD = Record()


@pytest.fixture(scope="session")
def record():
    """See `Record`."""
    return RECORD


@pytest.fixture
def cosession(machine, record):
    """Runs `cosession ...` as the user of the machine."""

    def run(*words: str, code: int | None = 0, **env: str) -> str:
        began = time.monotonic()
        done = machine.user("cosession", *words, check=False, **env)
        said = (done.stdout + done.stderr).strip()
        record.note(f"cosession {' '.join(words)}", time.monotonic() - began, said.splitlines()[-1] if said else "")
        assert code in (None, done.returncode), f"cosession {' '.join(words)} ended with {done.returncode}:\n{said}"
        return done.stdout + done.stderr

    return run


def pytest_terminal_summary(terminalreporter):
    if RECORD.lines and terminalreporter.verbosity > 0:
        terminalreporter.section("under systemd")
        for line in RECORD.lines:
            terminalreporter.write_line(line)
