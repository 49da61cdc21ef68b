"""Ten broken installations, each in a home of its own; as a program it prints what `cosession doctor` says of each.

    .venv/bin/python tests/broken.py          # after `make test`; as root for all of them

Rule: each breaks one thing, as it breaks in life, and says which check names it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from harness import Daemon, private_home

#: Of nobody, on every system.
STRANGER: Final = 65534
SMALL_BYTES: Final = 1 << 20


class Broken(NamedTuple):
    """How to break a home: `make` returns further variables. `check` names it with `status`; `cause` and `remedy` are
    parts of what it says. `needs_root`: only root can break it so.
    """

    make: Callable[[Path], dict[str, str]]
    check: str
    status: str
    cause: str
    remedy: str
    needs_root: bool = False


def _state(home: Path) -> Path:
    place = home / "state"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def wrong_mode(home: Path) -> dict[str, str]:
    _state(home).chmod(0o755)
    return {}


def foreign_owner(home: Path) -> dict[str, str]:
    (_state(home) / "mark").write_text("{}")
    os.chown(home / "state" / "mark", STRANGER, STRANGER)
    return {}


def dead_lock_holder(home: Path) -> dict[str, str]:
    with contextlib.suppress(AssertionError):  # it is to end badly
        daemon = Daemon(home).start()
        daemon.kill()
    return {}


def stale_socket(home: Path) -> dict[str, str]:
    (home / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as gone:
        before = os.umask(0o177)
        gone.bind(str(home / "run" / "d.sock"))
        os.umask(before)
    return {}


def long_path(home: Path) -> dict[str, str]:
    return {"COSESSION_SOCKET": str(home / ("x" * 120) / "d.sock")}


def broken_config(home: Path) -> dict[str, str]:
    (home / "config").mkdir(mode=0o700)
    (home / "config" / "config.toml").write_text('[log]\nlevel = "info"\n[limits]\nmax_watches = 9\n')
    return {}


def _database(home: Path, application_id: int, schema: int) -> None:
    with closing(sqlite3.connect(_state(home) / "store.db")) as db, db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.execute(f"PRAGMA application_id={application_id}")
        db.execute(f"PRAGMA user_version={schema}")
    (home / "state" / "store.db").chmod(0o600)


def foreign_database(home: Path) -> dict[str, str]:
    _database(home, 0x12345678, 1)
    return {}


def newer_schema(home: Path) -> dict[str, str]:
    _database(home, 0x636F7365, 99)
    return {}


def full_disk(home: Path) -> dict[str, str]:
    options = f"size={SMALL_BYTES},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(_state(home))], check=True)
    with (home / "state" / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        os.fchmod(file.fileno(), 0o600)
        while file.write(b"x" * 4096):
            pass
    return {}


def missing_interpreter(home: Path) -> dict[str, str]:
    program = home / "venv" / "bin" / "cosessiond"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{home}/venv/bin/python3.11\nimport cosessiond\n")
    program.chmod(0o755)
    unit = home / ".config" / "systemd" / "user" / "cosessiond.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Service]\nType=notify\nExecStart={program}\n")
    return {}


BROKEN: Final = {
    "wrong mode": Broken(wrong_mode, "state", "failure", "has mode 0755, which lets others in", "run: chmod 700"),
    "foreign owner": Broken(
        foreign_owner, "state", "failure", f"mark belongs to uid {STRANGER}", "sudo chown", needs_root=True
    ),
    "dead lock holder": Broken(
        dead_lock_holder, "lock", "warning", "which is dead: it ended without a word", "cosession start"
    ),
    "stale socket": Broken(stale_socket, "stale", "warning", "nobody listens on", "cosession doctor --fix"),
    "path too long": Broken(
        long_path, "socket", "failure", "the limit is 10", "set COSESSION_SOCKET to a shorter path"
    ),
    "broken config": Broken(
        broken_config, "config", "failure", "config.toml:4: limits.max_watches", "correct it there, or remove it"
    ),
    "foreign database": Broken(
        foreign_database, "store", "failure", "it belongs to another program", "move it away and start again"
    ),
    "newer schema": Broken(newer_schema, "store", "failure", "its schema is 99", "install the newer cosession"),
    "full disk": Broken(full_disk, "disk", "failure", "100 % used", "free space on the disk", needs_root=True),
    "missing interpreter": Broken(
        missing_interpreter, "units", "failure", "python3.11, which is not there", "cosession service install"
    ),
}


@contextlib.contextmanager
def broken(name: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A home that is broken so, and the environment of whoever looks at it."""
    with private_home() as home:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("COSESSION_", "XDG_"))}
        env |= {"COSESSION_HOME": str(home), "COSESSION_NO_SPAWN": "1", "HOME": str(home)}
        try:
            yield home, env | BROKEN[name].make(home)
        finally:
            if (home / "state").is_mount():
                subprocess.run(["umount", str(home / "state")], check=True)


def examined(env: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """What the doctor comes to: its exit code, and its checks by id."""
    program = "from cosession.cli.main import main; raise SystemExit(main())"
    command = [sys.executable, "-P", "-c", program, "doctor", "--json", *arguments]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {each["id"]: each for each in json.loads(done.stdout)["checks"]}


def main() -> int:
    """Print the table."""
    for name, made in BROKEN.items():
        if made.needs_root and os.geteuid():
            print(f"{name}: only root can break it so\n")
            continue
        with broken(name) as (home, env):
            code, checks = examined(env)
        print(f"{name} (exit code {code})")
        for each in checks.values():
            if each["status"] != "ok":
                print(f"  {each['status']:<8} {each['id']:<8} {each['evidence']}".replace(str(home), "HOME"))
                print(f"{'':20}{each['remedy']}".replace(str(home), "HOME"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
