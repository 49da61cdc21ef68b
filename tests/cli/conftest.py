"""Running `cosession` as a user does: a process with arguments, standard streams and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

PROGRAM = "from cosession.cli.main import main; raise SystemExit(main())"
COMMAND = (sys.executable, "-P", "-c", PROGRAM)
FINISH_S = 60.0


class Result:
    """What a command did."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.out_bytes = done.stdout
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()
        assert "Traceback" not in self.err, self.err

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1, f"not one line: {self.out!r} {self.err!r}"
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of `--json`."""
        assert not self.err, "an error is said once"
        body = self.json
        assert list(body) == ["error"]
        assert list(body["error"]) == ["code", "message", "retryable", "data"]
        return body["error"]


class Cli:
    """Commands against one home."""

    def __init__(self, env: dict[str, str], cwd: str) -> None:
        self.env = env
        self.cwd = cwd

    def run(self, *arguments: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Result:
        """Run to the end, whatever the exit code."""
        text = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=text,
            env={**self.env, **(env or {})},
            cwd=self.cwd,
            capture_output=True,
            timeout=FINISH_S,
            check=False,
        )
        return Result(done)

    def ok(self, *arguments: str, stdin: str | bytes = b"", env: dict[str, str] | None = None) -> Result:
        """Run to the end; anything but 0 fails the test."""
        result = self.run(*arguments, stdin=stdin, env=env)
        assert result.code == 0, f"cosession {' '.join(arguments)}: {result.code}\n{result.out}{result.err}"
        return result

    def refused(self, code: int, *arguments: str, stdin: str | bytes = b"") -> Result:
        """Run to the end; the exit code must be `code`, the message must say why and what to do."""
        result = self.run(*arguments, stdin=stdin)
        assert result.code == code, f"cosession {' '.join(arguments)}: {result.code}\n{result.out}{result.err}"
        assert result.err.startswith("cosession: cannot "), result.err
        assert result.err.count("\n") == 1, result.err
        return result

    def popen(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start; the caller sees to its end."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(self.popen_command(*arguments), env=self.env, cwd=self.cwd, **options)

    def popen_command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        return [*COMMAND, *arguments]


@pytest.fixture
def nowhere(home, tmp_path) -> Cli:
    """Commands in a home without a daemon, from a directory of no project, that must not start one."""
    return Cli({**os.environ, "COSESSION_HOME": str(home)}, str(tmp_path))


@pytest.fixture
def cli(daemon, tmp_path) -> Iterator[Cli]:
    """Commands against a running daemon, from a directory of no project."""
    return Cli(dict(daemon.env), str(tmp_path))


@pytest.fixture
def spawning(home, tmp_path) -> Iterator[Cli]:
    """Commands that may start a daemon in their home; it is stopped afterwards."""
    env = {name: value for name, value in os.environ.items() if name != "COSESSION_NO_SPAWN"}
    env.pop("XDG_RUNTIME_DIR", None)
    cli = Cli({**env, "COSESSION_HOME": str(home)}, str(tmp_path))
    yield cli
    cli.run("stop")
    assert cli.ok("stop", "--json").json["stopped"] is False
