"""`cosession preflight` in real repositories: what is critical ends with 1, everything else with 0."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosession.doctor import worktree
from cosession.doctor.engine import Ground
from cosession.errors import CosessionError


def git(place, *arguments):
    identity = ("-c", "user.name=otter", "-c", "user.email=otter@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *identity, *arguments], cwd=place, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init")
    for name in ("kept.py", "changed.py"):
        (place / name).write_text("1\n")
    git(place, "add", ".")
    git(place, "commit", "-m", "begin")
    return place


def preflight(cli, place, *arguments, code=0):
    cli.cwd = str(place)
    result = cli.run("preflight", "--json", *arguments)
    assert result.code == code, result.out + result.err
    body = result.json
    checks = {each["id"]: each for each in body.pop("checks")}
    assert list(checks) == ["daemon", "git", "rights", "room", "lock", "claims", "compliance"]
    assert sum(body.values()) == len(checks)
    assert list(body) == ["passed", "failed", "warnings", "critical"]
    assert bool(body["critical"]) == (code == 1)
    return checks


#: A session in a process of its own, so that no command of the test acts for it: claims each line, and nothing else.
HOLDER = """
import sys, cosession
with cosession.connect(socket=sys.argv[1]) as client, client.session(agent="custom", name="heron") as session:
    for line in sys.stdin:
        with session.claim(line.strip(), purpose="the parser"):
            print("held", flush=True)
            sys.stdin.readline()
        print("released", flush=True)
"""


class Other:
    """Another session, and what it holds."""

    def __init__(self, daemon, place):
        command = [sys.executable, "-P", "-c", HOLDER, str(daemon.socket)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=place, env=daemon.env, **pipes)

    @contextlib.contextmanager
    def holding(self, target):
        assert self._say(target) == "held"
        yield
        assert self._say("") == "released"

    def _say(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self):
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()


def test_what_another_session_holds_is_critical_and_what_it_does_not_is_not(cli, daemon, repository):
    assert "on main, 0 staged" in preflight(cli, repository)["git"]["evidence"]
    (repository / "changed.py").write_text("2\n")
    (repository / "[odd] größe.py").write_text("2\n")
    git(repository, "add", "--", ":(literal)[odd] größe.py")
    with contextlib.closing(Other(daemon, repository)) as other:
        with other.holding("path:kept.py"):
            assert preflight(cli, repository)["claims"]["status"] == "ok"
        with other.holding("path:chang*"):
            claims = preflight(cli, repository, code=1)["claims"]
            assert claims["status"] == "critical"
            assert claims["evidence"] == "changed.py was changed, and heron holds path:chang*, for 'the parser'"
            assert "cosession claim changed.py --wait" in claims["remedy"]
        with other.holding("path:[[]odd] größe.py"):
            assert "größe.py was changed" in preflight(cli, repository, code=1)["claims"]["evidence"]
    shown = cli.run("preflight").out
    assert shown.endswith("\n7 passed, 0 failed, 0 warnings, 0 critical\n")


def test_without_a_daemon_it_says_that_nobody_could_be_asked(nowhere, repository, tmp_path):
    (repository / "changed.py").write_text("2\n")
    assert "nobody could be asked" in preflight(nowhere, repository)["claims"]["evidence"]
    (tmp_path / "plain").mkdir()
    assert preflight(nowhere, tmp_path / "plain")["git"]["evidence"] == "no repository is here"


def test_what_git_is_in_the_middle_of(nowhere, repository):
    git(repository, "switch", "-c", "other")
    (repository / "changed.py").write_text("other\n")
    git(repository, "commit", "-am", "other")
    git(repository, "switch", "main")
    (repository / "changed.py").write_text("main\n")
    git(repository, "commit", "-am", "main")
    git(repository, "merge", "other")
    assert "changed.py among them" in preflight(nowhere, repository, code=1)["git"]["evidence"]
    git(repository, "add", "changed.py")
    assert preflight(nowhere, repository)["git"]["evidence"].startswith("a merge is under way; 1 staged")
    git(repository, "commit", "-m", "merged")
    git(repository, "switch", "--detach")
    (repository / ".git" / "index.lock").touch()
    found = preflight(nowhere, repository)
    assert found["git"]["status"] == "warning"
    assert "another git is at work, or one died" in found["lock"]["evidence"]
    (repository / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (repository / ".git" / "index").write_bytes(b"torn")
    assert preflight(nowhere, repository)["git"]["evidence"].startswith("cannot ask git: ")


def test_nothing_that_a_repository_configures_is_run(nowhere, repository, tmp_path):
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    monitor.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(monitor))
    git(repository, "status")
    assert (tmp_path / "ran").exists(), "git by itself does run it"
    (tmp_path / "ran").unlink()
    preflight(nowhere, repository)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("true", 0, "`true` has nothing against it"),
        ("sh -c 'echo no TODO >&2; exit 4'", 1, "ended with 4: no TODO"),
        ("sleep 600", 1, "did not end within 1 s and was killed"),
        ("/nonexistent/rule", 1, "there is no such program"),
        ("test -f kept.py", 0, "has nothing against it"),
    ],
)
def test_the_command_of_the_user_decides(nowhere, repository, command, code, words):
    home = Path(nowhere.env["COSESSION_HOME"])
    (home / "config").mkdir(mode=0o700)
    (home / "config" / "config.toml").write_text(f'[preflight]\ncompliance = "{command}"\ncompliance_s = 1\n')
    began = time.monotonic()
    assert words in preflight(nowhere, repository, code=code)["compliance"]["evidence"]
    assert time.monotonic() - began < 60


def test_a_command_that_no_shell_can_read_is_refused_with_its_line(nowhere, home):
    (home / "config").mkdir(mode=0o700)
    (home / "config" / "config.toml").write_text('[preflight]\ncompliance = "echo \'half"\n')
    assert "config.toml:2: preflight.compliance" in nowhere.refused(78, "config", "check").err


STATUS = """\
# branch.oid 1
# branch.head main
# branch.ab +2 -3
1 .M N... 100644 100644 100644 a b a file
1 M. N... 100644 100644 100644 a b staged
1 MM N... 100644 100644 100644 a b both
2 R. N... 100644 100644 100644 a b R100 new name
old name
u UU N... 100644 100644 100644 100644 a b c torn one
? untracked file
""".replace("\n", "\0")


def test_the_status_of_git_is_read():
    tree = worktree.parsed(STATUS)
    assert (tree.branch, tree.ahead, tree.behind) == ("main", 2, 3)
    assert tree.staged == ["staged", "both", "new name"]
    assert tree.changed == ["a file", "both"]
    assert tree.unmerged == ["torn one"]
    assert tree.untracked == ["untracked file"]
    assert tree.touched == ["staged", "both", "new name", "a file", "torn one"]
    assert worktree.parsed(STATUS.replace("main", "(detached)")).branch == ""
    assert worktree.parsed("").touched == []


def test_a_thousand_changed_files_are_asked_about_in_bounded_questions(tmp_path, monkeypatch):
    asked = []
    paths = [f"f{number}" for number in range(1_100)]
    monkeypatch.setattr(worktree, "worktree_of", lambda _: str(tmp_path))
    monkeypatch.setattr(worktree, "asked", lambda _: worktree.parsed("")._replace(changed=paths))

    def ask(_, params):
        asked.append(len(params["targets"]))
        return {"blockers": []}

    def refuse(*_):
        raise CosessionError("cannot look: nobody; none", code="internal")

    ground = Ground(status={"pid": 1}, ask=ask, act=refuse, living=lambda: None, project="p")
    seen = worktree.claims(ground)
    assert asked == [64] * 16
    assert (seen.status, "of which 1024 were asked about" in seen.evidence) == ("warning", True)
