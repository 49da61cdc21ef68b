"""The store as a daemon opens it: held against its mark, and what is done when it cannot be trusted.

Rule: damage is never served and never written over. `[store] on_damage` says whether the start refuses, or puts what is
damaged aside and goes on from the newest copy that is whole, in a new epoch, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import MsgspecError, json

from cosession.config import Config
from cosession.errors import ConfigError, CosessionError
from cosession.messages.limits import AUDIT_KEPT_MIN, REQUEST_IDS_KEPT_MIN, Limits
from cosessiond.maintenance import keeping, swap
from cosessiond.maintenance.choosing import choose
from cosessiond.maintenance.restore import restore
from cosessiond.maintenance.task import Task
from cosessiond.process import secret
from cosessiond.store import marks
from cosessiond.store.engine import StoreBroken, StoreDamaged, Window
from cosessiond.store.marks import Mark, Marker
from cosessiond.store.sqlite import SqliteEngine

#: What a store was put aside for, as its directory in quarantine says.
REASON: Final = "damage"


def window_of(limits: Limits) -> Window:
    """What an engine keeps under these limits."""
    return Window(
        log_revisions=limits.log_window_revisions,
        log_bytes=limits.log_window_bytes,
        request_ids=limits.request_ids_max,
        request_id_ms=limits.request_id_s * 1000,
        request_ids_min=REQUEST_IDS_KEPT_MIN,
        audit_bytes=limits.audit_bytes_max,
        audit_ms=limits.audit_s * 1000,
        audit_min=AUDIT_KEPT_MIN,
    )


@contextmanager
def opened(
    task: Task, marker: Marker, *, config: Config, log: Any, is_idle: bool = False
) -> Iterator[tuple[SqliteEngine, list[str], list[str]]]:
    """The engine, verified and marked; what was wrong with it just now, and what was when its epoch began, in words. It
    is marked again when it is closed in order. `is_idle`: its disk is not to be written, at the end neither.

    Raises StoreDamaged, StoreBroken, ConfigError; then nothing was changed.
    """
    state = task.state
    # What SQLite keeps aside while it writes the database anew holds values: not in a place shared with others.
    os.environ["SQLITE_TMPDIR"] = str(state)
    was_used = secret.was_made(state)
    found = marks.read(state)
    mark = found if isinstance(found, Mark) else None
    if isinstance(found, Mark):
        marker.found(found)
    elif was_used:
        log.warning("no mark: the end of the store is taken as it is", reason=found)
    window = window_of(config.limits)
    wrong: list[str] = []
    try:
        engine = SqliteEngine.open(state, window=window, new_epoch=task.new_epoch, was_used=was_used, mark=mark)
    except StoreDamaged as error:
        if config.store.on_damage == "refuse":
            raise
        wrong.append(_restore(task, error))
        marker.forget()
        engine = SqliteEngine.open(state, window=window, new_epoch=task.new_epoch, was_used=True)
    else:
        wrong += _go_on_without(engine, mark, task)
    if not is_idle:
        _mark(marker, engine, log)
    yield engine, wrong, _told_before(state, engine.position().epoch)
    if is_idle:
        return
    engine.close()  # not in a finally: after a failure the file is left exactly as it is
    _mark(marker, engine, log)


def _mark(marker: Marker, engine: SqliteEngine, log: Any) -> None:
    """Without room for a mark there is the last one, which only proves less."""
    try:
        marker.write(engine.position())
    except OSError as error:
        log.warning("cannot mark the store; the last mark stays", reason=str(error))


def _restore(task: Task, error: StoreDamaged) -> str:
    """Put what is damaged aside and the newest copy that is whole in its place; says what was done.

    Raises StoreDamaged when there is none: then nothing was changed.
    """
    try:
        with suppress(StoreBroken, ConfigError):  # where only the end is missing, the rest is the newest copy of all
            if keeping.bytes_of(task.state):
                keeping.keep(task, "rescue")
        chosen = choose(task.state, [], latest=True)
        done = restore(task, chosen, reason=REASON, because=str(error))
    except CosessionError as failed:
        raise StoreDamaged(f"{error}; and no backup was restored: {failed.message}", lost=error.lost) from error
    return (
        f"{error}; restored was the backup {chosen.name} of revision {done['backup']['revision']}, epoch "
        f"{done['epoch']} begins; what was there is in {done['quarantine']}"
    )


def _go_on_without(engine: SqliteEngine, mark: Mark | None, task: Task) -> list[str]:
    """Where a client has proved that revisions are lost, they are not given out again: a new epoch."""
    here = engine.position()
    if mark is None or mark.epoch != here.epoch or mark.claimed_revision <= here.revision:
        return []
    known = (mark.revision, mark.claimed_revision)
    engine.begin_epoch(task.new_epoch(), known=known, time_ms=task.clock.wall_ms())
    lost = (
        f"revisions up to {mark.claimed_revision} that a client has seen are lost behind {here.revision}; "
        f"epoch {here.epoch} has ended"
    )
    return [lost]


def _told_before(state: Path, epoch: str) -> list[str]:
    """Why this epoch began, where that was damage: it is shown for as long as it lasts."""
    found: list[str] = []
    for report in sorted((state / swap.QUARANTINE).glob(f"*-{REASON}/{swap.REPORT}")):
        with suppress(OSError, MsgspecError):
            journal = json.decode(report.read_bytes(), type=swap.Journal)
            if journal.epoch == epoch:
                found.append(f"{journal.why.get('trouble', '')}; what was there is in {report.parent}")
    return found
