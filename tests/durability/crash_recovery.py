"""Whether a session that is killed under load is recovered whole, and how long that takes.

    python tests/durability/crash_recovery.py --crashes 200 --commands 20 --json

Each victim is a process of its own, forked from this one: it saves a checkpoint of 50 KiB, takes 20 claims, gets 20
letters, and is killed with SIGKILL while it writes, as others do. Another session recovers it, some by `cosession
recover` as a whole command.

Rule: the truth is what was acknowledged before the kill; the daemon is never asked what there was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec

import cosession
from cosession import gitfacts
from cosession.messages.claims import List
from cosession.messages.mail import Inbox, Send
from cosession.messages.store import Range
from durability.crash_judge import Taken, World, judge, judge_document
from durability.detection import SEEN_S, Watching
from durability.loop import ScriptedDaemon
from harness import private_home

CHECKPOINT_BYTES: Final = 50 * 1024
CLAIMS: Final = 20
LETTERS: Final = 20
#: Keys of one writer: what is written again and again is not what grows.
KEYS: Final = 200
#: The first of the others.
WRITER: Final = "writer-0"
#: A command that takes longer is not waited for.
COMMAND_S: Final = 60.0
COMMAND: Final = str(Path(sys.executable).parent / "cosession")
WORDS: Final = [
    "the",
    "parser",
    "reads",
    "one",
    "token",
    "ahead",
    "and",
    "the",
    "tests",
    "of",
    "its",
    "errors",
    "are",
    "yet",
    "to",
    "be",
    "written",
    "down",
    "here",
]
GIT: Final = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")


class Report:
    """What a run came to: sentences about what was not as it had been, and times in ms; `puts_ms` are single
    writes at the same time, which say how busy it all was.
    """

    def __init__(self) -> None:
        self.crashes = 0
        self.recovered = 0
        self.wrong: list[str] = []
        self.round_trips_ms: list[float] = []
        self.daemon_ms: list[float] = []
        self.commands_ms: list[float] = []
        self.puts_ms: list[float] = []
        self.revisions = 0
        self.seconds = 0.0

    def plain(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "crashes": self.crashes,
            "recovered_percent": round(100 * self.recovered / max(1, self.crashes), 2),
            "wrong": self.wrong[:20],
            "round_trip_ms": _spread(self.round_trips_ms),
            "daemon_ms": _spread(self.daemon_ms),
            "command_ms": _spread(self.commands_ms),
            "put_ms": _spread(self.puts_ms),
            "revisions_per_s": round(self.revisions / max(0.001, self.seconds)),
            "seconds": round(self.seconds, 1),
            "load_average": round(os.getloadavg()[0], 1),
        }


def _spread(times_ms: Sequence[float]) -> dict[str, float]:
    if len(times_ms) < 2:
        return {"count": len(times_ms), **({"max": round(times_ms[0], 2)} if times_ms else {})}
    cuts = quantiles(times_ms, n=100, method="inclusive")
    return {
        "count": len(times_ms),
        "p50": round(cuts[49], 2),
        "p99": round(cuts[98], 2),
        "max": round(max(times_ms), 2),
    }


# -- processes ---------------------------------------------------------------------------------------------------------


class Forked:
    """A process of ours on a connection of its own; what `live` yields first is told, then it goes on until killed."""

    def __init__(self, path: Path, live: Callable[[Line], Iterator[Any]]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(reader)
            _live(path, live, writer)
        os.close(writer)
        with os.fdopen(reader) as told:
            said = told.read()
        assert said, f"pid {self.pid} ended before it had anything to tell"
        self.told: Any = json.loads(said)

    def end(self) -> None:
        """SIGKILL, and no zombie left."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class Line:
    """A connection in JSON lines, one call at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._answers = self._socket.makefile("rb")

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a call."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self._socket.sendall(json.dumps(call).encode() + b"\n")
        return json.loads(self._answers.readline())["result"]


def _live(path: Path, live: Callable[[Line], Iterator[Any]], ready: int) -> None:
    """The life of a forked process; it never returns."""
    try:
        steps = live(Line(path))
        os.write(ready, json.dumps(next(steps)).encode())
        os.close(ready)
        for _ in steps:
            pass
    except BaseException:  # noqa: BLE001 - nobody else is told
        traceback.print_exc()
    finally:
        os._exit(1)


def victim(id: str, state: dict[str, Any], git: dict[str, Any]) -> Callable[[Line], Iterator[Any]]:
    """The life of a session that will be killed: it tells what was acknowledged to it."""

    def live(line: Line) -> Iterator[Any]:
        line.ask("session.register", id=id, name=id, agent="test")
        claims = {}
        for number in range(CLAIMS):
            target = f"name:{id}/{number}"
            claim = line.ask("claim.acquire", targets=[target], session=id, purpose="to be left")["claim"]
            claims[target] = (claim["id"], claim["token"])
        saved = line.ask("checkpoint.save", state=state, git=git, session=id)["checkpoint"]
        assert saved["size_bytes"] >= CHECKPOINT_BYTES
        yield {"session": id, "checkpoint": saved["id"], "hash": saved["hash"], "state": state, "claims": claims}
        yield from _writing(line, id)

    return live


def writer(id: str) -> Callable[[Line], Iterator[Any]]:
    """The life of another session: it writes, as fast as it is answered."""

    def live(line: Line) -> Iterator[Any]:
        line.ask("session.register", id=id, name=id, agent="test")
        yield id
        yield from _writing(line, id)

    return live


def _writing(line: Line, id: str) -> Iterator[None]:
    number = 0
    while True:
        line.ask("put", key=f"load/{id}/{number % KEYS}", value={"n": number, "text": "x" * 180}, session=id)
        number += 1
        yield


# -- the run -----------------------------------------------------------------------------------------------------------


class Run:
    """Victims of one daemon, one after another, while others write. `command` starts it; () the real one."""

    def __init__(self, home: Path, *, writers: int, seed: int = 1, command: Sequence[str] = ()) -> None:
        self.report = Report()
        self._random = random.Random(seed)
        self._tree = _tree(home / "tree")
        self._git = gitfacts.collect(str(self._tree))
        self._stack = contextlib.ExitStack()
        self._daemon = ScriptedDaemon(home, command=command)
        self._stack.callback(self._daemon.close)
        try:
            self._daemon.start_timed()
            for number in range(writers):
                self._stack.callback(Forked(self._daemon.socket, writer(f"writer-{number}")).end)
            self._client = self._stack.enter_context(cosession.connect(self._daemon.socket))
            post = self._stack.enter_context(cosession.connect(self._daemon.socket))
            self._sender = self._stack.enter_context(post.session(agent="test", name="sender", heartbeat_s=0))
            self._post = post
            self._watching = Watching(self._client)
            self._stack.callback(self._watching.close)
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """End all of it. Raises AssertionError when the daemon had not lived to see it."""
        self._stack.close()

    def crash(self, *, by_command: bool = False) -> None:
        """One victim, from its first call to the verdict."""
        report = self.report
        began, first = time.monotonic(), self._post.call(Inbox(session=self._sender.id)).revision
        id = f"victim-{report.crashes}"
        process = Forked(self._daemon.socket, victim(id, self._state(), self._git))
        try:
            world = World(**process.told)
            world = world._replace(letters=tuple(self._letter(id) for _ in range(LETTERS)))
            self._put()
            self._others_write(world)
            time.sleep(self._random.random() / 100)  # anywhere in what it writes
        finally:
            process.end()
        report.crashes += 1
        if not self._watching.until(self._watching.is_in([id], "crashed")):
            report.wrong.append(f"{id}: it was killed and went {self._watching.states(id)}")
            return
        with self._client.session(agent="test", name=f"heir-of-{id}", heartbeat_s=0) as heir:
            reply, document = self._by_command(id, heir.id) if by_command else (self._by_library(id, heir.id), None)
            taken = self._taken(reply, id, heir.id)
        wrong = judge(world, taken)
        if document is not None:
            wrong += judge_document(world, taken, Path(document).read_text(encoding="utf-8"))
        if not any(each["session"] == WRITER for each in reply["changes"]):
            wrong.append("changes: what others wrote since the checkpoint is not told")
        report.wrong += [f"{id}: {word}" for word in wrong]
        report.recovered += not wrong
        report.daemon_ms.append(reply["took_ms"])
        report.revisions += reply["revision"] - first
        report.seconds += time.monotonic() - began

    def _by_library(self, dead: str, heir: str) -> dict[str, Any]:
        began = time.monotonic()
        reply = self._client.recover(dead, by=heir)
        self.report.round_trips_ms.append((time.monotonic() - began) * 1000)
        plain: dict[str, Any] = msgspec.to_builtins(reply)
        return plain

    def _by_command(self, dead: str, heir: str) -> tuple[dict[str, Any], str]:
        words = [COMMAND, "recover", dead, "--session", heir, "--json"]
        began = time.monotonic()
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            env=self._daemon.env,
            cwd=self._tree,
            timeout=COMMAND_S,
        )
        self.report.commands_ms.append((time.monotonic() - began) * 1000)
        assert done.returncode == 0, f"cosession recover ended with {done.returncode}: {done.stderr}"
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply, reply["document"]

    def _taken(self, reply: dict[str, Any], dead: str, heir: str) -> Taken:
        """What is there afterwards, asked anew."""
        held = [each.claim for each in self._client.call(List(session=heir, limit=1_000)).claims]
        inbox = self._client.call(Inbox(session=heir, limit=200)).letters
        left = self._client.call(List(session=dead, limit=1_000)).claims
        box = self._client.call(Inbox(box=dead, session=heir, limit=200)).unread
        return Taken(reply, msgspec.to_builtins(held), msgspec.to_builtins(inbox), (len(left), box))

    def _put(self) -> None:
        began = time.monotonic()
        self._client.put("beside", "x" * 200)
        self.report.puts_ms.append((time.monotonic() - began) * 1000)

    def _others_write(self, world: World) -> None:
        """Wait until somebody else has written behind the last letter."""
        after = self._client.call(Inbox(box=world.session, session=self._sender.id)).revision
        deadline = time.monotonic() + SEEN_S
        prefix = f"load/{WRITER}/"
        while all(each.mod_revision <= after for each in self._client.call(Range(prefix=prefix, limit=KEYS)).entries):
            assert time.monotonic() < deadline, f"{WRITER} writes nothing"

    def _letter(self, to: str) -> tuple[str, str]:
        text = self._text(300)
        sent = self._post.call(Send(to=to, text=text, session=self._sender.id))
        assert sent.to == [to]
        return sent.id, text

    def _state(self) -> dict[str, Any]:
        return {
            "task": self._text(100),
            "done": [self._text(500) for _ in range(40)],
            "pending": [self._text(500) for _ in range(40)],
            "failed": [self._text(500) for _ in range(20)],
            "next_step": self._text(100),
            "notes": {"rows": [self._text(100) for _ in range(20)]},
        }

    def _text(self, length: int) -> str:
        words = ""
        while len(words) < length:
            words += self._random.choice(WORDS) + " "
        return words.strip()


def _tree(place: Path) -> Path:
    """A small git repository, so that a command has something to compare."""
    place.mkdir()
    (place / "a.txt").write_text("one", encoding="utf-8")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*GIT, *words], cwd=place, check=True)
    return place


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when something was not recovered as it was."""
    parser = argparse.ArgumentParser(description="Kill sessions under load, recover them, and compare.")
    parser.add_argument("--crashes", type=int, default=200)
    parser.add_argument("--commands", type=int, default=20, help="so many of them are recovered by the command line")
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON")
    given = parser.parse_args(arguments)
    every = max(1, given.crashes // given.commands) if given.commands else given.crashes + 1
    with private_home() as home, contextlib.closing(Run(home, writers=given.writers, seed=given.seed)) as run:
        for number in range(1, given.crashes + 1):
            run.crash(by_command=number % every == 0)
    plain = run.report.plain()
    print(json.dumps(plain) if given.json else "\n".join(f"{name}: {value}" for name, value in plain.items()))
    return 1 if run.report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
