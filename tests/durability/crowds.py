"""Many at once: sessions killed together, a daemon that starts with many, grants that race from two connections.

Rule: what is measured was judged first: nobody is missing, nobody is taken for another.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Final

import cosession
from cosession.messages.claims import Acquire, List, Release
from durability.detection import SEEN_S, Actor, Found, Watching
from durability.loop import ScriptedDaemon

WATCHERS: Final = 3
#: Targets of which any two overlap, each in another way.
OVERLAPPING: Final = ("path:src/**", "path:src/*.py", "path:src/a.*", "path:**/a.py", "path:src/[a-c].py")


def killed_at_once(path: Path, count: int) -> tuple[Found, float]:
    """Sessions with a claim each, killed together: what was wrong, and the seconds until every watcher has seen every
    crash and every claim is an orphan.
    """
    found = Found()
    actors = [Actor(path, f"crowd-{number}", claim=f"name:crowd/{number}") for number in range(count)]
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(cosession.connect(path))
        watchings = [Watching(stack.enter_context(cosession.connect(path))) for _ in range(WATCHERS)]
        ids = [actor.id for actor in actors]
        for watching in watchings:
            stack.callback(watching.close)
            watching.until(watching.is_in(ids, "active"))
        began = time.monotonic()
        for actor in actors:
            actor.end()
        threads = [
            threading.Thread(target=watching.until, args=(watching.is_in(ids, "crashed"),)) for watching in watchings
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while True:
            states = {each.claim.session: each.claim.state for each in client.call(List(limit=1_000)).claims}
            if all(states.get(id) == "orphaned" for id in ids) or time.monotonic() - began > SEEN_S:
                break
        seconds = time.monotonic() - began
        found.judged = count
        for id in ids:
            if states.get(id) != "orphaned":
                found.wrong.append(f"the claim of {id} is {states.get(id)}")
            for watching in watchings:
                if watching.states(id).count("crashed") != 1:
                    found.wrong.append(f"{id} was killed, a watcher saw {watching.states(id)}")
    return found, seconds


def raced(path: Path, rounds: int) -> Found:
    """Two connections claim overlapping globs at the same moment, again and again: one has it, with a larger token."""
    found = Found()
    last = 0
    with cosession.connect(path) as one, cosession.connect(path) as other:
        clients = (one, other)
        sessions = [client.session(heartbeat_s=0).id for client in clients]
        for number in range(rounds):
            start = threading.Barrier(2)
            granted: list[tuple[int, str, int]] = []

            def ask(which: int, target: str, start: threading.Barrier, granted: list[tuple[int, str, int]]) -> None:
                request = Acquire(targets=[target], worktree="/w", session=sessions[which])
                start.wait()
                with contextlib.suppress(cosession.Claimed):
                    claim = clients[which].call(request).claim
                    granted.append((which, claim.id, claim.token))

            targets = (OVERLAPPING[number % 5], OVERLAPPING[number // 5 % 5])
            threads = [threading.Thread(target=ask, args=(n, targets[n], start, granted)) for n in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            found.judged += 1
            if len(granted) != 1:
                found.wrong.append(f"round {number}: {len(granted)} of two were granted {targets}")
            for which, id, token in granted:
                if token <= last:
                    found.wrong.append(f"round {number}: token {token} after {last}")
                last = max(last, token)
                clients[which].call(Release(ids=[id], session=sessions[which]))
    return found


def cascades(path: Path, name: str, count: int) -> list[float]:
    """What the whole cascade costs for a living session, as `explain` tells it, so many times, in ms."""
    actor = Actor(path, name, heartbeat_s=20)
    try:
        with cosession.connect(path) as client:
            return [client.explain(actor.id).cost_ms for _ in range(count)]
    finally:
        actor.end()


def starts(home: Path, sessions: int, processes: int) -> tuple[float, float]:
    """Seconds from the fork of a daemon to its first answer: without sessions, and with so many that live."""
    daemon = ScriptedDaemon(home)
    actors: list[Actor] = []
    try:
        daemon.start_timed()
        daemon.kill()
        without, _ = daemon.start_timed()
        per = sessions // processes
        actors.extend(Actor(daemon.socket, f"start-{number}", more=per - 1) for number in range(processes))
        daemon.kill()
        with_all, _ = daemon.start_timed()
        with cosession.connect(daemon.socket) as client:
            living = len(client.sessions(limit=1_000))
        assert living == min(1_000, per * processes), f"{living} sessions live after the start"
    finally:
        for actor in actors:
            actor.end()
        daemon.close()
    return without, with_all
