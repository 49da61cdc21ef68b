"""Checks of processes: who holds the lock, whether the daemon answers, and what it left behind.

Rule: a pid alone says nothing, since it is used again; nothing is ended here.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from cosession import paths
from cosession.doctor.engine import FAILURE, OK, WARNING, Ground, Holder, Seen

_FILE_BYTES_MAX: Final = 4096
#: A process that is younger may be one that just starts, or one that belongs to a command that runs now.
_YOUNG_S: Final = 20.0


def daemon(ground: Ground) -> Seen:
    """Does it answer, and does it take writes?"""
    status = ground.status
    if status is None and ground.silence:
        cause, _, remedy = ground.silence.rpartition("; ")
        return Seen(FAILURE, cause or ground.silence, remedy)
    if status is None:
        return Seen(OK, "none is running; the first client starts one")
    who = f"pid {status['pid']}, version {status['version']}, up {status['uptime_s']:.0f} s"
    if status.get("read_only"):
        cause, _, remedy = status["read_only"].rpartition("; ")
        return Seen(FAILURE, f"{who}; it refuses writes: {cause or status['read_only']}", remedy or "cosession status")
    return Seen(OK, f"{who}, it answers")


def lock(ground: Ground) -> Seen:
    """Who holds `daemon.lock`, by its content, and by the kernel where that tells."""
    path = Path(paths.lock_file(ground.env))
    named = named_in(path)
    if named is None:
        return _unnamed(ground, path)
    kernel = kernel_holder(path)
    living = ground.living()
    if living is not None:
        return _held(ground, living, kernel)
    who = f"{path} names pid {named.get('pid')}"
    if kernel:
        return Seen(
            FAILURE,
            f"{who}, which is not there any more, and pid {kernel} holds the lock",
            f"see what that process is (ps -fp {kernel}); one that is no daemon of yours is to be ended by hand",
        )
    if named.get("boot_id") not in ("", boot_id()):
        return Seen(OK, f"free; its last holder, pid {named.get('pid')}, was of an earlier boot of the machine")
    left = str(named.get("socket") or "")
    if left and Path(left).is_socket():
        return Seen(
            WARNING,
            f"{who}, which is dead: it ended without a word (killed, or by a crash)",
            "nothing that was acknowledged is lost, and the next start takes over: cosession start",
        )
    return Seen(OK, f"free; its last holder, pid {named.get('pid')}, has ended in order")


def _unnamed(ground: Ground, path: Path) -> Seen:
    """There is no lock file, or nothing can be read in it."""
    if ground.status is not None:
        return Seen(
            FAILURE,
            f"{path} was removed or cannot be read while a daemon runs (pid {ground.status['pid']})",
            "another could be started beside it; begin anew: cosession restart",
        )
    if os.path.lexists(path) and path.stat().st_size:
        return Seen(WARNING, f"{path} cannot be read as what a daemon writes", "the next start writes it anew")
    return Seen(OK, "free; nobody holds it")


def _held(ground: Ground, living: Holder, kernel: int) -> Seen:
    if living.act:
        return Seen(
            WARNING, f"pid {living.pid} holds it: {living.act} is at work on the store", "wait until it has ended"
        )
    if kernel and kernel != living.pid:
        return Seen(
            FAILURE,
            f"it names pid {living.pid}, but pid {kernel} holds it",
            f"one of the two is no daemon of this place: ps -fp {living.pid},{kernel}; end that one by hand",
        )
    if ground.status is not None and ground.status["pid"] != living.pid:
        return Seen(
            FAILURE,
            f"pid {living.pid} holds it, and pid {ground.status['pid']} answers on the socket",
            "the second belongs to another state directory; give one of them another COSESSION_SOCKET",
        )
    if ground.status is None:
        return Seen(
            FAILURE,
            f"pid {living.pid} holds it, and does not answer on {living.socket}",
            f"it loses nothing that was acknowledged: kill {living.pid}, then: cosession start",
        )
    return Seen(OK, f"held by pid {living.pid}, which is the daemon that answers")


def orphans(ground: Ground) -> Seen:
    """Processes of this installation's daemon that nobody waits for any more."""
    import psutil

    serving = {(ground.status or {}).get("pid", 0), os.getpid()}
    living = ground.living()
    if living is not None:
        serving.add(living.pid)
    found: list[str] = []
    for process in psutil.process_iter(["pid", "ppid", "cmdline", "uids", "create_time"]):
        facts = process.info
        words = _words_of(facts["cmdline"] or [])
        if words is None or facts["pid"] in serving or facts["ppid"] in serving or not _is_ours(process, ground):
            continue
        parent = _command_of(facts["ppid"])
        if time.time() - facts["create_time"] < _YOUNG_S or any("cosession" in word for word in parent):
            continue
        found.append(f"pid {facts['pid']} (cosessiond {' '.join(words)[:60]}".rstrip() + ")")
    if not found:
        return Seen(OK, "none: every process of this place has its parent")
    return Seen(
        WARNING,
        f"{len(found)} processes of this place belong to nobody: {', '.join(found[:5])}",
        f"end them: kill {' '.join(each.split()[1] for each in found[:5])}",
    )


def _words_of(command: list[str]) -> list[str] | None:
    """What a process of the daemon's package was told to do; None for any other process."""
    for index, word in enumerate(command):
        if os.path.basename(word) == "cosessiond":  # noqa: PTH119 - a word, not a path
            return command[index + 1 :]
    return None


def _is_ours(process: Any, ground: Ground) -> bool:
    """Whether it works on our state directory, as far as its environment can be read."""
    import psutil

    try:
        return paths.state_directory(process.environ()) == str(ground.state)
    except (psutil.Error, OSError):
        return False


def _command_of(pid: int) -> list[str]:
    import psutil

    try:
        return psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return []


def named_in(path: Path) -> dict[str, Any] | None:
    """What a lock file says, None when there is none or it cannot be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_FILE_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def kernel_holder(path: Path, locks: Path = Path("/proc/locks")) -> int:
    """Who holds a lock on the file by word of the kernel, 0 for nobody or where it cannot be told (proc_locks(5))."""
    try:
        found = path.stat()
        text = locks.read_text()
    except OSError:
        return 0
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in text.splitlines():
        words = line.split()
        if words[1:2] in (["FLOCK"], ["POSIX"]) and words[5:6] == [name] and words[4].isdigit():
            return int(words[4])
    return 0


def boot_id() -> str:
    """The id of this boot of the machine, "" where there is none to read."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
