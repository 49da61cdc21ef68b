"""Sessions whose processes are killed, stopped, left as zombies, or followed by others with their pids; in short.

The long form, with 200 of each, is prove_detection.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import cosession
from durability import crowds, detection
from durability.loop import ScriptedDaemon
from harness import private_home

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and namespaces are of Linux")
COUNT = 3
#: Daemons that judge wrongly: each is seen by the form that it names.
SERVE = "\nfrom cosessiond.__main__ import main\nraise SystemExit(main())"
BUGS = {
    "killed": "from cosessiond.sessions import probes, watching\n"
    "look = probes._look\n"
    "probes._look = lambda *given: ('alive', 'it is fine') if look(*given)[0] == 'zombie' else look(*given)\n"
    "watching.system_notifier = lambda *_: None",
    "stopped": "from cosessiond.sessions import verdict\n"
    "verdict.RULES = tuple(r._replace(ending='crashed', state='crashed') if r.name == 'heartbeat-missed' else r\n"
    "                      for r in verdict.RULES)",
    "reused": "from cosessiond.sessions import probes\n"
    "look = probes._look\n"
    "probes._look = lambda *given: ('alive', 'it is fine') if look(*given)[0] == 'reused' else look(*given)",
}


def sabotaged(bug):
    return [sys.executable, "-c", BUGS[bug] + SERVE]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """A shorter promise; where it is broken by a busy machine, that is no verdict."""
    monkeypatch.setattr(detection, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(detection, "BEAT_S", 0.04)


@pytest.fixture
def shortly(monkeypatch):
    """What is never seen is waited for no longer than this; the bugs below are never mended by waiting."""
    monkeypatch.setattr(detection, "SEEN_S", 0.7)


@pytest.fixture
def serve():
    """Start a daemon, a client of it, and end both."""
    with private_home() as home:
        daemons = []

        def start(command=()):
            daemon = ScriptedDaemon(home, command=command)
            daemons.append(daemon)
            daemon.start_timed()
            return daemon

        yield start
        for daemon in daemons:
            daemon.close()


def test_killed_stopped_and_zombies_are_told_apart_and_many_at_once(serve):
    path = serve().socket
    with cosession.connect(path) as client:
        rounds = [
            detection.killed(path, client, "killed", COUNT),
            detection.killed(path, client, "zombie", COUNT, zombies=True),
            detection.stopped(path, client, "stopped", COUNT),
        ]
    assert [found.wrong for found in rounds] == [[], [], []]
    assert [found.judged for found in rounds] == [COUNT] * 3
    found, _ = crowds.killed_at_once(path, 8)
    races = crowds.raced(path, 10)
    assert (found.judged, found.wrong, races.judged, races.wrong) == (8, [], 10, [])


def inside(count, command=()):
    if os.geteuid() != 0 or not Path("/usr/bin/unshare").exists():
        pytest.skip("forcing a pid needs root and unshare")
    return detection.reused_inside(count, command=command)


def test_a_reused_pid_never_fools_it():
    found = inside(COUNT)
    assert (found.judged, found.wrong) == (COUNT, [])


@pytest.mark.usefixtures("shortly")
def test_the_judge_catches_a_daemon_that_takes_a_zombie_for_alive(serve):
    path = serve(sabotaged("killed")).socket
    with cosession.connect(path) as client:
        assert detection.killed(path, client, "zombie", 1, zombies=True).wrong


@pytest.mark.usefixtures("shortly")
def test_the_judge_catches_a_daemon_that_takes_silence_for_death(serve):
    path = serve(sabotaged("stopped")).socket
    with cosession.connect(path) as client:
        assert detection.stopped(path, client, "stopped", 1).wrong


def test_the_judge_catches_a_daemon_that_goes_by_the_pid_alone():
    assert inside(1, sabotaged("reused")).wrong
