"""The acts `restore` and `inspect`: the store as a backup has it, in a new epoch. What was there is kept, twice.

The backup is verified; the store that stands becomes a backup (reason `restore`) where it can be read; the one to
restore is copied beside the store and brought up to this version's schema and into its epoch; then the two change
places (`maintenance.swap`), and the old one goes to quarantine.

Rule: whatever is refused is refused before anything of the store that stands is touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from cosession.errors import ConfigError, CosessionError
from cosessiond.audit.records import Admin, record
from cosessiond.maintenance import keeping, swap
from cosessiond.maintenance.choosing import Chosen, choose, known_revisions, refuse
from cosessiond.maintenance.files import copy, demand_room, size_of
from cosessiond.maintenance.task import Act, Task
from cosessiond.store.backup import Manifest
from cosessiond.store.contents import Contents, Difference, difference
from cosessiond.store.engine import StoreBroken, Window
from cosessiond.store.proving import differs, prove
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.verifying import Facts

#: Old stores kept after restores; the oldest goes when there are more.
QUARANTINED_MAX: Final = 3


class Standing(NamedTuple):
    """The store that stands: a copy of it and what that holds, or why it cannot be read ("" when there is none)."""

    copy: Path | None
    facts: Manifest | Facts | None
    trouble: str
    backup: str


def run(task: Task) -> dict[str, Any]:
    """Restore; with --dry-run only say what that would do."""
    swap.settle(task.state, task.state_fd)
    chosen = choose(task.state, task.words, latest=task.flag("--latest"))
    return restore(task, chosen, is_trial=task.flag("--dry-run"))


def inspect(task: Task) -> dict[str, Any]:
    """What a backup holds, read from end to end; also beside a daemon that serves."""
    chosen = choose(task.state, task.words, latest=task.flag("--latest"))
    return {"backup": told(chosen, verified(task, chosen))}


def restore(
    task: Task, chosen: Chosen, *, reason: str = "restore", because: str = "", is_trial: bool = False
) -> dict[str, Any]:
    """Put the store of a backup in place, `because` of something.

    Raises CosessionError, StoreBroken, OSError: then the old store stands.
    """
    needed = 2 * keeping.bytes_of(task.state) + 2 * size_of(chosen.path)
    demand_room(task.state_fd, needed, f"restore {chosen.name or chosen.path}")
    then = verified(task, chosen)
    now = _standing(task, is_trial=is_trial)
    try:
        plan = {
            "backup": told(chosen, then),
            "now": shown(now.facts) if now.facts else None,
            "trouble": because or now.trouble,
            "lost": _lost(now, then, chosen.path),
        }
    finally:
        swap.discard(task.state)
    if is_trial:
        return {"restored": False, **plan}
    facts = _prepare(task, chosen, then)
    task.progress("putting it in place")
    journal = swap.promise(task.state, reason, facts, time_ms=task.clock.wall_ms(), why=plan)
    quarantine = swap.swap(task.state, task.state_fd, journal)
    swap.prune(task.state, reason, QUARANTINED_MAX)
    return {
        "restored": True,
        **plan,
        "epoch": facts.epoch,
        "revision": facts.revision,
        "safety_backup": now.backup,
        "quarantine": str(quarantine) if journal.replaces else "",
    }


def verified(task: Task, chosen: Chosen) -> Facts:
    """What a backup holds, read from end to end. Raises CosessionError damaged, which names others."""
    what = f"verifying {chosen.name or chosen.path.name}"
    try:
        facts = prove(chosen.path, lambda done, total: task.progress(what, done, total))
    except StoreBroken as error:
        raise refuse(chosen, str(error), task.state) from error
    trouble = differs(chosen.manifest, facts) if chosen.manifest else ""
    if trouble:
        raise refuse(chosen, f"{trouble} in its manifest", task.state)
    return facts


def told(chosen: Chosen, facts: Facts) -> dict[str, Any]:
    """A backup and what it holds."""
    return {"name": chosen.name, "path": str(chosen.path), **shown(facts)}


def shown(facts: Manifest | Facts) -> dict[str, Any]:
    """What of it is told to people."""
    return {
        "epoch": facts.epoch,
        "revision": facts.revision,
        "entries": facts.entries,
        "schema": facts.schema,
        "size_bytes": facts.size_bytes,
    }


def _standing(task: Task, *, is_trial: bool) -> Standing:
    """The store that stands, as a backup of it; for a trial as a copy that is thrown away."""
    if not keeping.bytes_of(task.state):
        return Standing(None, None, "", "")
    try:
        if is_trial:
            copied = keeping.folded(task)
            return Standing(copied, prove(copied), "", "")
        kept = keeping.keep(task, "restore")
    except (StoreBroken, ConfigError) as error:
        return Standing(None, None, str(error), "")
    return Standing(kept.path, kept.manifest, "", kept.name)


def _lost(now: Standing, then: Facts, path: Path) -> dict[str, Any] | None:
    """What the store that stands has and the backup has not; None when nobody can tell."""
    if now.copy is None or now.facts is None:
        return None
    with Contents(now.copy) as standing, Contents(path) as kept:
        found: Difference = difference(standing, kept)
    same = now.facts.epoch == then.epoch
    return {
        "revisions": max(0, now.facts.revision - then.revision) if same else None,
        "entries_gone": found.added,
        "entries_back": found.missing,
        "entries_other": found.changed,
    }


def _prepare(task: Task, chosen: Chosen, then: Facts) -> Facts:
    """The copy to put in place, staged: of our schema, in its new epoch, proved. Raises StoreBroken, OSError."""
    known = known_revisions(task.state)
    place = swap.stage(task.state)
    staged = place / swap.DATABASE
    copy(chosen.path, staged, lambda done, total: task.progress("copying the backup", done, total))
    if swap.digest(staged) != (then.size_bytes, then.sha256):
        raise CosessionError(
            f"cannot restore {chosen.name or chosen.path}: it was changed while it was read; try again", code="damaged"
        )
    engine = SqliteEngine.open(place, window=Window(), new_epoch=task.new_epoch, was_used=True)
    here = engine.begin_epoch(task.new_epoch(), known=known, time_ms=task.clock.wall_ms())
    subject = chosen.name or chosen.path.name
    facts = Admin(revision=here.revision)
    engine.apply((), [(None, record(task.clock.wall_ms(), facts, operation="restore", outcome="ok", subject=subject))])
    engine.close()
    return prove(staged, lambda done, total: task.progress("verifying what is restored", done, total))


RESTORE: Final = Act(run, words=(0, 1), options={"--latest": False, "--dry-run": False}, changes=True)
INSPECT: Final = Act(inspect, words=(0, 1), options={"--latest": False}, changes=False)
