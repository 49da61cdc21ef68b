"""A machine of our own with a real systemd: the host's root under an overlay, booted by systemd-nspawn.

    with Machine() as machine:
        machine.user("systemctl", "--user", "status")

In it one user, `tester`, whose service manager runs without a login (lingering). What is written goes to memory and is
gone with it; the host's files are seen and never changed. Booting takes about a second.

Rule: everything waits with an end, and nothing of it outlives the `with`: no process, no mount, no directory.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

USER: Final = "tester"
UID: Final = 4242
HOME: Final = Path("/home/tester")
RUNTIME: Final = Path(f"/run/user/{UID}")
BOOT_S: Final = 60.0
RUN_S: Final = 60.0
END_S: Final = 10.0
POLL_S: Final = 0.02
#: What a machine boots to: the message bus, and logind, which starts the user's service manager. Nothing else of what
#: the host would run.
_TARGET: Final = """[Unit]
Requires=basic.target dbus.service systemd-logind.service
After=basic.target dbus.service systemd-logind.service
AllowIsolate=yes
"""
_NEEDED: Final = {
    "systemd-nspawn": "systemd-container",
    "dbus-daemon": "dbus",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "systemd-analyze": "systemd",
}
_SESSION_BUS: Final = "/usr/lib/systemd/user/dbus.service"


def missing() -> list[str]:
    """The Debian packages that are not installed and without which no machine boots."""
    found = {package for program, package in _NEEDED.items() if not shutil.which(program)}
    if not Path(_SESSION_BUS).exists():
        found.add("dbus-user-session")
    if not Path("/lib/systemd/systemd").exists():
        found.add("systemd")
    return sorted(found)


class Machine:
    """One booted machine. `furnish` is given its root before it boots, for what shall be there already. Raises OSError
    where the system lets nobody make one.
    """

    def __init__(self, *, furnish: Callable[[Path], None] = lambda _: None) -> None:
        self._furnish_more = furnish
        self._stack = contextlib.ExitStack()
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.root = Path()
        #: How long it took from systemd-nspawn to the user's service manager.
        self.boot_s = 0.0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            place = Path(tempfile.mkdtemp(prefix="cs-machine-"))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            _mount(stack, place, "tmpfs", "-o", "size=1g,mode=0755", "tmpfs")
            for name in ("upper", "work", "root"):
                (place / name).mkdir(mode=0o755)
            self.root = place / "root"
            layers = f"lowerdir=/,upperdir={place}/upper,workdir={place}/work"
            _mount(stack, self.root, "overlay", "-o", layers, "overlay")
            self._furnish()
            self._furnish_more(self.root)
            stack.callback(self._end)
            began = time.monotonic()
            self._boot(place / "console")
            self.boot_s = time.monotonic() - began
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- commands --------------------------------------------------------------------------------------------------

    def admin(self, *command: str, check: bool = True, timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
        """Run a command as root of the machine."""
        return _run([*self._enter(), *command], check=check, timeout_s=timeout_s)

    def user(
        self, *command: str, check: bool = True, timeout_s: float = RUN_S, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, as after a login."""
        return _run(self.as_user(*command, **env), check=check, timeout_s=timeout_s)

    def pipe(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Begin a command made by `as_user`, to talk with; the caller ends it."""
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def as_user(self, *command: str, **env: str) -> list[str]:
        """The command line that runs `command` as the user."""
        told = {
            "HOME": str(HOME),
            "PATH": f"{HOME}/venv/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(RUNTIME),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={RUNTIME}/bus",
            **env,
        }
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        return [*self._enter(), *become, "env", "-i", "-C", str(HOME), *(f"{k}={v}" for k, v in told.items()), *command]

    def path(self, path: Path | str) -> Path:
        """A file of the machine, as the host sees it while it runs."""
        return Path(f"/proc/{self._leader}/root{path}")

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._leader), "--all", "--wd=/", "--"]

    # -- making it -------------------------------------------------------------------------------------------------

    def _furnish(self) -> None:
        root = self.root
        for name, line in (
            ("passwd", f"{USER}:x:{UID}:{UID}::{HOME}:/bin/sh\n"),
            ("group", f"{USER}:x:{UID}:\n"),
            ("shadow", f"{USER}:*:19000::::::\n"),
        ):
            file = root / "etc" / name
            file.write_text(file.read_text() + line)
        home = root / HOME.relative_to("/")
        home.mkdir(parents=True, mode=0o700)
        os.chown(home, UID, UID)
        linger = root / "var/lib/systemd/linger"
        linger.mkdir(parents=True, exist_ok=True)
        (linger / USER).touch()
        (root / "etc/machine-id").write_text(secrets.token_hex(16) + "\n")
        (root / "etc/systemd/system/machine.target").write_text(_TARGET)
        # Python may lie where only root looks (a home of root, say): here its directories can be passed through.
        for directory in (Path(sys.base_prefix), *Path(sys.base_prefix).parents):
            there = root / directory.relative_to("/")
            there.chmod(there.stat().st_mode | 0o055)

    def _boot(self, console: Path) -> None:
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe"]
        command += [f"--directory={self.root}", f"--machine=cs-{secrets.token_hex(4)}", "--boot"]
        with console.open("wb") as output:
            self._nspawn = subprocess.Popen(
                [*command, "systemd.unit=machine.target"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_S
        while not self._is_up():
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                said = console.read_text(errors="replace")[-2000:]
                raise OSError(
                    f"no machine could be booted ({self._nspawn.poll()}): {said.strip() or 'it said nothing'}"
                )
            time.sleep(POLL_S)

    def _is_up(self) -> bool:
        assert self._nspawn is not None
        self._leader = self._leader or _first_process(self._nspawn.pid)
        if not self._leader:
            return False
        try:
            return all(self.path(RUNTIME / name).exists() for name in ("systemd/private", "bus"))
        except OSError:
            return False

    def _end(self) -> None:
        if self._nspawn is None:
            return
        if self._leader:
            with contextlib.suppress(OSError):
                os.kill(self._leader, signal.SIGRTMIN + 13)  # halt at once, see systemd(1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(END_S)
        if self._leader:
            with contextlib.suppress(OSError):
                os.kill(self._leader, signal.SIGKILL)
        self._nspawn.kill()
        self._nspawn.wait()


def _first_process(nspawn: int) -> int:
    """The process that is 1 in the machine, 0 while there is none. It has helpers before it."""
    with contextlib.suppress(psutil.Error, OSError):
        for child in psutil.Process(nspawn).children(recursive=True):
            status = Path(f"/proc/{child.pid}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            if numbers[-1] == "1":
                return child.pid
    return 0


def _run(command: Sequence[str], *, check: bool, timeout_s: float) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command[-6:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def _mount(stack: contextlib.ExitStack, place: Path, kind: str, *arguments: str) -> None:
    done = subprocess.run(["mount", "-t", kind, *arguments, place], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"cannot mount {kind}: {done.stderr.strip()}")
    stack.callback(subprocess.run, ["umount", "--lazy", place], check=False, capture_output=True)
