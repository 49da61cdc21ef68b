"""The seeded bugs of mail: each makes one of the things that a box promises untrue.

Rule: what is wrong is done to the parts of one daemon inside the simulation; no file of it is touched.
"""

from __future__ import annotations

from typing import Any

from cosessiond.mail.letters import Change, Held
from cosessiond.mail.postroom import Sending
from cosessiond.store.engine import Delete, Origin
from simulation.daemon import Daemon


def losing(daemon: Daemon) -> None:
    """What is passed on leaves one box and comes into none."""
    post: Any = daemon.core.post
    inheritance = post.inheritance

    def half(*arguments: Any) -> Any:
        compares, writes = inheritance(*arguments)
        return compares, [write for write in writes if isinstance(write, Delete)]

    post.inheritance = half


def forgetful(daemon: Daemon) -> None:
    """Nobody sees to the letters of who was replaced."""
    post: Any = daemon.core.post
    post._left_behind = lambda box: None  # noqa: ARG005


def twice(daemon: Daemon) -> None:
    """A letter that is sent again under its request id is another one."""
    post: Any = daemon.core.post
    submit = post.submit

    def anew(sending: Sending, origin: Origin, done: Any) -> None:
        submit(sending, Origin(origin.host, origin.session, origin.instance, origin.operation), done)

    post.submit = anew


def unmarked(daemon: Daemon) -> None:
    """That a letter was handed over is written down nowhere."""
    post: Any = daemon.core.post
    batch = post._batch

    def without(operation: str, change: Change | None, session: str = "") -> Any:
        return None if operation == "mail.deliver" else batch(operation, change, session)

    hand_over = post.hand_over

    def given(box: str, ids: Any, done: Any) -> None:
        mine = [each for each in post.undelivered(box) if each.id in set(ids)]
        hand_over(box, ids, lambda _: done(mine))

    post._batch = without
    post.hand_over = given


def by_id(daemon: Daemon) -> None:
    """A box is in the order of ids, which go by the wall clock, and by chance within a millisecond."""
    boxes = daemon.core.post.boxes
    letters = boxes.letters

    def sorted_by_id(box: str) -> list[Held]:
        return sorted(letters(box), key=lambda held: held.id)

    boxes.letters = sorted_by_id  # type: ignore[method-assign]


def overfull(daemon: Daemon) -> None:
    """What is on its way to a box is not counted."""
    daemon.core.post.boxes.expect = lambda *_: None  # type: ignore[method-assign,assignment]
