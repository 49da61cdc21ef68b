"""The cases that must come out right, with real processes and a real daemon; those of killed, stopped and reused ones
are in tests/durability/test_detection.py, those of clocks, sleep and other hosts below through an invented world.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cosession
from cosession.model import Instance
from harness import Daemon, private_home
from server.daemons import eventually

LONG_S = 30.0
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user needs root")
#: A process that registers, says so, and then does what it is told in Python; standard library only, to start fast.
ACTOR = """
import json, os, socket, sys, time
def register(**params):
    line = socket.socket(socket.AF_UNIX)
    line.connect(sys.argv[1])
    call = {"jsonrpc": "2.0", "id": 1, "method": "session.register", "params": params}
    line.sendall(json.dumps(call).encode() + b"\\n")
    return line, json.loads(line.makefile().readline())
def say(answer):
    error = answer.get("error", {}).get("data", {}).get("code", "")
    print(os.getpid(), error, flush=True)
def wait():
    sys.stdin.readline()
exec(sys.argv[2])
time.sleep(600)
"""


class Program:
    """One such process."""

    def __init__(self, daemon, code):
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACTOR, str(daemon.socket), code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self):
        """The pid and the error code that it says."""
        pid, _, code = self.process.stdout.readline().strip().partition(" ")
        return int(pid), code

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def daemon():
    with private_home() as home, Daemon(home) as running:
        yield running


@pytest.fixture(scope="module")
def client(daemon):
    with cosession.connect(daemon.socket) as one:
        yield one


@pytest.fixture
def program(daemon):
    with contextlib.ExitStack() as stack:

        def start(code):
            found = Program(daemon, code)
            stack.callback(found.close)
            return found

        yield start


def becomes(client, id, state):
    eventually(lambda: client.explain(id).session.state == state, f"{id} is {state}", LONG_S)
    return client.explain(id)


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_one_that_forks_twice_and_leaves_is_over_whatever_it_left_behind(client, program):
    left = (
        "line, answer = register(id='double'); say(answer); wait()\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "say({}); time.sleep(600)"
    )
    found = program(left)
    found.told()
    found.go()
    grandchild, _ = found.told()
    try:
        explained = becomes(client, "double", "crashed")
        assert explained.layers[0].signal in {"gone", "zombie"}
        os.kill(grandchild, 0)
    finally:
        kill(grandchild)


def test_one_that_puts_another_program_in_its_place_lives_on(client, program):
    found = program("line, answer = register(id='exec'); say(answer); wait(); os.execvp('sleep', ['sleep', '600'])")
    pid, _ = found.told()
    found.go()
    shown = Path(f"/proc/{pid}/cmdline")
    eventually(lambda: shown.read_bytes().startswith(b"sleep"), "it is another program", LONG_S)
    assert client.explain("exec").layers[0].signal == "alive"
    assert client.explain("exec").session.state == "active"
    kill(pid)
    becomes(client, "exec", "crashed")


@root
def test_a_process_that_is_another_users_by_now_is_judged_all_the_same(client, program):
    found = program("line, answer = register(id='setuid'); os.setuid(65534); say(answer)")
    pid, _ = found.told()
    assert Path(f"/proc/{pid}").stat().st_uid == 65534
    assert client.explain("setuid").layers[0].signal == "alive"
    kill(pid)
    becomes(client, "setuid", "crashed")


@root
def test_a_process_of_another_user_is_not_to_be_registered(client, program):
    """The parent gives up its rights, so it is another user's, and no life that its child may stand for."""
    code = (
        "parent = os.getpid()\n"
        "reader, writer = os.pipe()\n"
        "if os.fork():\n"
        "    os.setuid(65534); os.write(writer, b'x'); time.sleep(600)\n"
        "os.read(reader, 1)\n"
        "line, answer = register(id='foreign', pid=parent); say(answer)"
    )
    found = program(code)
    child, refusal = found.told()
    kill(child)
    assert refusal == "not_allowed"
    with pytest.raises(cosession.CosessionError) as caught:
        client.explain("foreign")
    assert caught.value.code == "not_found"


def test_a_shim_that_dies_takes_no_session_of_its_client_with_it(client, program):
    """The client registers itself: it lives on. One that named the shim is taken for dead, and proves the opposite."""
    code = (
        "shim = os.getpid()\n"
        "if os.fork(): time.sleep(600)\n"
        "one = register(id='behind-shim'); two = register(id='of-shim', pid=shim); say(two[1]); wait()\n"
        "line, answer = register(id='of-shim'); say(answer)"
    )
    found = program(code)
    pid, _ = found.told()
    try:
        kill(found.process.pid)
        becomes(client, "of-shim", "crashed")
        assert client.explain("behind-shim").session.state == "active"
        found.go()
        found.told()
        explained = client.explain("of-shim")
        assert (explained.session.state, explained.layers[0].signal) == ("active", "alive")
        assert [each.pid for each in explained.session.instances] == [pid]
    finally:
        kill(pid)
    becomes(client, "behind-shim", "crashed")
    becomes(client, "of-shim", "crashed")


def test_a_client_that_changes_its_id_in_one_process_leaves_the_old_one_superseded(client, program):
    code = (
        "one = register(id='before'); two = register(id='after', replaces='before'); say(two[1]); wait()\n"
        "three = register(id='back', replaces='after'); say(three[1])"
    )
    found = program(code)
    pid, _ = found.told()
    assert client.explain("before").session.state == "superseded"
    assert client.explain("before").session.replaced_by == "after"
    assert client.explain("after").session.state == "active"
    found.go()
    found.told()
    kill(pid)
    becomes(client, "back", "crashed")
    assert [client.explain(id).session.state for id in ("before", "after")] == ["superseded"] * 2


def test_one_id_in_two_processes_lives_while_one_of_them_does(client, program):
    code = "line, answer = register(id='twice'); say(answer)"
    first, second = program(code), program(code)
    pids = [first.told()[0], second.told()[0]]
    kill(pids[0])
    eventually(lambda: [i.pid for i in client.explain("twice").session.instances] == pids[1:], "one is left", LONG_S)
    assert client.explain("twice").session.state == "active"
    kill(pids[1])
    becomes(client, "twice", "crashed")


def test_a_daemon_that_starts_again_finds_who_lives_and_who_died_meanwhile(daemon, client, program):
    lives = program("line, answer = register(id='lives'); say(answer)")
    dies = program("line, answer = register(id='dies'); say(answer)")
    pids = [lives.told()[0], dies.told()[0]]
    daemon.kill()
    dies.close()
    daemon.start()
    assert (
        becomes(client, "dies", "crashed").session.evidence[0].startswith("process: gone: found dead at daemon start")
    )
    assert client.explain("lives").session.state == "active"
    daemon.kill()
    daemon.start(wait=False)  # it dies while the daemon looks
    kill(pids[0])
    daemon.wait_ready()
    becomes(client, "lives", "crashed")


REBOOTED = "mount --bind {file} /proc/sys/kernel/random/boot_id && exec {python} -m cosessiond"


@root
def test_after_a_reboot_no_process_of_before_is_taken_for_alive(tmp_path):
    """The daemon sees another boot id, by a mount of its own; the processes run on, and so do their pids."""
    with private_home() as home:
        daemon = Daemon(home).start()
        actor = Program(daemon, "line, answer = register(id='reboot'); say(answer)")
        try:
            actor.told()
            assert daemon.stop() == 0
            file = tmp_path / "boot_id"
            file.write_text("11111111-2222-4333-8444-555555555555\n")
            command = REBOOTED.format(file=file, python=sys.executable)
            probe = subprocess.run(["unshare", "--mount", "sh", "-c", command.partition("&&")[0]], check=False)
            if probe.returncode:
                pytest.skip("the boot id cannot be changed here, not even for one process")
            with subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", command], env=daemon.env, stderr=subprocess.DEVNULL, cwd="/"
            ) as after:
                try:
                    eventually(daemon.accepts, "it serves again", LONG_S)
                    with cosession.connect(daemon.socket) as client:
                        explained = becomes(client, "reboot", "crashed")
                        assert explained.layers[0].signal == "rebooted"
                finally:
                    after.terminate()
        finally:
            actor.close()
            daemon.close()


# Through an invented world.


@pytest.mark.parametrize("step_ms", [7_200_000, -7_200_000])
def test_a_clock_that_steps_by_two_hours_changes_no_verdict(rig, step_ms):
    for id, pid, heartbeat_s in (("beats", 10, 20), ("silent", 11, 0)):
        rig.register(rig.processes.start(pid), id=id, heartbeat_s=heartbeat_s)
    rig.world.clock.step_wall(step_ms)
    rig.world.advance(0.5)
    assert [rig.state(id) for id in ("beats", "silent")] == ["active", "active"]
    assert rig.heartbeat("beats") == "active"
    assert rig.registry.explain("silent").silent_s < 1


def test_a_laptop_that_slept_finds_nobody_dead(rig):
    """The monotonic clock stands still in a sleep, the wall clock does not; timers come late, all at once."""
    for id, pid, heartbeat_s in (("beats", 10, 20), ("silent", 11, 0)):
        rig.register(rig.processes.start(pid), id=id, heartbeat_s=heartbeat_s)
    rig.world.clock.step_wall(8 * 3_600_000)
    rig.world.advance(59.0)
    assert [rig.state(id) for id in ("beats", "silent")] == ["active", "active"]
    rig.world.advance(2.0)
    assert rig.state("beats") == "suspect", "three were missed while it was awake: no more than a suspicion"
    assert rig.heartbeat("beats") == "active"


def test_a_session_on_another_host_is_judged_by_its_heartbeats_alone(rig):
    elsewhere = Instance(boot_id="another", pid=10, start_time=1, judgeable=False)
    rig.register(elsewhere, id="far", heartbeat_s=20, host="elsewhere")
    rig.world.advance(61.0)
    assert rig.state("far") == "suspect"
    rig.world.advance(7_100.0)
    assert rig.state("far") == "suspect"
    rig.world.advance(100.0)
    assert rig.state("far") == "lost"
    assert rig.record("far").reason.startswith("lost: ")
