"""One look at a process of this machine: the facts as the system shows them, and the id of this boot.

On Linux /proc is read directly: one small file, 20 us, no import. psutil is the portable floor elsewhere, imported
only when it is used (20 ms and 8 MB).

Rule: the only module of the sessions that imports psutil or reads /proc/PID. What the system raises is translated
here: None says that there is no such process, `CannotJudge` that nobody can tell from here.

The parts for macOS are written from its headers and have never run on a Mac.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

LINUX: Final = sys.platform.startswith("linux")
PID_MAX: Final = 2**31 - 1
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UUID_ROOM: Final = 64  # uuid_string_t has 37 bytes


class CannotJudge(Exception):
    """Nobody can tell from here whether that process lives; the argument says why."""


class ProcessFacts(Struct, frozen=True):
    """What one look at a process shows. `zombie`: it is over, only its parent has not yet collected it.

    `start_time` is in the unit of `cosession.model.Instance`; `parent` is 0 when no parent is visible here.
    """

    pid: int
    parent: int
    start_time: int
    zombie: bool


@cache
def boot_id() -> str:
    """The id of this boot of the machine, "" where the system has none (then a reboot shows in start times only).

    On macOS `kern.bootsessionuuid` of sysctl, drawn by the kernel at each boot; asked for once, without a process.
    """
    if not LINUX:
        return sysctl_uuid("kern.bootsessionuuid")
    try:
        return _read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
    except OSError:
        return ""


def facts(pid: int) -> ProcessFacts | None:
    """One look at process `pid`; None when there is none. Raises CannotJudge."""
    if not 0 < pid <= PID_MAX:
        return None
    return facts_procfs(pid) if LINUX else facts_psutil(pid)


def owner(pid: int) -> int | None:
    """The real user id of `pid`, None when there is no such process or nobody can tell."""
    if not 0 < pid <= PID_MAX:
        return None
    if not LINUX:
        return owner_psutil(pid)
    fields = _status_field(pid, "Uid:")
    return int(fields[0]) if fields else None


def name_of(pid: int) -> str:
    """The name of the program that `pid` runs, as far as the kernel keeps it; "" when there is no telling."""
    if not 0 < pid <= PID_MAX:
        return ""
    if not LINUX:
        return name_psutil(pid)
    try:
        return _read(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def same_pid_namespace(pid: int) -> bool:
    """Whether `pid` lives in our pid namespace, so that the numbers it uses mean the same here.

    Linux compares /proc/PID/ns/pid with our own; where that is forbidden (a process that may not be traced), one
    number in `NSpid` says that no namespace lies between. Elsewhere every visible process is in the only one.
    """
    if not 0 < pid <= PID_MAX:
        return False
    if not LINUX:
        return True
    try:
        theirs, ours = Path(f"/proc/{pid}/ns/pid").stat(), Path("/proc/self/ns/pid").stat()
    except PermissionError:
        return len(_status_field(pid, "NSpid:")) == 1
    except OSError:
        return False
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def facts_procfs(pid: int) -> ProcessFacts | None:
    """`facts` on Linux."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        _require_absent(pid)
        return None
    try:
        return parse_stat(pid, text)
    except (ValueError, IndexError) as error:  # emptied or invented by something that stands in for the kernel
        raise CannotJudge(f"process {pid} exists but /proc/{pid}/stat is not as proc_pid_stat(5) says") from error


def parse_stat(pid: int, text: bytes) -> ProcessFacts:
    """/proc/PID/stat as facts, see proc_pid_stat(5). The command may hold spaces and ')': the last ')' ends it.

    A process whose first thread has left while others run shows state Z too, but counts more than one thread.
    """
    state, ppid, *rest = text[text.rindex(b")") + 2 :].split()
    threads, started = int(rest[15]), int(rest[17])  # fields 20 and 22; `rest` begins with field 5
    over = state in (b"X", b"x") or (state == b"Z" and threads <= 1)
    return ProcessFacts(pid=pid, parent=int(ppid), start_time=started, zombie=over)


def facts_psutil(pid: int) -> ProcessFacts | None:
    """`facts` on every other system; `start_time` in microseconds since the epoch.

    On macOS psutil reads `p_starttime` of KERN_PROC_PID (psutil/arch/osx/proc.c), which the kernel sets at fork from
    the wall clock and leaves alone, also when the clock is set or the process calls exec (bsd/kern/kern_fork.c of xnu).
    A double holds its microseconds exactly. psutil's `create_time()` adds to it how far the clock was set since
    psutil was imported, another number in each process, so the raw one is asked for; before 7.1 there is only that.
    All of it is read in one system call (`oneshot`), so that it is of one process.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            started = _created(process)
            zombie = process.status() == psutil.STATUS_ZOMBIE
            parent = process.ppid()
        return ProcessFacts(pid=pid, parent=parent, start_time=round(started * 1e6), zombie=zombie)
    except psutil.ZombieProcess:
        return ProcessFacts(pid=pid, parent=0, start_time=0, zombie=True)
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError) as error:
        raise CannotJudge(f"process {pid} cannot be looked at: {error}") from error


def _created(process: Any) -> float:
    try:
        # Private, for want of a public one.
        return float(process._proc.create_time(monotonic=True))  # noqa: SLF001
    except (AttributeError, TypeError):
        return float(process.create_time())


def owner_psutil(pid: int) -> int | None:
    """`owner` on every other system."""
    import psutil

    try:
        return int(psutil.Process(pid).uids().real)
    except (psutil.Error, OSError):
        return None


def name_psutil(pid: int) -> str:
    """`name_of` on every other system."""
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except (psutil.Error, OSError):
        return ""


def _require_absent(pid: int) -> None:
    """Returns when `pid` is certainly gone: /proc may be missing, or hide the processes of others (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    except OSError:
        pass
    raise CannotJudge(f"process {pid} exists but /proc/{pid}/stat cannot be read")


def _status_field(pid: int, name: str) -> list[str]:
    """The words after `name` in /proc/PID/status, none when it cannot be read."""
    try:
        lines = _read(f"/proc/{pid}/status").decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(name)), [])


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123  # a third faster than Path, and called for every look
        return file.read()


def sysctl_uuid(name: str, libc: Any = None) -> str:
    """A UUID from sysctlbyname(3), "" when there is none (macOS). `libc`: the C library, or what stands in for it.

    int sysctlbyname(const char *, void *old, size_t *oldlen, void *new, size_t newlen); the text ends with a NUL, and
    `oldlen` counts it. What is no UUID is not taken for one: an id that is cut off would not tell boots apart.
    """
    import ctypes  # only here: it is not light

    size = ctypes.c_size_t(_UUID_ROOM)
    buffer = ctypes.create_string_buffer(size.value)
    try:
        ask = (ctypes.CDLL(None) if libc is None else libc).sysctlbyname
        failed = ask(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
    except AttributeError:
        return ""
    text = buffer.value.decode("ascii", "replace")
    return text if not failed and _UUID.fullmatch(text) else ""
