"""Turns between real processes: who hangs or dies holds nobody up for long, and each gets its share.

Nothing is judged by how long it took; where a bound in seconds stands it tells an answer from none.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

import cosession
from cosession import sync
from cosession.messages.turns import Turn
from rawclient import Pack
from server.daemons import eventually

LONG_S = 60.0
HOLDER = """
import sys
from cosession import sync
from cosession.messages.turns import Turn
client = sync.connect(sys.argv[1], project="global")
print("ready", flush=True)
sys.stdin.readline()
print(client.call(Turn(key="k")).granted, flush=True)
sys.stdin.readline()
"""
SHARE = """
import sys
from cosession import sync
made = []
with sync.connect(sys.argv[1], project="global") as client:
    print("ready", flush=True)
    sys.stdin.readline()
    attempts = 0
    def one_more(value):
        global attempts
        attempts += 1
        return (value or 0) + 1
    while not made or made[-1] < int(sys.argv[2]):
        made.append(client.update("k", one_more).value)
    print(attempts, *made)
"""


@pytest.fixture
def client(daemon):
    with sync.connect(daemon.socket, project="global") as found:
        yield found


@pytest.fixture
def processes():
    """Start a script with the socket; all are killed in the end."""
    started = []

    def start(script, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
    for process in started:
        process.communicate()


@pytest.fixture
def new_holder(daemon, processes):
    """Make a process that has the turn of `k`, and nobody waits yet."""

    def make():
        process = processes(HOLDER, daemon.socket)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"
        return process

    return make


@pytest.fixture
def holder(new_holder):
    return new_holder()


def contended(client):
    client._common.contention.met(("context", "global", "k"))
    return client


def test_a_holder_that_never_writes_has_its_second_and_no_more(client, holder):
    turn = client.call(Turn(key="k", wait_s=LONG_S), timeout_s=LONG_S)
    assert (turn.granted, turn.waited, turn.behind) == (True, True, 0)
    assert client.status().counters["turns.expired"] == 1
    assert holder.poll() is None


def test_a_holder_that_is_stopped_holds_nobody_up_for_long(client, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    assert contended(client).update("k", lambda value: [value], timeout_s=LONG_S).value == [None]
    assert client.status().counters["turns.expired"] == 1


def test_a_holder_that_is_killed_makes_room_at_once(client, new_holder):
    """Before its second is over, that is: on a machine that stands still for so long, another try is needed."""

    def wait(answered):
        with sync.connect(client.socket, project="global") as waiting:
            answered.append(waiting.call(Turn(key="k", wait_s=LONG_S), timeout_s=LONG_S))

    for _ in range(10):
        answered = []
        thread = threading.Thread(target=wait, args=(answered,), daemon=True)
        before = client.status().counters.get("turns.expired", 0)
        holder = new_holder()
        thread.start()
        os.kill(holder.pid, signal.SIGKILL)
        thread.join(LONG_S)
        assert answered[0].granted
        if client.status().counters.get("turns.expired", 0) == before:
            return
    pytest.fail("each time it took the whole second")


def test_others_write_while_somebody_has_the_turn(client, holder):
    assert client.update("k", lambda _: 1).value == 1
    assert client.put("k", 2).value == 2
    assert client.status().counters["turns.at_once"] == 1, "that of the holder"
    assert holder.poll() is None


def test_a_function_that_fails_lets_the_next_go_on(client, daemon):
    client.put("k", 0)
    with sync.connect(daemon.socket, project="global") as other:
        with pytest.raises(ZeroDivisionError):
            contended(client).update("k", lambda value: 1 / value)
        assert contended(other).update("k", lambda value: value + 1).value == 1
        assert "turns.expired" not in client.status().counters


def test_a_daemon_that_stops_lets_waiters_go(daemon, client):
    """Whoever is behind twenty that never write has not been served when the daemon stops."""
    crowd = [Pack(daemon.socket) for _ in range(20)]
    for peer in crowd:
        peer.send(peer.encode(1, "turn", {"key": "k", "wait_s": LONG_S}))
    eventually(lambda: client.status().turns > 10, "they are in the queue")
    ended = []

    def wait():
        try:
            client.call(Turn(key="k", wait_s=LONG_S), timeout_s=LONG_S)
        except cosession.CosessionError as error:
            ended.append(error.code)

    with sync.connect(daemon.socket, project="global") as other:
        before = other.status().counters
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        eventually(lambda: other.status().counters != before, "it has asked, or one of the others has had its second")
    daemon.stop()
    thread.join(LONG_S)
    for peer in crowd:
        peer.close()
    assert ended == ["shutting_down"]


def test_sixteen_processes_lose_nothing_and_each_has_its_share(daemon, client, processes):
    """Counted in updates, not in time, from when all were under way."""
    people, total = 16, 640
    crew = [processes(SHARE, daemon.socket, total) for _ in range(people)]
    for process in crew:
        assert process.stdout.readline() == "ready\n"
    for process in crew:
        process.stdin.write("go\n")
        process.stdin.flush()
    heard = [list(map(int, process.communicate(timeout=2 * LONG_S)[0].split())) for process in crew]
    attempts = sum(each[0] for each in heard)
    made = [each[1:] for each in heard]
    everything = sorted(value for values in made for value in values)
    assert everything == list(range(1, len(everything) + 1)), "each value once"
    assert client.get("k").value == len(everything) >= total
    begun = max(values[0] for values in made)
    shares = [sum(begun < value <= total for value in values) for values in made]
    assert max(shares) < 1.5 * min(shares), shares
    assert attempts < 1.2 * len(everything), "most of these are from the beginning, before anyone took turns"
    assert client.status().conflicts_unresolved == 0
