"""What is forked is as what was started: descriptors, environment, how it ends, and who is told of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import zygote
from harness import POLL_S
from source_tree import ROOT

pytestmark = pytest.mark.skipif(not zygote.available(), reason="nothing can be forked here")


@pytest.fixture
def start(tmp_path):
    def begin(*arguments, **given):
        with (tmp_path / "out").open("wb") as out:
            return zygote.start("conduct", arguments, env={"SHOWN": "as given"}, out=out, **given)

    return begin


def test_a_forked_process_has_what_it_was_given_and_nothing_else(start, tmp_path):
    assert start("show").wait(20.0) == 0
    assert (tmp_path / "out").read_text() == f"as given {os.fspath('/')} True [0, 1, 2, 3]\n"


@pytest.mark.parametrize(("words", "code"), [(("exit", "7"), 7), (("raise",), 1), (("wait", "no"), 0)])
def test_how_it_ended_is_told(start, tmp_path, words, code):
    process = start(*words)
    assert process.wait(20.0) == code == process.poll()
    assert ("as it was told to" in (tmp_path / "out").read_text()) is (words == ("raise",))


def test_signals_reach_it_and_waiting_has_an_end(start):
    process = start("wait")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.kill()
    assert process.wait(20.0) == -signal.SIGKILL
    process.terminate()
    assert not psutil.pid_exists(process.pid)


def test_it_begins_when_it_is_told_to(start, tmp_path):
    process = start("late", str(tmp_path / "begun"), is_stopped=True)
    time.sleep(POLL_S)
    assert not (tmp_path / "begun").exists()
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    process.send_signal(signal.SIGCONT)
    assert process.wait(20.0) == 0
    assert (tmp_path / "begun").exists()


def test_the_zygote_ends_with_who_started_it(tmp_path):
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import os, signal, zygote\n"
    program += "out = open(sys.argv[1], 'wb'); p = zygote.start('conduct', ['exit', '0'], env={}, out=out); p.wait()\n"
    program += "print(next(iter(__import__('psutil').Process().children())).pid, flush=True)\n"
    program += "os.kill(os.getpid(), signal.SIGKILL)"
    said = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "out"], capture_output=True, text=True, check=False
    )
    deadline = time.monotonic() + 20.0
    while psutil.pid_exists(int(said.stdout)):
        assert time.monotonic() < deadline, "the zygote lives on"
        time.sleep(POLL_S)
