"""Paths that a hook names, made targets of claims beside the loop: links are followed, and a dead mount answers never.

A few threads do the looking. Paths that are not back within the deadline are taken by their names alone, and so are all
while every thread is stuck and enough is waiting for them. Nothing is read but names and links.

Rule: `done` is called on the loop, once, in time, whatever the file system does.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from cosession.errors import InvalidRequest
from cosession.targets import Place, escaped

DEADLINE_S: Final = 0.1
THREADS_MAX: Final = 4
WAITING_MAX: Final = 256
#: A thread with nothing to do ends after this, so that an idle daemon has none.
IDLE_S: Final = 10.0

#: Of each path the target, "" for one outside of the worktree.
Resolved = list[str]
Done = Callable[[Resolved], None]


def resolve(worktree: str, directory: str, paths: Sequence[str]) -> Resolved:
    """The targets of paths relative to `directory`, with links followed."""
    place = Place(directory, worktree)
    return [_target(place, path) for path in paths]


def in_place(worktree: str, directory: str, paths: Sequence[str], done: Done) -> None:
    """`resolve` on the spot, for where nobody waits for anything else."""
    done(resolve(worktree, directory, paths))


def by_name(worktree: str, directory: str, paths: Sequence[str]) -> Resolved:
    """The same by their names alone: a link on the way is not noticed."""
    found: Resolved = []
    root = worktree.rstrip("/") + "/"
    for path in paths:
        whole = os.path.normpath(os.path.join(directory, path))  # noqa: PTH118 - text, no file is meant
        found.append("path:" + escaped(whole[len(root) :]) if whole.startswith(root) else "")
    return found


def _target(place: Place, path: str) -> str:
    try:
        return place.file(path)
    except InvalidRequest:
        return ""


class Resolver:
    """The threads; `resolve` is called on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        self._busy = 0

    def resolve(self, worktree: str, directory: str, paths: Sequence[str], done: Done) -> None:
        """Answer within DEADLINE_S."""
        if self._busy >= WAITING_MAX:
            done(by_name(worktree, directory, paths))
            return
        self._busy += 1
        answered = False

        def answer(found: Resolved) -> None:
            nonlocal answered
            timer.cancel()
            if not answered:
                answered = True
                done(found)

        def came_back(found: Resolved) -> None:
            self._busy -= 1
            answer(found)

        def look() -> None:
            try:
                found = resolve(worktree, directory, paths)
            except Exception:  # noqa: BLE001 - nothing a path can be may end the thread
                found = by_name(worktree, directory, paths)
            try:
                self._loop.call_soon_threadsafe(came_back, found)
            except RuntimeError:
                return  # the loop is closed; nobody waits

        timer = self._loop.call_later(DEADLINE_S, lambda: answer(by_name(worktree, directory, paths)))
        self._jobs.put(look)
        self._employ()

    def _employ(self) -> None:
        if self._threads < min(self._busy, THREADS_MAX):
            self._threads += 1
            threading.Thread(target=self._work, name="resolver", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S)
            except Empty:
                break
            job()
        try:
            self._loop.call_soon_threadsafe(self._ended)
        except RuntimeError:
            return

    def _ended(self) -> None:
        self._threads -= 1
        self._employ()  # a job may have come while it was ending
