"""A launchctl that never saw a Mac: its answers have the shapes that launchctl(1) and what people met show.

As a module it answers words with what launchctl would say, with knobs for its races. As a program (`main`) it keeps its
state in a file beside the agent, and starts and ends a real daemon.

Rule: only documented answers: 3 no such process, 5 input/output error, 36 and 37 operation in progress, 113 could not
find service, 119 disabled, 125 domain does not support the action.
"""

from __future__ import annotations

import json
import os
import plistlib
import signal
import subprocess
import sys
import time
from pathlib import Path

LABEL = "dev.cosession.daemon"
GUI, USER = f"gui/{os.getuid()}", f"user/{os.getuid()}"

PRINT = """{domain}/{label} = {{
\tactive count = {active}
\tpath = {path}
\ttype = LaunchAgent
\tstate = {state}

\tprogram = {program}
\targuments = {{
\t\t{program}
\t}}

\tinherited environment = {{
\t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.x/Listeners
\t\tpid = 999999
\t}}

\tdomain = {domain} [100005]
\tminimum runtime = 10
\texit timeout = 15
\truns = {runs}
{pid}\tlast exit code = {last}
\tsockets = {{
\t\t"Listener" = {{
\t\t\ttype = stream
\t\t\tpath = /x/d.sock
\t\t}}
\t}}

\tproperties = runatload | inferred program
}}
"""


class FakeLaunchd:
    """One user's launchd. `lingers`: how many looks a job is still there after its bootout. `flaky`: how many times
    bootstrap ends with 5 for no reason but the moment. `gui`: whether somebody is logged in at the screen.
    """

    def __init__(self, *, lingers: int = 0, flaky: int = 0, gui: bool = True, disabled: bool = False) -> None:
        self.lingers = lingers
        self.flaky = flaky
        self.gui = gui
        self.disabled = disabled
        self.domain = ""  # where the job is, "" when nowhere
        self.leaving = 0
        self.path = ""
        self.pid = 0
        self.runs = 0
        self.last = "(never exited)"
        self.asked: list[tuple[str, ...]] = []

    def answer(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and error of `launchctl WORDS`."""
        self.asked.append(words)
        return getattr(self, f"_{words[0]}")(*words[1:])

    def run(self) -> None:
        """The job's process begins."""
        if not self.pid:
            self.runs += 1
            self.pid = 500 + self.runs

    def end(self, code: int = 0) -> None:
        """The job's process ends."""
        self.pid, self.last = 0, str(code)

    def _look(self) -> None:
        if self.leaving:
            self.leaving -= 1
            if not self.leaving:
                self.domain = ""
                self.end()

    def _print(self, target: str) -> tuple[int, str, str]:
        self._look()
        domain, _, label = target.rpartition("/")
        if domain != self.domain or label != LABEL:
            return 113, "", f'Bad request.\nCould not find service "{label}" in domain for user gui: 501\n'
        pid = f"\tpid = {self.pid}\n" if self.pid else ""
        state, active = ("running", 1) if self.pid else ("not running", 0)
        program = plistlib.loads(Path(self.path).read_bytes())["ProgramArguments"][0] if self.path else "/x/python"
        text = PRINT.format(
            domain=domain,
            label=label,
            path=self.path,
            state=state,
            active=active,
            program=program,
            runs=self.runs,
            pid=pid,
            last=self.last,
        )
        return 0, text, ""

    def _bootstrap(self, domain: str, path: str) -> tuple[int, str, str]:
        if domain == GUI and not self.gui:
            return 125, "", "Bootstrap failed: 125: Domain does not support specified action\n"
        if self.disabled:
            return 119, "", "Bootstrap failed: 119: Service is disabled\n"
        if self.flaky or self.domain:
            self.flaky = max(0, self.flaky - 1)
            said = "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors.\n"
            return 5, "", said
        if not Path(path).exists():
            return 5, "", "Bootstrap failed: 5: Input/output error\n"
        self.domain, self.path, self.runs = domain, path, 0
        return 0, "", ""

    def _bootout(self, target: str) -> tuple[int, str, str]:
        domain = target.rpartition("/")[0]
        if domain == GUI and not self.gui:
            return 125, "", "Boot-out failed: 125: Domain does not support specified action\n"
        if domain != self.domain:
            return 3, "", "Boot-out failed: 3: No such process\n"
        if self.lingers:
            self.leaving = self.lingers
            return 36, "", "Boot-out failed: 36: Operation now in progress\n"
        self.domain = ""
        self.end()
        return 0, "", ""

    def _enable(self, _target: str) -> tuple[int, str, str]:
        self.disabled = False
        return 0, "", ""

    def _kickstart(self, target: str) -> tuple[int, str, str]:
        if target.rpartition("/")[0] != self.domain:
            return 113, "", 'Could not find service "x" in domain for user gui: 501\n'
        if self.pid:
            return 37, "", "Could not kickstart service: 37: Operation already in progress\n"
        self.run()
        return 0, "", ""

    def _kill(self, _signal: str, target: str) -> tuple[int, str, str]:
        if target.rpartition("/")[0] != self.domain or not self.pid:
            return 3, "", "Could not kill service: 3: No such process\n"
        self.end()
        return 0, "", ""


class RealJob(FakeLaunchd):
    """The same with a real process: the program of the agent, in the background."""

    def run(self) -> None:
        if self._lives():
            return
        agent = plistlib.loads(Path(self.path).read_bytes())
        env = {**os.environ, **agent["EnvironmentVariables"]}
        subprocess.run([*agent["ProgramArguments"], "--detach"], env=env, check=True, cwd="/")
        state = Path(env["COSESSION_HOME"], "state", "daemon.lock")
        self.pid = json.loads(state.read_text())["pid"]
        self.runs += 1

    def end(self, code: int = 0) -> None:
        if self._lives():
            os.kill(self.pid, signal.SIGTERM)
            while self._lives():
                time.sleep(0.01)
        super().end(code)

    def _lives(self) -> bool:
        try:
            os.kill(self.pid or -1, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return self.pid > 0

    def _bootstrap(self, domain: str, path: str) -> tuple[int, str, str]:
        found = super()._bootstrap(domain, path)
        if found[0] == 0:
            self.run()  # as somebody who connects would have it do
        return found


def main() -> int:
    """`launchctl ...`; its state lies in the file of `$FAKE_LAUNCHD`."""
    file = Path(os.environ["FAKE_LAUNCHD"])
    job = RealJob()
    if file.exists():
        job.__dict__.update(json.loads(file.read_text()))
    code, out, err = job.answer(*sys.argv[1:])
    file.write_text(json.dumps(job.__dict__))
    sys.stdout.write(out)
    sys.stderr.write(err)
    return code


if __name__ == "__main__":
    sys.exit(main())
