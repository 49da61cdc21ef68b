"""The tour runs what it shows, says when that did not come out, and leaves nothing behind wherever it is broken off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cosession.cli.demo.lessons import LESSONS
from cosession.cli.main import VERBS
from harness import private_home, processes_of
from terminal import Terminal

#: The tour with one lesson of our own.
OTHER = """
import sys
from cosession.cli.demo import tour
from cosession.cli.demo.lessons import Lesson, Step
from cosession.cli.main import main
tour.LESSONS = (Lesson("Ours", (Step("A text.", {command!r}, "It means.", wants=("42",), code={code}),)),)
sys.exit(main(["demo", "--tour", "--no-pause"]))
"""


@pytest.fixture
def place(nowhere):
    with private_home() as path:
        nowhere.env["TMPDIR"] = str(path)
        yield path
        assert processes_of(path) == []
        assert list(path.iterdir()) == []


def test_every_step_comes_out_as_the_lessons_say(nowhere, place, home):  # noqa: ARG001
    told = nowhere.ok("demo", "--tour", "--json").json
    assert told["ok"] is True
    assert [each["command"] for each in told["steps"]] == [step.command for lesson in LESSONS for step in lesson.steps]
    assert told["seconds"] < 120
    assert not (home / "state").exists(), "it has a daemon of its own"


def test_the_tour_shows_what_it_must():
    commands = "\n".join(step.command for lesson in LESSONS for step in lesson.steps)
    for verb in ("put", "get", "merge", "txn", "watch", "history", "update", "sessions", "explain session"):
        assert f"cosession {verb}" in commands
    for verb in ("diff", "blame", "revert", "audit"):
        assert verb not in VERBS or f"cosession {verb}" in commands, f"{verb} is there, so the tour teaches it"
    words = sum(len(f"{lesson.title} {step.text} {step.means}".split()) for lesson in LESSONS for step in lesson.steps)
    assert words < 5 * 200, "five minutes of reading"


@pytest.mark.parametrize(("command", "code"), [("echo 41", 0), ("echo 42", 3)])
def test_what_does_not_come_out_is_told(nowhere, place, command, code):  # noqa: ARG001
    done = subprocess.run(
        [sys.executable, "-P", "-c", OTHER.format(command=command, code=code)],
        env=nowhere.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "This did not come out as it should" in done.stdout
    assert "It means." not in done.stdout
    assert "\x1b" not in done.stdout


def test_it_waits_for_enter_and_ctrl_c_leaves_nothing(nowhere, place):
    env = {**nowhere.env, "LANG": "C.UTF-8"}
    with Terminal(nowhere.popen_command("demo", "--tour"), env=env, cwd=nowhere.cwd, columns=70) as terminal:
        terminal.wait_for("[Enter]")
        assert "$ cosession put plan/next" in terminal.screen
        terminal.settle()
        assert "\n    1\n" not in terminal.screen, "not before Enter"
        terminal.type("\r")
        terminal.wait_for("$ cosession get plan/next")
        assert "\n    1\n" in terminal.screen
        assert max(map(len, terminal.screen.splitlines())) <= 70
        terminal.settle()
        terminal.type("\x03")
        assert terminal.finish() == 130
        assert "Traceback" not in terminal.screen
        assert terminal.raw.endswith(b"\n"), "the next prompt stands on a line of its own"
    assert list(Path(place).iterdir()) == []


def test_options_that_do_not_fit(nowhere):
    nowhere.refused(64, "demo", "--no-pause")
    nowhere.refused(64, "demo", "--tour", "--no-spawn")
