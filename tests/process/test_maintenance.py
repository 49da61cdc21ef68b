"""The frame of the acts on the files of a stopped store: arguments, the lock, what is said, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import Daemon
from process.maintaining import act
from process.starting import EXIT_RUNNING, environment, refusal

#: An act that shows what it was given, takes its time, or fails, as it is told to.
PROGRAM = """
import errno, sys
from cosessiond.maintenance import frame
from cosessiond.maintenance.task import Act
from cosessiond.store.engine import StoreBroken

def run(task):
    for done in range(3):
        task.progress(f"part {done}", done, 3)
    for _ in range(10_000):
        task.progress("last", 1, 2)
    if task.flag("--wait"):
        sys.stdin.read()
    if task.flag("--full"):
        raise OSError(errno.ENOSPC, "No space left on device", "store.db")
    if task.flag("--broken"):
        raise StoreBroken("cannot trust the store: no")
    return {"words": task.words, "options": task.options, "state": str(task.state)}

options = {"--wait": False, "--full": False, "--broken": False, "--to": True}
given = [word for word in sys.argv[1:] if word != "--look"]
sys.exit(frame.main("trial", Act(run, (0, 2), options, len(given) == len(sys.argv) - 1), given))
"""
TRIAL = (sys.executable, "-c", PROGRAM)


def test_an_act_is_given_its_arguments_and_says_how_far_it_is(home: Path) -> None:
    said = act(home, "one", "--to", "x", "--", "--two", command=TRIAL)
    assert said.result == {"words": ["one", "--two"], "options": {"--to": "x"}, "state": str(home / "state")}
    assert [(each["what"], each["done"], each["total"]) for each in said.progress[:3]] == [
        ("part 0", 0, 3),
        ("part 1", 1, 3),
        ("part 2", 2, 3),
    ]
    assert 4 <= len(said.progress) < 100, "the same again is not said ten thousand times"


def test_what_is_wrong_with_the_arguments_is_said_before_anything_is_touched(home: Path) -> None:
    for arguments in (["--on"], ["--to"], ["--wait=1"], ["1", "2", "3"]):
        error = act(home, *arguments, command=TRIAL).error
        assert error is not None
        assert error["code"] == "invalid_params", arguments
    assert not (home / "state").exists()


def test_a_full_disk_and_damage_are_errors_of_the_catalogue(home: Path) -> None:
    for option, code in (("--full", "disk_full"), ("--broken", "damaged")):
        error = act(home, option, command=TRIAL).error
        assert error is not None
        assert error["code"] == code


def test_an_act_that_changes_something_is_refused_while_a_daemon_serves(daemon: Daemon) -> None:
    error = act(daemon.home, command=TRIAL).error
    assert error is not None
    assert (error["code"], error["data"]["pid"]) == ("already_running", daemon.pid)
    assert act(daemon.home, "--look", command=TRIAL).result, "one that only looks is not"


def test_a_daemon_that_is_started_meanwhile_says_who_is_at_work(home: Path) -> None:
    with subprocess.Popen(
        [*TRIAL, "--wait"], env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        said = refusal(home, code=EXIT_RUNNING)
        assert f"trial is at work on the store (pid {child.pid}); wait until it has ended" in said
        error = act(home, command=TRIAL).error
        assert error is not None
        assert error["data"] == {"pid": child.pid, "act": "trial"}
        out, _ = child.communicate("")
    assert child.returncode == 0, out
    with Daemon(home):
        pass


def test_an_act_whose_listener_has_gone_ends_without_a_traceback(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(TRIAL, env=environment(home), stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
