"""Which process the daemon is when it does not say so itself, and what its user can do about it.

Two witnesses: the kernel, which knows who listens at the other end of a connection, and `daemon.lock`, which names its
last holder. The lock goes first, since a socket may have been opened by a service manager.

Rule: for messages only, when something has gone wrong; and no advice to kill a process that is not surely a daemon.
"""

from __future__ import annotations

import os
import sys

from cosession import paths
from cosession.cli import data
from cosession.errors import TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

FILE_BYTES_MAX: Final = 4096
LINUX: Final = sys.platform.startswith("linux")
#: Letters of /proc/PID/stat, see proc_pid_stat(5): stopped by a signal or a debugger; over.
_SUSPENDED: Final = (b"T", b"t")
_OVER: Final = (b"Z", b"X", b"x")


class Holder:
    """The living process that `daemon.lock` names: its pid, and the socket it was listening on.

    `act`: what it does to the store instead of serving it, "" for a daemon.
    """

    __slots__ = ("act", "pid", "socket")

    def __init__(self, pid: int, socket: str, act: str = "") -> None:
        self.pid = pid
        self.socket = socket
        self.act = act


def living_holder(env: Mapping[str, str] = os.environ) -> Holder | None:
    """Who holds the lock, None when it names nobody who lives."""
    try:
        found = data.loads(_read(paths.lock_file(env)).decode())
    except ValueError:  # UnicodeError is one
        return None
    if not isinstance(found, dict):
        return None
    pid, socket = found.get("pid"), found.get("socket")
    if type(pid) is not int or pid <= 0 or not isinstance(socket, str) or not _is_the_one(pid, found):
        return None
    act = found.get("act", "")
    return Holder(pid, socket, act if isinstance(act, str) else "")


def silence(path: str, peer: int, why: str) -> TimedOut:
    """The error for a daemon that took or said nothing; `why` says what and how long. `peer` as for `silent`."""
    pid, who, what_to_do = silent(path, peer)
    return TimedOut(f"cannot reach the daemon at {path}: {who} {why}; {what_to_do}", data={"path": path, "pid": pid})


def silent(path: str, peer: int) -> tuple[int, str, str]:
    """The daemon behind `path` that does not answer: its pid (0: unknown), words for it, and what to do.

    `peer`: by word of the kernel, 0 when there is no connection.
    """
    holder = living_holder()
    surely = holder is not None and (holder.pid == peer or holder.socket == path)
    pid = holder.pid if holder and surely else peer
    if not pid:
        return 0, "it", "wait longer with --timeout S"
    if _state(pid) in _SUSPENDED:
        return pid, f"pid {pid}, which is suspended,", f"run: kill -CONT {pid}"
    if surely or _is_called_daemon(pid):
        return pid, f"pid {pid}", f"wait longer with --timeout S, or {end_of(pid, '-9 ')}"
    if os.path.exists(paths.service_manifest()):  # noqa: PTH110 - of the light half
        return pid, "its service manager holds the socket and the daemon", "see: cosession service status"
    return pid, f"pid {pid}", "wait longer with --timeout S, or see what that process is"


def mute(holder: Holder) -> str:
    """Why and what to do where a daemon lives that nobody can reach any more."""
    if holder.act:
        return f"{holder.act} is at work on its store (pid {holder.pid}); wait until that has ended"
    return (
        f"pid {holder.pid} holds its lock, but nobody answers on its socket {holder.socket}: it is ending, or the "
        f"socket was removed; {end_of(holder.pid)}"
    )


def end_of(pid: int, how: str = "") -> str:
    """What to do to end a daemon."""
    return f"run: kill {how}{pid}, it loses nothing that was acknowledged"


def _is_the_one(pid: int, found: dict[str, Any]) -> bool:
    """Whether process `pid` lives and is the one that wrote `found`: a pid alone is used again."""
    if not LINUX:
        return _is_called_daemon(pid)
    boot_id = _read("/proc/sys/kernel/random/boot_id").decode("ascii", "replace").strip()
    fields = _stat(pid)
    if not fields or fields[0] in _OVER or found.get("boot_id") not in (boot_id, ""):
        return False
    return int(fields[19]) == found.get("start_time")  # field 22; `fields` begins with field 3


def _is_called_daemon(pid: int) -> bool:
    """Whether `pid` runs our daemon, by its command line: `.../cosessiond` or `-m cosessiond`."""
    if LINUX:
        words = _read(f"/proc/{pid}/cmdline").decode(errors="replace").split("\0")
    else:
        import psutil

        try:
            words = psutil.Process(pid).cmdline()
        except (psutil.Error, OSError):
            return False
    return any(os.path.basename(word) == "cosessiond" for word in words)  # noqa: PTH119 - as paths.py does it


def _state(pid: int) -> bytes:
    """The letter of its state, b"" where nobody can tell."""
    fields = _stat(pid) if LINUX else []
    return fields[0] if fields else b""


def _stat(pid: int) -> list[bytes]:
    """/proc/PID/stat from the state on, [] when there is none. The command may hold ')' too: the last one ends it."""
    text = _read(f"/proc/{pid}/stat")
    return text[text.rindex(b")") + 2 :].split() if b")" in text else []


def _read(path: str) -> bytes:
    """The beginning of a small file, b"" when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, FILE_BYTES_MAX)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
