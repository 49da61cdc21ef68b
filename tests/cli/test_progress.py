"""The progress bar on a real terminal: appears late, says how far, is wiped however the work ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from terminal import Terminal

#: Work of a few seconds under a bar that appears at once; argv: total, further arguments of the verb.
WORK = """
import sys, time
from cosession.cli import options, progress
progress.APPEARS_S = float(sys.argv[2])
verb = options.Verb("work", "", lambda given: 0, summary="")
given = options.parse(verb, sys.argv[3:])
total = int(sys.argv[1])
try:
    with progress.Progress(given, "counting \\x1b[2J\\u00e9", total) as bar:
        for done in range(0, 1001, 250):
            bar.reach(done)
            with progress.Progress(given, "work within work"):
                time.sleep(0.25)
        if "--timeout" in sys.argv:
            bar.now("waiting")
            time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
print("done")
"""


def work(*arguments: str, total: int = 1000, appears_s: float = 0.0) -> list[str]:
    return [sys.executable, "-P", "-c", WORK, str(total), str(appears_s), *arguments]


@pytest.fixture
def at_work(tmp_path):
    opened: list[Terminal] = []

    def start(command: list[str], columns: int = 80, **env: str) -> Terminal:
        opened.append(
            Terminal(command, env={**os.environ, "LANG": "C.UTF-8", **env}, cwd=str(tmp_path), columns=columns)
        )
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_bar_says_how_far_and_is_wiped(at_work):
    terminal = at_work(work())
    terminal.wait_for(" 50%  500 of 1,000  ")
    assert "counting \\u001b[2Jé  ████████████░░░░░░░░░░░░   50%  500 of 1,000  " in terminal.screen
    assert terminal.finish() == 0
    assert terminal.screen == "done\n"


def test_a_spinner_says_what_is_done(at_work):
    terminal = at_work(work(total=0))
    terminal.wait_for("counting \\u001b[2Jé  750  ")
    assert terminal.screen[0] in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    terminal.finish()
    assert terminal.screen == "done\n"


def test_what_is_done_within_a_second_shows_none(at_work):
    terminal = at_work(work(appears_s=20.0))
    terminal.finish()
    assert terminal.raw == b"done\r\n"


def test_ascii_where_the_terminal_is_not_utf8(at_work):
    terminal = at_work(work(), LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    terminal.wait_for("counting \\u001b[2J\\u00e9  ############------------   50%  500 of 1,000")
    terminal.finish()
    assert terminal.raw.isascii()


def test_a_dumb_terminal_is_wiped_with_blanks(at_work):
    terminal = at_work(work(), TERM="dumb")
    terminal.wait_for("50%")
    terminal.finish()
    assert b"\x1b" not in terminal.raw
    assert terminal.screen == "done\n"


def test_there_is_no_colour(at_work):
    terminal = at_work(work(), TERM="xterm-256color")
    terminal.finish()
    assert terminal.raw.replace(b"\x1b[K", b"").count(b"\x1b") == 0
    assert b"work within work" not in terminal.raw, "of two bars only the outer is shown"


@pytest.mark.parametrize("columns", [80, 50, 40])
def test_the_line_never_wraps(at_work, columns):
    terminal = at_work(work(), columns=columns)
    terminal.wait_for("75%")
    assert "\n" not in terminal.screen
    assert len(terminal.screen) < columns
    terminal.finish()
    assert terminal.screen == "done\n"


def test_ctrl_c_leaves_a_clean_line(at_work):
    terminal = at_work(work("--timeout", "1"))
    terminal.wait_for("waiting  ")
    terminal.type("\x03")
    assert terminal.finish() == 0
    assert terminal.screen in ("interrupted\ndone\n", "^Cinterrupted\ndone\n"), "the ^C is the terminal's own"


def test_no_bar_for_programs(at_work):
    terminal = at_work(work("--json"))
    terminal.finish()
    assert terminal.raw == b"done\r\n"
    piped = subprocess.run(work(), capture_output=True, check=True, timeout=60)
    assert (piped.stdout, piped.stderr) == (b"done\n", b"")
    closed = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *work()], capture_output=True, check=True, timeout=60)
    assert closed.stdout == b"done\n"


def test_a_terminal_that_goes_away_does_not_end_the_work(at_work, tmp_path):
    proof = tmp_path / "proof"
    shell = 'trap "" HUP; "$0" "$@" > "$PROOF"'
    terminal = at_work(["sh", "-c", shell, *work("--timeout", "1")], PROOF=str(proof))
    terminal.wait_for("%")
    os.close(terminal._fd)
    terminal._fd = -1
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:  # it goes on sleeping: the bar has ended, the work has not
        time.sleep(0.5)
        assert os.waitpid(terminal.pid, os.WNOHANG) == (0, 0)
