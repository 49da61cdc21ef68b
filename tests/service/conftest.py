"""The command line, run as a program with an environment of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def run_cli():
    """Runs `cosession WORDS`."""

    def run(*words: str, env: dict[str, str], timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import sys; from cosession.cli.main import main; sys.exit(main())", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)

    return run
