"""The comparison can fail: each seeded fault is seen in one plain run of work, and is found by generated batches.

Rule: the driver under test is the one that compares real engines, `comparing.differences`.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, find, settings

from cosessiond.store.engine import Batch, Put
from cosessiond.store.memory import MemoryEngine
from store.comparing import differences
from store.engines import EPOCH, add, append, batch, delete, expect, id_of, merge, nothing_newer, put, raw
from store.generated import SMALL_WINDOW, sequences
from store.seeded import FAULTS, with_fault


def work() -> list[Batch]:
    """A day in the life of a store, short: writes, a conflict, a deletion, a repeat, and versions beyond the window."""
    return [
        batch(put("plan", {"step": 1}), session="s1", request="r1"),
        batch(put("plan", 2), when=(expect("plan", "version", 1),), session="s2"),
        batch(put("plan", 3), when=(expect("plan", "version", 1),), session="s1"),
        batch(put("lock", 1, ttl_ms=5, owner="s1"), when=(nothing_newer("lock", 0),), request="r2"),
        batch(put("lock", 2), when=(nothing_newer("lock", 0),), otherwise=(put("waiting", 1),)),
        batch(merge("plan", {"done": True}), request="r3"),
        batch(merge("plan", {"done": None, "next": 2})),
        batch(delete("lock", "expire"), put("waiting", 2)),
        batch(delete("waiting")),
        batch(put("waiting", 3), put("brief")),
        batch(add("count", 2), append("list", 1)),
        batch(add("count", 3), append("list", 2, [3])),
        batch(put("plan", {"step": 1}), session="s1", request="r1"),
        *[batch(Put(id_of("claim", "$claims"), raw(number))) for number in range(2)],
        batch(delete("brief")),  # the oldest of the window in the end
        *[batch(put("plan", number), put("other", number)) for number in range(5)],
    ]


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_seen(name: str) -> None:
    assert differences(with_fault(name, EPOCH, SMALL_WINDOW), MemoryEngine(EPOCH, SMALL_WINDOW), work()) != []


def test_without_a_fault_nothing_is_seen() -> None:
    assert differences(MemoryEngine(EPOCH, SMALL_WINDOW), MemoryEngine(EPOCH, SMALL_WINDOW), work()) == []


#: A key has to be written, deleted, left alone and written again: `test_ended_only` finds these by chance.
RARE = {"KeepsWhatEnded", "EndsTooEarly", "EndsWhatWasPutAgain"}


@pytest.mark.parametrize("name", sorted(set(FAULTS) - RARE))
def test_generated_batches_find_a_seeded_fault(name: str) -> None:
    """Raises hypothesis.errors.NoSuchExample when they do not."""

    def sees(batches: list[Batch]) -> bool:
        faulty = with_fault(name, EPOCH, SMALL_WINDOW)
        return differences(faulty, MemoryEngine(EPOCH, SMALL_WINDOW), batches) != []

    settled = settings(
        max_examples=300,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    find(sequences, sees, settings=settled)
