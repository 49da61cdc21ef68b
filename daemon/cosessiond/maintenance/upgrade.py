"""The backup before a migration: made at a start that finds an older schema, before that file is opened for writing.

Rule: no migration without it. A start that was broken off makes it again, and keeps one of those that say the same.
"""

from __future__ import annotations

from cosessiond.maintenance import keeping, swap
from cosessiond.maintenance.task import Task
from cosessiond.store import schema
from cosessiond.store.backup import BackupDirectory
from cosessiond.store.migrations import SCHEMA


def back_up_older(task: Task) -> keeping.Kept | None:
    """Back the store up if its schema is older than ours. Raises as `keeping.keep` does: then it is not migrated."""
    found = schema.recorded(task.state / swap.DATABASE)
    if not 0 < found < SCHEMA:
        return None
    kept = keeping.keep(task, "migration")
    _drop_others_like(task, kept)
    return kept


def _drop_others_like(task: Task, kept: keeping.Kept) -> None:
    """What an earlier try made of the same store goes."""
    same = (kept.manifest.schema, kept.manifest.epoch, kept.manifest.revision, kept.manifest.chain_hash)
    backups = BackupDirectory(task.state)
    try:
        for each in backups.found():
            said = each.manifest
            if said is None or said.reason != "migration" or each.name == kept.name:
                continue
            if (said.schema, said.epoch, said.revision, said.chain_hash) == same:
                backups.drop(each.name)
    finally:
        backups.close()
