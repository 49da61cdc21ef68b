"""`cosession demo --tour`: explains, shows a command, waits for Enter, runs it for real, and says what came of it.

Rule: what is shown is what is run, word for word, and its output is what it printed; what does not come out as the
lesson says is told as such and makes the exit code 1. Whatever ends the tour, nothing of it is left.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from cosession.cli import render
from cosession.cli.demo.home import private_home
from cosession.cli.demo.lessons import LESSONS, Lesson, Step
from cosession.cli.options import Given
from cosession.cli.progress import Progress

#: How long a step is run again until it prints what it must, and how long one run may take.
AGAIN_S = 20.0
RUN_S = 60.0
POLL_S = 0.1
WIDTH_MAX = 88
_PROGRAM = "import sys; from cosession.cli.main import main; sys.exit(main())"


def play(given: Given) -> int:
    """All lessons; 0 when everything came out as they say."""
    tutor = Tutor(given)
    with private_home() as home:
        place = _workplace(home)
        tutor.welcome(home)
        for number, lesson in enumerate(LESSONS, start=1):
            tutor.teach(number, lesson, place)
    return tutor.farewell()


def _workplace(home: Path) -> Path:
    """A directory to run commands in, with `cosession` and `python` in front of everything on the path."""
    place, programs = home / "tour", home / "bin"
    for directory in (place, programs):
        directory.mkdir()
    ours = shlex.quote(sys.executable)
    for name, command in (("cosession", f"{ours} -P -c {shlex.quote(_PROGRAM)}"), ("python", f"{ours} -P")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        program.chmod(0o700)
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return place


class Tutor:
    """Explains and runs; keeps the record of all that was run."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._silent = given.flag("--json")
        self._pauses = (
            not (self._silent or given.flag("--no-pause") or sys.stdin is None or not sys.stdin.isatty())
            and render.is_terminal()
        )
        self._began = time.monotonic()
        self._record: list[dict[str, Any]] = []

    def welcome(self, home: Path) -> None:
        """Where we are and how it goes."""
        self._tell(render.paint("A tour of cosession", "bold"))
        self._explain(
            f"Everything here is real: a daemon of its own in {home}, and commands as you would type them. It touches "
            "neither your daemon nor your data, and is removed at the end."
        )
        if self._pauses:
            self._explain("Enter runs the command that is shown; Ctrl-C ends the tour at any point.")

    def teach(self, number: int, lesson: Lesson, place: Path) -> None:
        """One lesson."""
        self._tell("")
        self._tell(render.paint(f"{number} of {len(LESSONS)}  {lesson.title}", "bold"))
        for step in lesson.steps:
            self._tell("")
            self._explain(step.text)
            self._tell("")
            first, *more = step.command.splitlines()
            for mark, text in (("$", first), *((" ", each) for each in more)):
                self._tell(f"  {render.paint(f'{mark} {text}', 'cyan')}")
            self._pause()
            code, output = self._run(step, place)
            for line in output.splitlines():
                self._tell(f"    {render.cut(render.escape(line), render.terminal_width() - 4)}")
            ok = _came_out(step, code, output)
            if not ok:
                self._tell(render.paint(f"  This did not come out as it should: exit code {code}.", "red"))
            elif step.means:
                self._explain(step.means)
            self._record.append(
                {"lesson": lesson.title, "command": step.command, "code": code, "output": output, "ok": ok}
            )

    def farewell(self) -> int:
        """What is left to say; 0 when every step came out."""
        failed = [each["command"] for each in self._record if not each["ok"]]
        if self._silent:
            seconds = round(time.monotonic() - self._began, 1)
            render.json_line({"ok": not failed, "seconds": seconds, "steps": self._record})
        self._tell("")
        if failed:
            self._explain(f"{len(failed)} of {len(self._record)} steps did not come out as they should.")
        self._explain(
            "That was the tour; every process and file of it is gone. Next: `cosession --help` lists all commands, "
            "`cosession VERB --help` explains one with examples, `cosession watch` shows your own sessions at work."
        )
        return 1 if failed else 0

    def _pause(self) -> None:
        if not self._pauses or sys.stdin is None or sys.stdout is None:
            return
        sys.stdout.write(render.paint("    [Enter] ", "dim"))
        sys.stdout.flush()
        try:
            is_there = bool(sys.stdin.readline())
        except KeyboardInterrupt:
            self._tell("")  # what comes next stands on a line of its own
            raise
        if not is_there:
            self._pauses = False
            self._tell("")

    def _run(self, step: Step, place: Path) -> tuple[int, str]:
        """Run the step, again until it prints what it must; the exit code and all that it printed."""
        deadline = time.monotonic() + AGAIN_S
        with Progress(self._given, "running"):
            while True:
                code, output = _run_once(step.command, place)
                if not step.again or _came_out(step, code, output) or time.monotonic() > deadline:
                    return code, output
                time.sleep(POLL_S)

    def _explain(self, text: str) -> None:
        room = min(render.terminal_width() or WIDTH_MAX, WIDTH_MAX) - 2
        for line in textwrap.wrap(render.escape(text), room, break_long_words=False, break_on_hyphens=False):
            self._tell(f"  {line}")

    def _tell(self, text: str) -> None:
        if self._silent:
            return
        render.line(text)
        if sys.stdout is not None:
            sys.stdout.flush()


def _run_once(command: str, place: Path) -> tuple[int, str]:
    """What the shell makes of it. The output goes to a file: what stays in the background would hold a pipe open."""
    said = place / ".output"
    with said.open("wb") as file:
        try:
            code = subprocess.run(  # noqa: S603 (our own lessons)
                ["/bin/sh", "-c", command],
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=RUN_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
    return code, said.read_text(encoding="utf-8", errors="replace")


def _came_out(step: Step, code: int, output: str) -> bool:
    return code == step.code and all(each in output for each in step.wants)
