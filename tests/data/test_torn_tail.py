"""A store whose WAL ends anywhere, as after a power cut: what opens is the past at one revision, whole batches only.

kill -9 leaves everything that was written in the page cache; a power cut does not. What the disk has then is the synced
part of the WAL and any beginning of the rest.
"""

from __future__ import annotations

import os
import random

import pytest

from data import states
from durability.link import open_when_ready
from harness import Daemon

WAL_HEADER = 32
FRAME_HEADER = 24
PAGE = 4096
SILENCE_S = 0.15


def offsets(store):
    """Inside the header, on a frame's border, inside its header, inside its page; and some at random."""
    size = (store.place / "store.db-wal").stat().st_size
    frame = FRAME_HEADER + PAGE
    last = WAL_HEADER + (size - WAL_HEADER) // frame * frame
    chance = random.Random(1)
    return [0, WAL_HEADER - 1, last - frame, last - frame + 5, last - 1, *(chance.randrange(size) for _ in range(5))]


def state_at(log, revision):
    """The live entries that the log makes up to a revision, by place and key."""
    found = {}
    for row in log:
        for change in row.changes:
            if row.revision <= revision:
                id = (row.space, row.project, change.key)
                found.pop(id, None)
                if change.kind == "put":
                    found[id] = (change.value, change.version, change.create_revision, change.mod_revision)
    return found


KILLED = [store for store in states.STORES if store.variant == "killed"]


@pytest.mark.parametrize(
    ("store", "offset"),
    [pytest.param(store, offset, id=f"{store.schema}-{offset}") for store in KILLED for offset in offsets(store)],
)
def test_a_store_whose_wal_was_cut_opens_as_it_was_at_an_earlier_revision(home, store, offset):
    expected = store.load()
    states.copy_store(store.place, home / "state")
    os.truncate(home / "state" / "store.db-wal", offset)
    with Daemon(home) as daemon, open_when_ready(daemon.socket) as link:
        log = states.logged(daemon.socket, expected.revision, silence_s=SILENCE_S)
        # Whatever was cut off, what is left is the beginning of the same log ...
        kept = 0
        while kept < len(log) and kept < len(expected.log) and log[kept] == expected.log[kept]:
            kept += 1
        revision = log[kept - 1].revision
        assert revision < expected.revision or kept == len(expected.log)
        # ... and what follows is only what the start itself wrote: the end of a session that was alive.
        assert {change.key for row in log[kept:] for change in row.changes} <= {states.ORPHAN, states.ORPHANED_KEY}
        found = {
            (each.space, each.project, each.entry.key): (
                each.entry.value,
                each.entry.version,
                each.entry.create_revision,
                each.entry.mod_revision,
            )
            for each in states.listed(link, revision)
        }
        assert found == state_at(expected.log, revision)
        # The audit was cut at the same place: a session is in the one if and only if it is in the other.
        if expected.audit:
            same = [each for each in states.audited(link) if each in expected.audit]
            assert same == expected.audit[: len(same)]
            registered = {each.session for each in same if each.operation == "session.register"}
            assert registered == {key for space, _, key in found if space == "$sessions"}
