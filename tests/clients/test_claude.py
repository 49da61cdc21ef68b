"""Two unmodified Claude Code sessions in one repository, offline: `make test-clients`.

The client is installed by name where npm is to be had, and never kept in the project; else this is skipped with a word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cosession
from clients.stub import Model
from harness import Daemon, private_home
from rawclient import Pack

PACKAGE = "@anthropic-ai/claude-code"
#: Kept between runs: the client is large.
LAB = Path(os.environ.get("COSESSION_CLIENT_LAB", Path.home() / ".cache" / "cosession-tests" / "clients"))
INSTALL_S = 600.0
TURN_S = 120.0
EVENTS = ("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PreCompact", "Stop", "SessionEnd")
HOOK = str(Path(cosession.__file__).with_name("hook.py"))


@pytest.fixture(scope="module")
def claude():
    program = LAB / "node_modules" / ".bin" / "claude"
    if not program.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed: no real client was run")
        command = ["npm", "install", "--prefix", str(LAB), PACKAGE]
        done = subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=False)
        if done.returncode:
            pytest.skip(f"{PACKAGE} cannot be installed: no real client was run")
    if subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False).returncode:
        installer = LAB / "node_modules" / PACKAGE / "install.cjs"
        subprocess.run(["node", str(installer)], capture_output=True, timeout=INSTALL_S, check=False)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    if version.returncode:
        pytest.skip(f"claude does not run: {version.stderr.strip()[:200]}")
    print("claude", version.stdout.strip())
    return program


@pytest.fixture
def daemon():
    with private_home() as home, Daemon(home) as running:
        yield running


@pytest.fixture
def repository(tmp_path):
    place = tmp_path.resolve() / "repo"
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    (place / "plan.txt").write_text("first\n")
    return place


class Lab:
    """A home for clients, with our hooks in their settings."""

    def __init__(self, program: Path, daemon: Daemon, repository: Path, model: Model) -> None:
        self.home = daemon.home / "user"
        self.home.mkdir()
        self._program, self._repository = program, repository
        hooks = {
            event: [{"hooks": [{"type": "command", "command": sys.executable,
                                "args": ["-I", "-S", HOOK, "claude", event, str(daemon.socket)], "timeout": 5}]}]
            for event in EVENTS
        }  # fmt: skip
        self._settings = self.home / "settings.json"
        self._settings.write_text(json.dumps({"hooks": hooks}))
        self._env = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "sk-ant-stub",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",
        }

    def begin(self, script: str, *more: str) -> subprocess.Popen[bytes]:
        """A client with the conversation of a script."""
        return subprocess.Popen(
            [self._program, "-p", f"[script:{script}] go", "--settings", self._settings,
             "--dangerously-skip-permissions", *more],
            env=self._env, cwd=self._repository, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, script: str, *more: str) -> str:
        """The same to its end."""
        process = self.begin(script, *more)
        try:
            out, _ = process.communicate(timeout=TURN_S)
        finally:
            process.kill()
        assert process.returncode == 0, out
        return out.decode()


def wait_for(what, say):
    until = time.monotonic() + TURN_S
    while not what():
        assert time.monotonic() < until, say
        time.sleep(0.05)


def sessions(daemon):
    with Pack(daemon.socket) as peer:
        return peer.reply("session.list", all=True)["sessions"]


def claims(daemon):
    with Pack(daemon.socket) as peer:
        return peer.reply("claim.list")["claims"]


def test_the_second_of_two_sessions_is_refused_the_file_of_the_first(claude, daemon, repository):
    plan = str(repository / "plan.txt")
    scripts = {
        "first": [
            ("Read", {"file_path": plan}),
            ("Edit", {"file_path": plan, "old_string": "first", "new_string": "of the first"}),
            ("Bash", {"command": f"while [ ! -e {repository}/go ]; do sleep 0.1; done"}),
            ("text", "done"),
        ],
        "second": [
            ("Read", {"file_path": plan}),
            ("Edit", {"file_path": plan, "old_string": "first", "new_string": "of the second"}),
            ("text", "refused"),
        ],
        "third": [
            ("Read", {"file_path": plan}),
            ("Edit", {"file_path": plan, "old_string": "of the first", "new_string": "of the third"}),
            ("text", "done"),
        ],
    }
    with Model(scripts) as model:
        lab = Lab(claude, daemon, repository, model)
        first = lab.begin("first")
        try:
            wait_for(lambda: claims(daemon), "the first claimed nothing")
            (holder,) = (each["claim"]["session"] for each in claims(daemon))
            lab.run("second")
            assert "of the second" not in (repository / "plan.txt").read_text()
            told = model.told["second"][-1]
            assert "cosession: cannot edit plan.txt" in told
            assert holder in told, "the model is told who holds it"
            assert "Other sessions that work in it now: 1" in model.told["second"][0]
            (repository / "go").touch()
            first.communicate(timeout=TURN_S)
        finally:
            first.kill()
        assert (repository / "plan.txt").read_text() == "of the first\n"
        lab.run("third")
        assert (repository / "plan.txt").read_text() == "of the third\n"
        assert {each["state"] for each in sessions(daemon)} == {"closed"}


def test_a_killed_session_is_a_crash_and_the_next_one_hears_of_it(claude, daemon, repository):
    plan = str(repository / "plan.txt")
    scripts = {
        "killed": [
            ("Read", {"file_path": plan}),
            ("Edit", {"file_path": plan, "old_string": "first", "new_string": "half"}),
            ("Bash", {"command": "sleep 600"}),
        ],
        "next": [("text", "I see")],
    }
    with Model(scripts) as model:
        lab = Lab(claude, daemon, repository, model)
        killed = lab.begin("killed")
        wait_for(lambda: claims(daemon) and len(model.told["killed"]) > 2, "it claimed nothing")
        began_s = time.monotonic()
        killed.kill()
        wait_for(lambda: sessions(daemon)[0]["state"] == "crashed", "the crash was not noticed")
        print(f"SIGKILL to crashed, seen from outside: {(time.monotonic() - began_s) * 1000:.0f} ms")
        killed.communicate(timeout=TURN_S)
        lab.run("next")
        assert "crashed" in model.told["next"][0]
        assert f"cosession recover {sessions(daemon)[-1]['id']} --plan" in model.told["next"][0]
        wait_for(lambda: not claims(daemon), "its claims were not freed")
