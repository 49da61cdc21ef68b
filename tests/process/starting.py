"""Starting a daemon that is expected to refuse, and looking whether it touched anything.

Rule: what is asked of every refusal is asked in `Refusal`: the catalogue's exit code, one line for a person with cause
and remedy, no traceback.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness import Daemon, private_home
from rawclient import Pack, Peer

EXIT_IO, EXIT_RUNNING, EXIT_CONFIG = 70, 75, 78
ENDS_S = 10.0


def environment(home: Path, **changed: str) -> dict[str, str]:
    """The environment of a daemon for `home`."""
    return {**Daemon(home).env, **changed}


def attempt(
    home: Path, *arguments: str, env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run the daemon until it ends by itself, which it must do soon."""
    command = [sys.executable, "-m", "cosessiond", *arguments]
    found = dict(env) if env is not None else environment(home)
    return subprocess.run(
        command,
        env=found,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_S,
        check=False,
        **more,
    )


def refusal(home: Path, *arguments: str, code: int, env: Mapping[str, str] | None = None, **more: Any) -> str:
    """What a daemon says that must refuse to start with `code`: one readable line with cause and remedy."""
    ended = attempt(home, *arguments, env=env, **more)
    said = ended.stderr
    assert ended.returncode == code, f"ended with {ended.returncode}: {said}"
    assert "Traceback" not in said, said
    assert not ended.stdout, ended.stdout
    lines = [line for line in said.splitlines() if not line.startswith("{")]  # log lines may come before
    assert len(lines) == 1, said
    (line,) = lines
    assert line.startswith("cosessiond: "), line
    readable(line.removeprefix("cosessiond: "))
    return line


def readable(message: str) -> None:
    """Whether a message is one line for a person, that says what cannot be, why, and what to do."""
    assert message.isprintable(), message
    assert message.startswith("cannot "), message
    cause, _, remedy = message.rpartition("; ")
    assert cause, f"no cause and remedy: {message}"
    assert len(remedy.split()) >= 2, f"no remedy: {message}"


def tree(root: Path, *, ignored: Sequence[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Everything under `root`: kind, mode, owner, time of change, and content. A directory's time is left out when
    something in it is ignored.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        name = str(path.relative_to(root))
        if name in ignored:
            continue
        status = path.lstat()
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        when = status.st_mtime_ns if not stat.S_ISDIR(status.st_mode) or not ignored else 0
        found[name] = (stat.filemode(status.st_mode), status.st_uid, when, content)
    return found


@contextlib.contextmanager
def served_or_refused(home: Path) -> Iterator[Daemon | None]:
    """A running daemon, or None when it refused to start with exit code 78. It may end by itself in this context."""
    daemon = Daemon(home)
    try:
        daemon.start()
    except AssertionError as error:
        if f"ended with {EXIT_CONFIG} while starting" not in str(error):
            raise
        yield None
        return
    try:
        yield daemon
    finally:
        if daemon.running:
            daemon.kill()


#: A refusal takes the lock and says in it who is starting, so that another daemon that is started meanwhile knows.
LOCK = ("state/daemon.lock",)


def poured(home: Path, write: Callable[[Peer], None], *, killed: bool = False) -> None:
    """Make `home` that of a daemon which was asked to `write` and then stopped in order, or killed.

    The daemon runs once for each `write`; afterwards its files are copied, and their owner is long dead.
    """
    for name, content in _contents(write, killed=killed).items():
        path = home / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    (home / "run").mkdir(mode=0o700, exist_ok=True)


@cache
def _contents(write: Callable[[Peer], None], *, killed: bool) -> dict[str, bytes]:
    with private_home() as home, Daemon(home) as daemon:
        with Pack(daemon.socket) as peer:
            write(peer)
        if killed:
            daemon.kill()
        else:
            assert daemon.stop() == 0
        # What is left out is large, and means nothing; backups lie in a directory.
        files = [path for path in (home / "state").iterdir() if path.is_file() and path.name != "reserve"]
        return {f"state/{path.name}": path.read_bytes() for path in files}


def three_entries(peer: Peer) -> None:
    """What `filled` writes."""
    for number in range(3):
        peer.reply("put", key=f"k{number}", value=number)


def filled(home: Path) -> None:
    """A store with three entries, stopped in order."""
    poured(home, three_entries)


def serves(home: Path, *, keys: int | None = None) -> None:
    """A daemon starts for `home`, answers, and has `keys` entries."""
    with Daemon(home) as daemon, Pack(daemon.socket) as peer:
        assert peer.reply("ping")["pid"] == daemon.pid
        if keys is not None:
            assert len(peer.reply("range", keys_only=True)["entries"]) == keys
