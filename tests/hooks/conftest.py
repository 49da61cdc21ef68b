"""A real daemon, repositories, and processes that stand for AI clients: they run the hook as their child."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cosession
from harness import Daemon, private_home

HOOK = Path(cosession.__file__).with_name("hook.py")
DATA = Path(__file__).parents[1] / "data" / "hooks"
#: A client: for each line it is given, its hook is run as its child, in the form that settings name.
CLIENT = """
import json, subprocess, sys
for line in sys.stdin:
    event, payload = json.loads(line)
    done = subprocess.run([sys.executable, "-I", "-S", sys.argv[1], sys.argv[2], event, *sys.argv[3:]],
                          input=payload.encode(), capture_output=True)
    print(json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode()]), flush=True)
"""


class Client:
    """One AI client with a conversation in `directory`."""

    def __init__(self, daemon: Daemon, directory: Path, session: str, name: str = "claude") -> None:
        self.directory = directory
        self.session = session
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(HOOK), name, str(daemon.socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=daemon.env,
            cwd=directory,
        )
        self.pid = self._process.pid

    def raw(self, event: str, payload: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of the hook."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([event, payload]) + "\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        return code, out, err

    def tell(self, event: str, **fields: Any) -> dict[str, Any]:
        """What the hook printed for an event, {} for nothing."""
        payload = {"session_id": self.session, "cwd": str(self.directory), "hook_event_name": event, **fields}
        code, out, err = self.raw(event, json.dumps(payload))
        assert (code, err) == (0, "")
        return json.loads(out) if out else {}

    def edit(self, name: str, tool: str = "Edit", event: str = "PreToolUse") -> str:
        """Why an edit is refused, "" when it is not."""
        path = str(self.directory / name)
        said = self.tell(event, tool_name=tool, tool_input={"file_path": path}).get("hookSpecificOutput", {})
        assert said.get("permissionDecision", "deny") == "deny"
        return str(said.get("permissionDecisionReason", ""))

    def kill(self) -> None:
        """The client dies."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="module")
def daemon():
    with private_home() as home, Daemon(home) as running:
        yield running


@pytest.fixture
def repository(tmp_path):
    place = tmp_path.resolve() / "repo"
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    (place / "a.txt").write_text("one\n")
    return place


@pytest.fixture
def client(daemon, repository, request):
    """Makes clients; each ends with the test."""
    made: list[Client] = []

    def make(session: str, name: str = "claude", directory: Path | None = None) -> Client:
        made.append(Client(daemon, directory or repository, f"{session}-{abs(hash(request.node.name))}", name))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def shared(daemon, repository):
    """A library client in the project of the repository."""
    with cosession.connect(str(daemon.socket), project=str(repository / ".git")) as connected:
        yield connected
