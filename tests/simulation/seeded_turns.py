"""The seeded bugs of turns: each makes one of the things that a turn promises untrue.

Rule: what is wrong is done to the parts of one daemon inside the simulation; no file of it is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cosession.errors import Overloaded
from cosessiond.store.engine import Batch, Outcome
from simulation.daemon import Daemon


def endless(daemon: Daemon) -> None:
    """Only a write ends a turn: neither its time nor that of those who wait is kept."""
    turns: Any = daemon.core.turns
    turns._held_too_long = turns._waited_long_enough = lambda turn: None  # noqa: ARG005


def of_nobody(daemon: Daemon) -> None:
    """The turn of a connection that is gone stays its own."""
    daemon.core.turns.left = lambda by: None  # type: ignore[method-assign]  # noqa: ARG005
    daemon.core.turns._held_too_long = lambda turn: None  # type: ignore[method-assign]  # noqa: ARG005


def beyond_the_write(daemon: Daemon) -> None:
    """The write of who has a turn does not end it; its time does."""
    daemon.core.turns.wrote = lambda by, keys: None  # type: ignore[method-assign]  # noqa: ARG005


def beyond_the_second(daemon: Daemon) -> None:
    """Who hangs keeps the turn."""
    daemon.core.turns._held_too_long = lambda turn: None  # type: ignore[method-assign]  # noqa: ARG005


def beyond_the_connection(daemon: Daemon) -> None:
    """The turn of a connection that is gone ends with its time."""
    daemon.core.turns.left = lambda by: None  # type: ignore[method-assign]  # noqa: ARG005


def out_of_order(daemon: Daemon) -> None:
    """Who asked last is next."""
    queue: Any = daemon.core.turns._queue
    ask = queue.ask

    def last_first(key: Any, by: Any, by_max: int) -> Any:
        turn = ask(key, by, by_max)
        if turn.waited:
            queue._queues[key].waiting.move_to_end(turn, last=False)
        return turn

    queue.ask = last_first


def _minding(daemon: Daemon, meet: Callable[[Callable[[], None]], None]) -> None:
    """`meet` is called with the submission of each batch to a key whose turn somebody has."""
    store: Any = daemon.store
    submit = store.submit

    def mind(batch: Batch, done: Callable[[Outcome], None]) -> None:
        if any(daemon.core.turns.is_held(write.id) for write in batch.then):
            meet(lambda: submit(batch, done))
        else:
            submit(batch, done)

    store.submit = mind


def in_the_way(daemon: Daemon) -> None:
    """Writes to a key whose turn somebody has are refused."""

    def refuse(_: Callable[[], None]) -> None:
        raise Overloaded("cannot write: somebody has the turn of that key; try again in a moment")

    _minding(daemon, refuse)


def in_line(daemon: Daemon) -> None:
    """Writes to a key whose turn somebody has wait a little."""
    _minding(daemon, lambda submit: daemon.soon("a polite write", submit))
