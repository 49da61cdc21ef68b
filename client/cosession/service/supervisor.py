"""What the rest needs of a service manager, whichever it is.

Rule: systemd and launchd are told apart here by which command the machine has, and nowhere by its name.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct

from cosession.errors import CosessionError
from cosession.service.place import Place

#: running: there is a daemon; idle: it will be started for whoever connects; stopped: it will not.
State = Literal["running", "starting", "stopping", "idle", "stopped", "failed", "unknown"]


class Report(Struct, frozen=True, kw_only=True):
    """How the daemon stands with its service manager. `result`: how its last life ended, "" when in order; `said`: its
    own last line for people; `missing`: the program of the unit when that is not there.
    """

    state: State
    pid: int = 0
    exit_code: int = 0
    result: str = ""
    said: str = ""
    restarts: int = 0
    enabled: bool = False
    missing: str = ""


class Supervisor(Protocol):
    """A service manager of this user. What takes time takes `timeout_s` at most; all of it raises CosessionError."""

    @property
    def kind(self) -> Literal["systemd", "launchd"]:
        """Which one it is."""
        ...

    def files(self, place: Place, *, confined: bool) -> dict[str, bytes]:
        """What is to be written, by absolute path."""
        ...

    def steps(self) -> list[str]:
        """The commands that `register` will run, for people."""
        ...

    def register(self, timeout_s: float, *, changed: bool) -> None:
        """Take the files in, and listen on the socket from now on. `changed`: they are other ones than before."""
        ...

    def links(self) -> list[str]:
        """The links that registering has made."""
        ...

    def unregister(self, timeout_s: float) -> None:
        """Stop the daemon and its socket, and forget about both; fine when nothing was registered."""
        ...

    def forget(self, timeout_s: float) -> None:
        """Notice that the files have gone."""
        ...

    def start(self, timeout_s: float, *, anew: bool = True, arguments: str = "") -> None:
        """Start the daemon; return when it is ready. `anew`: whatever went wrong before. `arguments`: for this once."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Stop the daemon and its socket: nobody starts it by connecting."""
        ...

    def restart(self, timeout_s: float) -> None:
        """End the daemon in order and start it again; its socket stays, and those who connect meanwhile wait."""
        ...

    def report(self) -> Report:
        """How it stands."""
        ...

    def log_command(self, lines: int, *, follow: bool, as_json: bool) -> list[str]:
        """The command that shows the daemon's log."""
        ...


def supervisor_of(kind: str, env: Mapping[str, str]) -> Supervisor:
    """The service manager of this kind."""
    if kind == "launchd":
        from cosession.service.launchd import Launchd

        return Launchd(env)
    from cosession.service.systemd import Systemd

    return Systemd(env)


def this_supervisor(env: Mapping[str, str]) -> Supervisor:
    """The service manager of this machine. Raises CosessionError where there is none."""
    path = env.get("PATH")
    for command, kind in (("systemctl", "systemd"), ("launchctl", "launchd")):
        if shutil.which(command, path=path):
            return supervisor_of(kind, env)
    raise CosessionError(
        "cannot install a service: this machine has neither systemctl nor launchctl; nothing is needed without them, "
        "the first client starts the daemon",
        code="not_found",
    )
