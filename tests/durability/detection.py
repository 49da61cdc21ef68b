"""Whether a session's process is judged rightly, with real processes: killed, stopped, a zombie, its pid reused.

Actors are children of whoever runs this, forked, so that hundreds cost little: each connects by itself, which is what
the kernel names it by, registers a session and sleeps. What the daemon made of it is read from a watch of `$sessions`.

`python detection.py reused SOCKETLESS_COUNT` is the part that needs a pid namespace of its own, where the next pid can
be chosen: sessions register, the daemon is killed, they die, other processes get their pids, the daemon starts again.

Rule: every actor is judged, also those that nothing was done to; what is not seen in time is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cosession
from durability.loop import ScriptedDaemon
from harness import private_home

#: Far more than any verdict takes: behind it one counts as not reached.
SEEN_S: Final = 60.0
#: What is promised by who is stopped: it is suspect after three of them. And how often it beats.
HEARTBEAT_S: Final = 0.5
BEAT_S: Final = 0.1
INSIDE: Final = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
LAST_PID: Final = Path("/proc/sys/kernel/ns_last_pid")
HERE: Final = Path(__file__)


class Found:
    """What a round came to: sentences about wrong verdicts, and how long the right ones took, in ms."""

    def __init__(self) -> None:
        self.judged = 0
        self.wrong: list[str] = []
        self.took_ms: list[float] = []


class Actor:
    """A process of ours that is a session; with a `claim`, and so many sessions `more`, if wanted."""

    def __init__(self, path: Path, id: str, **fields: Any) -> None:
        self.id = id
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _act(path, {"id": id, **fields}, writer)
        os.close(writer)
        with os.fdopen(reader) as told:
            assert told.read(1) == "k", f"{id} could not register"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def collect(self) -> None:
        """Leave no zombie."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def end(self) -> None:
        """Kill it, whatever became of it."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.collect()


def _act(path: Path, fields: dict[str, Any], ready: int) -> None:
    """The life of an actor, in the forked child; it never returns."""
    try:
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(path))
        claim, more = fields.pop("claim", ""), fields.pop("more", 0)
        answers = line.makefile("rb")
        for method, params in [
            ("session.register", fields),
            *(("session.register", {**fields, "id": f"{fields['id']}.{number}"}) for number in range(more)),
            *([("claim.acquire", {"targets": [claim], "session": fields["id"]})] if claim else []),
        ]:
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            line.sendall(json.dumps(call).encode() + b"\n")
            assert b'"result"' in answers.readline()
        os.write(ready, b"k")
        os.close(ready)
        beat = {"jsonrpc": "2.0", "id": 2, "method": "session.heartbeat", "params": {"session": fields["id"]}}
        while True:
            if not fields.get("heartbeat_s"):
                signal.pause()
            time.sleep(BEAT_S)
            line.sendall(json.dumps(beat).encode() + b"\n")
            answers.readline()
    finally:
        os._exit(1)


class Watching:
    """A watch of `$sessions`: the records that came, by session."""

    def __init__(self, client: cosession.Client) -> None:
        self._watch = client.watch(space="$sessions", project="global", timeout_s=SEEN_S)
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.at_s: dict[tuple[str, str], float] = {}

    def until(self, holds: Callable[[], bool]) -> bool:
        """Take changes until it holds; False when that takes too long."""
        deadline = time.monotonic() + SEEN_S
        while not holds():
            if time.monotonic() > deadline:
                return False
            try:
                change = next(self._watch)
            except cosession.TimedOut:
                return False
            if change.value is not None:
                self.records.setdefault(change.key, []).append(change.value)
                self.at_s.setdefault((change.key, change.value["state"]), time.monotonic())
        return True

    def is_in(self, ids: Sequence[str], state: str) -> Callable[[], bool]:
        """Whether all of them have been in a state."""
        return lambda: all((id, state) in self.at_s for id in ids)

    def states(self, id: str) -> list[str]:
        """The states of a session in their order."""
        return [record["state"] for record in self.records.get(id, [])]

    def close(self) -> None:
        """End it."""
        self._watch.close()


@contextlib.contextmanager
def acting(path: Path, name: str, count: int, **fields: Any) -> Iterator[tuple[list[Actor], Actor]]:
    """So many actors, and one beside them that nothing is done to."""
    actors = [Actor(path, f"{name}-{number}", **fields) for number in range(count)]
    bystander = Actor(path, f"{name}-bystander")
    try:
        yield actors, bystander
    finally:
        for actor in (*actors, bystander):
            actor.end()


def killed(path: Path, client: cosession.Client, name: str, count: int, *, zombies: bool = False) -> Found:
    """SIGKILL, one after another; as `zombies` they are not collected by their parent until the verdict is there."""
    found = Found()
    with acting(path, name, count) as (actors, bystander), contextlib.closing(Watching(client)) as watching:
        for actor in actors:
            began = time.monotonic()
            actor.signal(signal.SIGKILL)
            if not zombies:
                actor.collect()
            seen = watching.until(watching.is_in([actor.id], "crashed"))
            found.took_ms.append((watching.at_s.get((actor.id, "crashed"), time.monotonic()) - began) * 1000)
            found.judged += 1
            if not seen or watching.states(actor.id)[-1] != "crashed":
                found.wrong.append(f"{actor.id} was killed and went {watching.states(actor.id)}")
            if zombies and not _is_zombie(actor.pid):
                found.wrong.append(f"{actor.id} was no zombie when it was judged")
        _judge_bystander(client, bystander, found)
    return found


def stopped(path: Path, client: cosession.Client, name: str, count: int) -> Found:
    """SIGSTOP of those that promised heartbeats: suspect and never dead; then SIGKILL, which is."""
    found = Found()
    fields = {"heartbeat_s": HEARTBEAT_S}
    with acting(path, name, count, **fields) as (actors, bystander), contextlib.closing(Watching(client)) as watching:
        ids = [actor.id for actor in actors]
        began = time.monotonic()
        for actor in actors:
            actor.signal(signal.SIGSTOP)
        watching.until(watching.is_in(ids, "suspect"))
        time.sleep(HEARTBEAT_S)  # more silence, in which nothing may be concluded
        standing = {each.id: each.state for each in client.sessions(all=True, limit=1_000)}
        for actor in actors:
            found.judged += 1
            suspect_s = watching.at_s.get((actor.id, "suspect"), time.monotonic())
            if suspect_s > began:  # else it was slow for a moment before
                found.took_ms.append((suspect_s - began) * 1000)
            if standing.get(actor.id) != "suspect":
                found.wrong.append(f"{actor.id} was stopped and is {standing.get(actor.id)}")
            actor.end()
        if not watching.until(watching.is_in(ids, "crashed")):
            found.wrong.append("not all that were stopped and then killed are crashed")
        _judge_bystander(client, bystander, found)
    return found


def reused(home: Path, count: int, *, command: Sequence[str] = ()) -> Found:
    """Pids given to other processes while the daemon was down. Runs where LAST_PID may be written."""
    found = Found()
    daemon = ScriptedDaemon(home, command=command)
    others: list[subprocess.Popen[bytes]] = []
    daemon.start_timed()
    try:
        with acting(daemon.socket, "reused", count) as (actors, bystander):
            daemon.kill()
            for actor in actors:
                actor.end()
            for actor in actors:
                LAST_PID.write_text(str(actor.pid - 1))
                others.append(subprocess.Popen(["sleep", "600"]))
                assert others[-1].pid == actor.pid, "the pid could not be forced"
            daemon.start_timed()
            with cosession.connect(daemon.socket) as client:
                for actor in actors:
                    explained = client.explain(actor.id)
                    found.judged += 1
                    signals = [layer.signal for layer in explained.layers if layer.layer == "process"]
                    if explained.session.state != "crashed" or signals != ["reused"]:
                        found.wrong.append(f"the pid of {actor.id} was reused: {explained.session.state}, {signals}")
                _judge_bystander(client, bystander, found)
    finally:
        for other in others:
            other.kill()
            other.wait()
        daemon.close()
    return found


def reused_inside(count: int, *, command: Sequence[str] = ()) -> Found:
    """`reused` in a pid namespace of its own. Raises OSError where none can be had."""
    words = [*INSIDE, sys.executable, "-P", str(HERE), "reused", str(count), *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SEEN_S + count)
    if done.returncode:
        raise OSError(f"no pid namespace in which a pid can be forced: {done.stderr[-500:]}")
    found = Found()
    found.judged, found.wrong = json.loads(done.stdout.splitlines()[-1])
    return found


def _judge_bystander(client: cosession.Client, bystander: Actor, found: Found) -> None:
    state = client.explain(bystander.id).session.state
    if state != "active":
        found.wrong.append(f"nothing was done to {bystander.id}, and it is {state}")


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"


if __name__ == "__main__":
    with private_home() as place:
        told = reused(place, int(sys.argv[2]), command=sys.argv[3:])
    print(json.dumps([told.judged, told.wrong]))
