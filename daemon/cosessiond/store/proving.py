"""From a copy to a backup: proved to be what it should be, then described, then published.

A copy is proved twice, by code that shares little: it is read from end to end (`store.verifying`), and a restore is
rehearsed, that is the engine's own start is carried out on it without writing. Both must come to the same position and
the same number of entries; and where it is known what was copied, to that.

Rule: nothing gets a final name that was not proved as the bytes it is published with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from cosessiond.store import schema
from cosessiond.store.backup import BackupDirectory, Manifest, Reason
from cosessiond.store.copying import Copying
from cosessiond.store.engine import Position, StoreBroken
from cosessiond.store.migrations import SCHEMA
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.verifying import Facts, Tell, verify


def prove(path: Path, tell: Tell = lambda _done, _all: None) -> Facts:
    """Read a copy from end to end and rehearse its restore; raises StoreBroken, ConfigError, FileNotFoundError.

    One with an older schema is read only: its restore begins with a migration.
    """
    facts = verify(path, tell)
    if facts.schema == SCHEMA:
        engine = SqliteEngine.rehearse(path)
        started = _stands(engine.position(), sum(1 for _ in engine.entries()))
        if started != _says(facts):
            raise StoreBroken(f"cannot trust {path}: a start on it finds {started}, and it holds {_says(facts)}")
    return facts


def compare(facts: Facts, position: Position, entries: int) -> None:
    """Raises StoreBroken when a copy is not of the store as it stood."""
    stood = _stands(position, entries)
    if stood != _says(facts):
        raise StoreBroken(f"cannot trust the copy: the store stood at {stood}, and it holds {_says(facts)}")


def describe(facts: Facts, *, version: str, time_ms: int, reason: Reason) -> Manifest:
    """The manifest of a copy that was proved."""
    return Manifest(
        epoch=facts.epoch,
        revision=facts.revision,
        entries=facts.entries,
        size_bytes=facts.size_bytes,
        sha256=facts.sha256,
        schema=facts.schema,
        version=version,
        time_ms=time_ms,
        reason=reason,
        verified=True,
        chain_hash=facts.chain_hash,
        state_hash=facts.state_hash,
    )


def differs(manifest: Manifest, facts: Facts) -> str:
    """The first of what a manifest says that its database is not, "" when there is none."""
    for name in ("size_bytes", "sha256", "epoch", "revision", "entries", "chain_hash", "state_hash", "schema"):
        said, found = getattr(manifest, name), getattr(facts, name)
        if said != found:
            return f"its {name} is {found}, recorded is {said}"
    return ""


def back_up(
    source: sqlite3.Connection | Path,
    directory: BackupDirectory,
    *,
    version: str,
    time_ms: int,
    reason: Reason,
    tell: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> tuple[str, Manifest]:
    """Make a backup at once of a store that nobody else uses, whatever its schema: of an open database, or of a whole
    file without a WAL. Returns its name and manifest.

    `tell` hears what is being done ("copy", "verify"), how far it is, and of how much.
    Raises CopyFailed (the disk is full, or does not answer), StoreBroken, ConfigError, OSError; nothing is left then.
    """
    db = schema.open_copy(source) if isinstance(source, Path) else source
    partial = directory.free_name(0, time_ms, reason)
    try:
        copying = Copying(db, directory.partial(partial), directory.begin(partial), sync_steps=0)
        try:
            while copying.step() != "whole":
                tell("copy", copying.pages - copying.pages_left, copying.pages)
            copying.finish()
        finally:
            copying.abandon()
        facts = prove(directory.partial(partial), lambda done, total: tell("verify", done, total))
        manifest = describe(facts, version=version, time_ms=time_ms, reason=reason)
        name = directory.free_name(facts.revision, time_ms, reason)
        directory.publish(partial, name, manifest)
    except BaseException:
        directory.discard(partial)
        raise
    finally:
        if isinstance(source, Path):
            db.close()
    return name, manifest


def _stands(position: Position, entries: int) -> tuple[object, ...]:
    return position.epoch, position.revision, position.chain_hash.hex(), position.state_hash.hex(), entries


def _says(facts: Facts) -> tuple[object, ...]:
    return facts.epoch, facts.revision, facts.chain_hash, facts.state_hash, facts.entries
