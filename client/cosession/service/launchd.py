"""launchd, through launchctl: bootstrap, bootout, kickstart, print, with their known answers and races.

What is known of the answers comes from launchctl(1), from `launchctl error`, and from what others met: bootstrap ends
with 5 (Input/output error) both for what is already there and, for a moment after a bootout, for what is still going;
bootout returns 36 (Operation now in progress) while the job is ending, or 0 before it has; print and kickstart end with
113 for a job that is not there. Never run on a Mac.

Rule: after every command the state is looked at, and a race is met by looking again, a bounded number of times.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cosession.errors import CosessionError, TimedOut
from cosession.service import agent
from cosession.service.asking import QUICK_S, Answer, ask
from cosession.service.place import Place
from cosession.service.supervisor import Report

#: launchctl's answers.
_OK: Final = 0
_NO_SUCH_PROCESS: Final = 3
_IO_ERROR: Final = 5
_IN_PROGRESS: Final = (36, 37)  # operation now / already in progress
_NOT_FOUND: Final = 113  # could not find service in domain
_DISABLED: Final = 119
_NO_DOMAIN: Final = 125  # the domain does not support the action: no graphical login
_GONE: Final = (_NO_SUCH_PROCESS, _NOT_FOUND)
_LOOK_S: Final = 0.25


class Launchd:
    """`launchctl` for the agent of this user. `sleep` and `now_s`: the clock, for tests."""

    kind: Final = "launchd"

    def __init__(
        self,
        env: Mapping[str, str] = os.environ,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env = env
        self._sleep = sleep
        self._now_s = now_s
        self._file = Path(env.get("HOME") or Path.home()) / "Library" / "LaunchAgents" / agent.FILE
        #: Of a graphical login; without one (ssh) the user's own.
        self._domain = f"gui/{os.getuid()}"

    def files(self, place: Place, *, confined: bool) -> dict[str, bytes]:
        """See `Supervisor`; there is nothing to confine with."""
        if confined:
            raise CosessionError("cannot confine the daemon: launchd has no namespaces; leave it out", code="config")
        return {str(self._file): agent.text(place)}

    def steps(self) -> list[str]:
        """See `Supervisor`."""
        return [f"launchctl bootstrap {self._domain} {self._file}"]

    def register(self, timeout_s: float, *, changed: bool) -> None:
        """See `Supervisor`. What was there before is taken out first: launchd reads a file once."""
        if not changed and self._is_there():
            return
        deadline = self._now_s() + timeout_s
        self._enable()
        self.unregister(timeout_s)
        while True:
            answer = self._ctl("bootstrap", self._domain, str(self._file))
            if answer.code == _NO_DOMAIN and self._domain.startswith("gui/"):
                self._domain = f"user/{os.getuid()}"
                continue
            if answer.code == _OK or (answer.code in (_IO_ERROR, *_IN_PROGRESS) and self._is_there()):
                return
            if answer.code == _DISABLED:
                self._enable()
            elif answer.code not in (_IO_ERROR, *_IN_PROGRESS):
                raise _refused("bootstrap", answer)
            self._wait(deadline, "bootstrap", answer)

    def links(self) -> list[str]:
        """See `Supervisor`."""
        return []

    def unregister(self, timeout_s: float) -> None:
        """See `Supervisor`. Returns when the job is gone: a bootstrap before that would fail."""
        deadline = self._now_s() + timeout_s
        answer = self._ctl("bootout", f"{self._domain}/{agent.LABEL}")
        if answer.code == _NO_DOMAIN and self._domain.startswith("gui/"):
            self._domain = f"user/{os.getuid()}"
            answer = self._ctl("bootout", f"{self._domain}/{agent.LABEL}")
        if answer.code not in (_OK, _IO_ERROR, *_GONE, *_IN_PROGRESS):
            raise _refused("bootout", answer)
        while self._is_there():
            self._wait(deadline, "bootout", answer)

    def forget(self, timeout_s: float) -> None:
        """See `Supervisor`: it was forgotten by `unregister`."""

    def start(self, timeout_s: float, *, anew: bool = True, arguments: str = "") -> None:
        """See `Supervisor`. launchd counts no failures, and passes no arguments for once."""
        if arguments:
            raise CosessionError(
                f"cannot start the daemon with {arguments} under launchd; run: cosession stop, "
                f"cosessiond --detach {arguments}, cosession restart",
                code="config",
            )
        if not self._is_there():
            self.register(timeout_s, changed=anew)
        answer = self._ctl("kickstart", f"{self._domain}/{agent.LABEL}")
        if answer.code not in (_OK, *_IN_PROGRESS):
            raise _refused("kickstart", answer)

    def stop(self, timeout_s: float) -> None:
        """See `Supervisor`: a job that is there would be started by whoever connects."""
        self.unregister(timeout_s)

    def restart(self, timeout_s: float) -> None:
        """See `Supervisor`. `kickstart -k` would kill it: it is asked to end, and started when it has."""
        deadline = self._now_s() + timeout_s
        before = self.report().pid
        if before:
            answer = self._ctl("kill", "SIGTERM", f"{self._domain}/{agent.LABEL}")
            if answer.code not in (_OK, *_GONE):
                raise _refused("kill", answer)
            while self.report().pid == before:
                self._wait(deadline, "kill", answer)
        self.start(max(0.1, deadline - self._now_s()))

    def report(self) -> Report:
        """See `Supervisor`."""
        answer = self._print()
        if answer.code != _OK:
            return Report(state="unknown", result="the service manager knows no such agent")
        return read_print(answer.output)

    def log_command(self, lines: int, *, follow: bool, as_json: bool) -> list[str]:
        """See `Supervisor`."""
        wanted = ["--lines", str(lines), *(["--follow"] if follow else []), *(["--json"] if as_json else [])]
        return ["cosession", "logs", *wanted]

    # -- the command -----------------------------------------------------------------------------------------------

    def _enable(self) -> None:
        self._ctl("enable", f"{self._domain}/{agent.LABEL}")  # that it was never disabled is fine

    def _is_there(self) -> bool:
        return self._print().code == _OK

    def _print(self) -> Answer:
        answer = self._ctl("print", f"{self._domain}/{agent.LABEL}")
        if answer.code == _OK or not self._domain.startswith("gui/"):
            return answer
        other = f"user/{os.getuid()}"
        found = self._ctl("print", f"{other}/{agent.LABEL}")
        if found.code == _OK:
            self._domain = other
            return found
        return answer

    def _ctl(self, *words: str) -> Answer:
        return ask("launchctl", *words, timeout_s=QUICK_S, env=self._env)

    def _wait(self, deadline: float, what: str, answer: Answer) -> None:
        if self._now_s() >= deadline:
            raise TimedOut(
                f"cannot finish `launchctl {what}`: {answer.said}; try again, or log out and in",
                data={"code": answer.code},
            )
        self._sleep(_LOOK_S)


def read_print(text: str) -> Report:
    """What `launchctl print` says of a job: `name = value` lines, of which the outer ones count."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"\t([a-z][a-z ]*?) = (.*)$", line)
        if match:
            found.setdefault(match[1], match[2].strip())
    pid = int(found["pid"]) if found.get("pid", "").isdigit() else 0
    ended = re.match(r"\d+", found.get("last exit code", ""))
    code = int(ended[0]) if ended else 0
    program = found.get("program", "")
    result = f"it ended with exit code {code}" if code else ""
    if found.get("last terminating signal"):
        result = f"{found['last terminating signal']} ended it"
    runs = int(found["runs"]) if found.get("runs", "").isdigit() else 0
    return Report(
        state="running" if pid else "idle",
        pid=pid,
        exit_code=code,
        result=result,
        restarts=max(0, runs - 1),
        enabled=True,
        missing=program if program and not Path(program).exists() else "",
    )


def _refused(what: str, answer: Answer) -> CosessionError:
    return CosessionError(
        f"cannot {what} the agent: launchctl ended with {answer.code}, {answer.said}; "
        f"see: launchctl error {answer.code}",
        code="io_error",
        data={"code": answer.code},
    )
