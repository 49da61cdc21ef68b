"""What somebody has planted: links at every path that the daemon makes, and a repository full of traps.

More of the same, one by one: links and foreign things in tests/process/test_foreign_files.py and test_places.py, git
directories that lie in tests/client/test_project.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness import Daemon, private_home
from rawclient import Pack
from server.daemons import eventually

VICTIM = b"what was here before\n"


def lived_in(home: Path) -> dict[str, bool]:
    """The paths under a home in which a daemon has written, was killed, has started again and stopped, and whether each
    is a directory. So a file that a later daemon makes is tried too.
    """
    found: dict[str, bool] = {}
    with Daemon(home) as daemon:
        work(daemon)
        daemon.kill()
        daemon.start()
        work(daemon)
        found |= everything(home)
    return {path: directory for path, directory in {**found, **everything(home)}.items() if path != "stderr.log"}


def work(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        for number in range(20):
            peer.reply("put", key=f"k{number}", value="x" * 1000)
        peer.reply("compact", revision=5)


def everything(home: Path) -> dict[str, bool]:
    return {str(path.relative_to(home)): path.is_dir() for path in home.rglob("*")}


@pytest.fixture(scope="module")
def paths():
    with private_home() as home:
        return lived_in(home)


class Victim:
    """Something of the user's at the end of a link: a file, or a directory with a file in it."""

    def __init__(self, place: Path, *, directory: bool) -> None:
        self.place = place
        if directory:
            place.mkdir(mode=0o700)
            (place / "kept").write_bytes(VICTIM)
        else:
            place.write_bytes(VICTIM)
        self._before = self._look()

    @property
    def touched(self) -> bool:
        return self._look() != self._before

    def remove(self) -> None:
        shutil.rmtree(self.place) if self.place.is_dir() else self.place.unlink()

    def _look(self) -> list[tuple[str, int, int, bytes]]:
        found = sorted([self.place, *self.place.rglob("*")])
        looks = [(each, each.stat()) for each in found]
        return [(str(p), s.st_mode, s.st_mtime_ns, b"" if p.is_dir() else p.read_bytes()) for p, s in looks]


def test_a_link_at_any_path_of_the_daemon_is_never_written_through(paths, tmp_path):
    """Each path in turn is a link to something of the user's: refused, replaced or left, and that is untouched."""
    assert {"state", "run", "state/store.db", "state/daemon.lock", "run/d.sock"} <= paths.keys()
    more = {"config/config.toml": False, "spool": True, "log": True, "log/daemon.log": False}
    for path, directory in {**paths, **more}.items():
        victim = Victim(tmp_path / "victim", directory=directory)
        with private_home() as home:
            place = home / path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.symlink_to(victim.place)
            daemon = Daemon(home).start(wait=False)
            try:
                daemon.wait_ready()
                work(daemon)
                daemon.stop()
            except AssertionError:  # it refused to start
                if daemon.running:
                    daemon.kill()
        assert not victim.touched, path
        victim.remove()


@pytest.mark.parametrize("directory", [True, False])
@pytest.mark.parametrize("harm", ["written", "made", "opened to others", "replaced"])
def test_a_careless_daemon_would_be_noticed(harm, directory, tmp_path):
    victim = Victim(tmp_path / "victim", directory=directory)
    link = tmp_path / "link"
    link.symlink_to(victim.place)
    assert not victim.touched
    if harm == "opened to others":
        link.chmod(0o755)
    elif directory:
        (link / {"written": "kept", "made": "new", "replaced": "kept"}[harm]).write_bytes(b"")
    else:
        link.write_bytes(b"")
    assert victim.touched


# -- a repository ----------------------------------------------------------------------------------------------------


installed = pytest.mark.skipif(
    not Path(sys.executable).with_name("cosession").exists(), reason="the command is not installed beside this Python"
)


@pytest.fixture
def trap(tmp_path):
    """A repository in which everything that could be run says so in a file."""
    tree, said = tmp_path / "tree", tmp_path / "said"
    git = tree / ".git"
    (git / "hooks").mkdir(parents=True)
    (git / "objects").mkdir()
    (git / "refs").mkdir()
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $@" >> {said}\n')
    program.chmod(0o755)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text(
        f"[core]\n\tfsmonitor = {program}\n\thooksPath = {git}/hooks\n\tworktree = /etc\n\tsshCommand = {program}\n"
        f"\tpager = {program}\n\teditor = {program}\n[alias]\n\trev-parse = !{program}\n\tstatus = !{program}\n"
        f'[include]\n\tpath = /etc/passwd\n[diff]\n\texternal = {program}\n[filter "x"]\n\tclean = {program}\n'
    )
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman"):
        shutil.copy(program, git / "hooks" / hook)
    (tree / ".gitattributes").write_text("* filter=x diff=x\n")
    spoken = f"import pathlib; pathlib.Path({str(said)!r}).write_text(__name__)\n"
    for name in ("cosession", "cosessiond", "msgspec", "json", "sitecustomize", "usercustomize", "socket", "conftest"):
        (tree / f"{name}.py").write_text(spoken)
    for name in (".cosession", ".cosession.toml", "cosession.toml", ".env", "config.toml", "pyproject.toml"):
        (tree / name).write_text(f'[limits]\nkey_bytes_max = 16\n[log]\nlevel = "{program}"\nCOSESSION_SOCKET={said}\n')
    for name in ("git", "python", "python3", "cosessiond", "sh"):
        shutil.copy(program, tree / name)
    (tree / ("n" * 255)).write_text("")
    (tree / "\x1b]0;owned\x07").write_text("")
    return tree, said


def tracers(trace: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(trace) in process.cmdline():
                found.append(process)
    return found


VERBS = (
    ("put", "k", "1"),
    ("get", "k"),
    ("ls",),
    ("status",),
    ("sessions", "--all"),
    ("config", "show"),
    ("history", "k"),
    ("audit",),
)


def commands(home: Path, tree: Path, prefix: list[str]) -> str:
    """What the verbs print that look where they are, in the repository; the first starts the daemon, the last ends it.

    The output goes to a file, since a tracer of the daemon keeps a pipe open for as long as that lives.
    """
    env = {name: value for name, value in os.environ.items() if name != "COSESSION_NO_SPAWN"}
    env |= {"COSESSION_HOME": str(home), "PATH": f"{os.environ['PATH']}:."}
    env.pop("XDG_RUNTIME_DIR", None)
    cosession = str(Path(sys.executable).with_name("cosession"))
    printed = home / "printed"
    for verb in (*VERBS, ("stop",)):
        with printed.open("ab") as out:
            done = subprocess.run([*prefix, cosession, *verb], env=env, cwd=tree, stdout=out, stderr=out, check=False)
        assert done.returncode == 0, (verb, printed.read_text())
    return printed.read_text()


@installed
def test_nothing_in_a_repository_is_run_or_taken_for_configuration(home, trap):
    tree, said = trap
    printed = commands(home, tree, [])
    assert not said.exists(), f"it was run: {said.read_text()}"
    assert re.search(r"limits.key_bytes_max +512", printed)


STRACE = ("strace", "-D", "-f", "-qq", "-A", "-e", "trace=open,openat,execve", "-o")
traced = pytest.mark.skipif(not shutil.which("strace"), reason="without strace nobody sees what is opened")


def of_the_tree(trace: Path, tree: Path) -> set[str]:
    """What was opened or run below the tree, named from the root or from the tree itself, and was there."""
    eventually(lambda: not tracers(trace), "all that was traced has been written", timeout_s=60)
    lines = [line for line in trace.read_text(errors="replace").splitlines() if "ENOENT" not in line and '"' in line]
    named = {line.split('"')[1] for line in lines}
    below = {str(Path(name).relative_to(tree)) for name in named if name.startswith(str(tree))}
    return below | {str(Path(name)) for name in named if not name.startswith("/") and (tree / name).exists()}


@traced
@installed
def test_nothing_in_a_repository_is_read_but_what_says_which_it_is(home, trap, tmp_path):
    tree, _ = trap
    trace = tmp_path / "trace"
    commands(home, tree, [*STRACE, str(trace)])
    assert of_the_tree(trace, tree) <= {".", ".git", ".git/HEAD", ".git/commondir", ".git/gitdir"}
    assert "store.db" in trace.read_text(errors="replace"), "the daemon was followed, too"


@traced
def test_a_program_that_reads_the_repository_would_be_noticed(trap, tmp_path):
    tree, _ = trap
    for number, command in enumerate((["cat", ".env"], ["cat", str(tree / ".git" / "config")], ["./git"])):
        trace = tmp_path / f"trace{number}"
        subprocess.run([*STRACE, str(trace), *command], cwd=tree, stdout=subprocess.DEVNULL, check=False)
        assert of_the_tree(trace, tree) & {".env", ".git/config", "git"}


def test_the_traps_are_set(trap):
    tree, said = trap
    for command in (["./git"], [sys.executable, "-m", "json.tool"], [".git/hooks/post-checkout"]):
        subprocess.run(command, cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert said.exists(), command
        said.unlink()
