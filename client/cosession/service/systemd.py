"""systemd's service manager of this user, through systemctl.

Rule: the state of a unit is read from `systemctl show`, whose properties are stable, never from what is for people.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cosession.errors import CosessionError, Unreachable
from cosession.service import units
from cosession.service.asking import QUICK_S, Answer, ask
from cosession.service.place import Place
from cosession.service.supervisor import Report, State

_PROPERTIES: Final = (
    *("LoadState", "ActiveState", "MainPID", "UnitFileState", "ExecStart"),
    *("Result", "ExecMainStatus", "ExecMainCode", "StatusText", "NRestarts"),
)
_STATES: Final[dict[str, State]] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "failed": "failed",
}
#: What systemd says in `Result`, for people; an exit code and a signal are said as such.
_RESULTS: Final = {
    "watchdog": "it hung, and the service watchdog ended it",
    "timeout": "it took too long",
    "start-limit-hit": "it failed to start too often, and the service manager gave up",
    "oom-kill": "the machine had no memory left",
    "resources": "the service manager could not get what it needs to start it",
}
#: Exit codes of systemd itself, see systemd.exec(5): the program was never reached.
_EXEC: Final = {
    "203": "the program of the unit cannot be run",
    "218": "this system does not allow the unit to drop capabilities",
    "226": "this system does not allow the unit its namespaces",
}
#: What a start that failed counts as, by the exit code of the daemon.
_CODES: Final = {75: "already_running", 78: "config"}
_ENABLED: Final = "sockets.target.wants"


class Systemd:
    """`systemctl --user`."""

    kind: Final = "systemd"

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._env = env
        self._directory = _unit_directory(env)

    def files(self, place: Place, *, confined: bool) -> dict[str, bytes]:
        """See `Supervisor`."""
        texts = units.texts(place, version=self.version(), confined=confined)
        return {str(self._directory / name): text.encode() for name, text in texts.items()}

    def steps(self) -> list[str]:
        """See `Supervisor`."""
        return ["systemctl --user daemon-reload", f"systemctl --user enable --now {units.SOCKET}"]

    def register(self, timeout_s: float, *, changed: bool) -> None:
        """See `Supervisor`. A socket that is started anew takes its daemon with it."""
        self._ctl("daemon-reload", timeout_s=timeout_s)
        self._forgive()
        self._ctl("enable", units.SOCKET, timeout_s=timeout_s)
        self._ctl("restart" if changed else "start", units.SOCKET, timeout_s=timeout_s)

    def links(self) -> list[str]:
        """See `Supervisor`."""
        link = self._directory / _ENABLED / units.SOCKET
        return [str(link)] if link.is_symlink() else []

    def unregister(self, timeout_s: float) -> None:
        """See `Supervisor`."""
        if self._show(units.SOCKET)["LoadState"] == "loaded":
            self._ctl("disable", units.SOCKET, timeout_s=timeout_s)
        if self._show(units.SERVICE)["LoadState"] == "loaded":
            self.stop(timeout_s)

    def forget(self, timeout_s: float) -> None:
        """See `Supervisor`."""
        self._ctl("daemon-reload", timeout_s=timeout_s)
        self._forgive()

    def start(self, timeout_s: float, *, anew: bool = True, arguments: str = "") -> None:
        """See `Supervisor`."""
        if anew:
            self._forgive()
        with self._with_arguments(arguments):
            self._ctl("start", units.SOCKET, units.SERVICE, timeout_s=timeout_s)

    def stop(self, timeout_s: float) -> None:
        """See `Supervisor`."""
        self._ctl("stop", units.SOCKET, units.SERVICE, timeout_s=timeout_s)

    def restart(self, timeout_s: float) -> None:
        """See `Supervisor`."""
        self._forgive()
        self._ctl("restart", units.SERVICE, timeout_s=timeout_s)

    def report(self) -> Report:
        """See `Supervisor`."""
        found, socket = self._show(units.SERVICE), self._show(units.SOCKET)
        if found["LoadState"] != "loaded":
            return Report(state="unknown", result=f"the service manager knows no {units.SERVICE}")
        state = _STATES.get(found["ActiveState"], "stopped")
        if state in ("stopped", "failed") and socket["ActiveState"] == "active":
            state = "idle"
        elif state == "stopped" and socket["ActiveState"] == "failed":
            state = "failed"
        ended = found["ExecMainStatus"] if found["ExecMainStatus"].isdigit() else "0"
        return Report(
            state=state,
            pid=int(found["MainPID"]) if state in ("running", "starting", "stopping") else 0,
            exit_code=int(ended) if found["ExecMainCode"] == "1" else 0,  # CLD_EXITED: by an exit code
            result=_result(found["Result"], found["ExecMainCode"], ended),
            said=found["StatusText"],
            restarts=int(found["NRestarts"] or 0),
            enabled=socket["UnitFileState"] == "enabled",
            missing=_missing(found["ExecStart"]),
        )

    def log_command(self, lines: int, *, follow: bool, as_json: bool) -> list[str]:
        """See `Supervisor`."""
        more = [*(["--follow"] if follow else []), *(["--output=json"] if as_json else [])]
        return ["journalctl", "--user", "--no-pager", f"--unit={units.SERVICE}", f"--lines={lines}", *more]

    def version(self) -> int:
        """The version of systemd, 0 when it cannot be told."""
        said = ask("systemctl", "--version", env=self._env).output
        match = re.match(r"systemd (\d+)", said)
        return int(match[1]) if match else 0

    # -- the command -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _with_arguments(self, arguments: str) -> Iterator[None]:
        """What `$COSESSIOND_ARGS` of the unit is meanwhile."""
        if not arguments:
            yield
            return
        self._ctl("set-environment", f"COSESSIOND_ARGS={arguments}", timeout_s=QUICK_S)
        try:
            yield
        finally:
            self._ctl("unset-environment", "COSESSIOND_ARGS", timeout_s=QUICK_S)

    def _forgive(self) -> None:
        """Failed starts of before no longer count; that there were none is fine."""
        ask("systemctl", "--user", "reset-failed", units.SERVICE, units.SOCKET, env=self._env)

    def _show(self, unit: str) -> dict[str, str]:
        answer = self._ctl("show", f"--property={','.join(_PROPERTIES)}", unit, timeout_s=QUICK_S)
        found = dict.fromkeys(_PROPERTIES, "")
        for line in answer.output.splitlines():
            name, _, value = line.partition("=")
            found[name] = value
        return found

    def _ctl(self, *words: str, timeout_s: float) -> Answer:
        answer = ask("systemctl", "--user", *words, timeout_s=timeout_s, env=self._env)
        if answer.code == 0:
            return answer
        if "connect to bus" in answer.error or "No medium found" in answer.error:
            raise Unreachable(
                f"cannot reach your service manager: {answer.said}; log in, or let it run without a login: "
                "loginctl enable-linger",
                data={"command": ["systemctl", "--user", *words]},
            )
        raise self._refused(words[0], answer)

    def _refused(self, what: str, answer: Answer) -> CosessionError:
        """What is behind "Job for ... failed", as far as the unit tells."""
        report = None
        if "Job for" in answer.error:
            with contextlib.suppress(CosessionError):
                report = self.report()
        if report is None:
            why, code = answer.said, "io_error"
        elif report.missing:
            why, code = f"the unit runs {report.missing}, which is not there; run: cosession service install", "config"
        elif report.said.startswith("cannot "):
            why, code = report.said, _CODES.get(report.exit_code, "io_error")
        else:
            why, code = report.result or answer.said, _CODES.get(report.exit_code, "io_error")
        advice = "" if "; " in why else "; see: cosession service status"
        return CosessionError(
            f"cannot {what} the service: {why}{advice}",
            code=code,
            data={"said": answer.said, "exit_code": report.exit_code if report else 0},
        )


def _result(result: str, how: str, status: str) -> str:
    if result in ("success", ""):
        return ""
    if result == "exit-code":
        return _EXEC.get(status, f"it ended with exit code {status}")
    if result in ("signal", "core-dump"):
        return f"signal {status} ended it" if how != "1" else f"it ended with exit code {status}"
    return _RESULTS.get(result, result)


def _missing(exec_start: str) -> str:
    """The program of the unit when it is not there; `show` prints `{ path=/... ; argv[]=... }`."""
    match = re.match(r"\{ path=(.*?) ; argv", exec_start)
    return match[1] if match and not shutil.which(match[1]) else ""


def _unit_directory(env: Mapping[str, str]) -> Path:
    """Where a user's own units lie, as systemd.unit(5) says."""
    xdg = env.get("XDG_CONFIG_HOME", "")
    base = Path(xdg) if Path(xdg).is_absolute() else Path(env.get("HOME") or Path.home()) / ".config"
    return base / "systemd" / "user"
