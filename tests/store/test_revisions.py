"""What waits to be committed is counted before it waits."""

from __future__ import annotations

import pytest

from cosession.errors import Overloaded
from cosession.messages.limits import COMMIT_QUEUE_BYTES_MAX, LIMITS
from cosessiond.clock import SystemClock
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Batch
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.revisions import Store
from cosessiond.store.tickets import Slice, Ticket
from store.engines import EPOCH, batch, commit, merge, put

LARGE = "x" * 250_000


class Queue:
    """A commit path that commits nothing: what is submitted waits for ever."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def submit(self, ticket: Ticket) -> None:
        self.tickets.append(ticket)

    def run(self, job: Slice) -> None:
        raise AssertionError(job)


@pytest.fixture
def store() -> Store:
    engine = MemoryEngine(EPOCH)
    commit(engine, put("large", {"of": LARGE}))
    made = Store(
        engine,
        clock=SystemClock(),
        limits=LIMITS,
        metrics=Metrics(),
        host="h",
        on_broken=lambda error: pytest.fail(str(error)),
        on_bug=lambda error: pytest.fail(str(error)),
    )
    made.attach(Queue())
    return made


def waiting(store: Store, made: Batch) -> int:
    """How many of one batch the queue takes."""
    for count in range(10_000):
        try:
            store.submit(made, lambda _: None)
        except Overloaded:
            return count
    raise AssertionError("there is no bound")


def test_a_put_counts_with_its_value(store: Store) -> None:
    made = batch(put("k", LARGE))
    assert waiting(store, made) == COMMIT_QUEUE_BYTES_MAX // 250_005


def test_a_merge_counts_with_the_value_that_it_will_make(store: Store) -> None:
    """A patch of a few bytes makes a version of 250 kB; ten thousand of them must not wait."""
    assert waiting(store, batch(merge("large", {"n": 1}))) == COMMIT_QUEUE_BYTES_MAX // 250_013
