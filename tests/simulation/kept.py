"""What `history` shows, told from the committed batches and from when the log window moved: independent of the engine.

Rule: pure functions over a recorded history.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

from simulation.model import Model, Standing

if TYPE_CHECKING:
    from cosessiond.store.engine import EntryId
    from simulation.history import Call, History


def windows(call: Call, history: History) -> Iterator[int]:
    """Where the log window may have begun between call and answer."""
    yield call.opened
    yield from (each.compact for each in history.trims if call.opened < each.compact <= call.compact)


def shown(history: History, model: Model, id: EntryId, revision: int, compact: int) -> list[Standing]:
    """The versions of an entry as of a revision and a window, oldest first. Those up to a deletion are gone when the
    window had passed it before the key was put again.
    """
    versions = model.versions.get(id, [])
    begin = 0
    for index, (each, follows) in enumerate(zip_longest(versions, versions[1:])):
        if each.kind == "put" or each.mod_revision >= compact:
            continue
        passed = next(trim.revision for trim in history.trims if trim.compact > each.mod_revision)
        if follows is None or follows.mod_revision > passed:
            begin = index + 1
    found = [each for each in versions[begin:] if each.mod_revision <= revision]
    return found[-(1 if id[0].startswith("$") else history.knobs.window_versions) :]
