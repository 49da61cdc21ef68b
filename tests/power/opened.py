"""What the store's own recovery makes of a state that a power cut left, against what the clients know.

Whoever was answered before the cut finds it: the store is in the same epoch, at a revision that is no less than any
that was told and no more than any that was ever committed, and every batch up to it is the one that was committed, as
a whole. A state that is refused is a violation as well: a power cut on an honest disk damages nothing.

Rule: what is expected comes from the clients, never from the store.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from msgspec import msgpack

from cosession.config import Config
from cosession.errors import CosessionError
from cosession.messages.limits import VERSIONS_KEPT
from cosessiond.app import _make_ready
from cosessiond.maintenance.task import Task
from cosessiond.opening import opened
from cosessiond.store.backup import DIRECTORY, BackupDirectory, Manifest
from cosessiond.store.engine import Committed, EntryId, StoreBroken
from cosessiond.store.epochs import EPOCH_STEP
from cosessiond.store.marks import Marker
from cosessiond.store.proving import differs, prove
from cosessiond.store.sqlite import SqliteEngine
from durability.link import open_when_ready
from durability.loop import listed
from harness import Daemon
from power.recording import Truth

#: The keys of the workload that have a time of their own.
LEASED: Final = "l/"
HISTORIES: Final = 3
_SILENT: Final = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
_CONFIG: Final = Config()
_decode = msgpack.Decoder().decode


class Known(NamedTuple):
    """What had been told to anybody when the power went."""

    told: bool = False  # the epoch
    revision: int = 0
    backup: str = ""  # its name
    restored: str = ""  # the epoch that began


class _Descriptor:
    """The state directory, open, as the daemon holds it."""

    def __init__(self, directory: Path) -> None:
        self.number: Final = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.number)


class Opening:
    """Opens states and judges them. `chains`: the hash of each revision, as the first state that had it showed it."""

    def __init__(self, truth: Truth, *, has_acts: bool = False) -> None:
        self._truth = truth
        self._has_acts = has_acts
        self._backed_up: dict[tuple[str, bytes], str] = {}
        self._chains: dict[int, bytes] = {}

    def judge(self, directory: Path, known: Known, random: random.Random) -> list[str]:
        """What is wrong with the state in `directory`, in words; it is recovered in place."""
        wrong = list(self._backups(directory, known))
        if wrong:
            return wrong
        try:
            with contextlib.closing(_Descriptor(directory)) as held:
                _make_ready(directory, held.number, _SILENT)
                task = Task(directory, held.number, words=[], options={})
                with opened(task, Marker(held.number), config=_CONFIG, log=_SILENT) as (engine, wrong, _):
                    return [*wrong, *self._wrong(engine, known, random)]
        except (StoreBroken, CosessionError) as error:
            return [f"refused: {error}"]

    def _wrong(self, engine: SqliteEngine, known: Known, random: random.Random) -> Iterator[str]:
        at, truth = engine.position(), self._truth
        if at.epoch != truth.epoch and self._has_acts and at.revision >= EPOCH_STEP:
            yield from self._restored(engine, known)
            return
        if known.restored:
            yield f"restored: the epoch is {at.epoch} again, {known.restored} had begun"
        if at.epoch != truth.epoch:
            if known.told or at.revision:
                yield f"epoch: it is {at.epoch}, was {truth.epoch}"
            return
        if at.revision < known.revision:
            yield f"lost: {known.revision} was told, the store ends at {at.revision}"
        if at.revision > len(truth.batches):
            yield f"stranger: the store ends at {at.revision}, the newest committed was {len(truth.batches)}"
            return
        if self._chains.setdefault(at.revision, at.chain_hash) != at.chain_hash:
            yield f"chain: revision {at.revision} has another hash than it had"
        yield from self._log(engine, at.compact_revision, at.revision)
        ids = {entry.id[2]: entry.id for entry in engine.entries()}
        found = {entry.id[2]: _standing(entry) for entry in engine.entries()}
        expected = truth.entries[at.revision]
        if found != expected:
            wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
            yield f"entries: at {at.revision} {wrong[:5]} are not as they were"
        for key in random.sample(sorted(ids), min(HISTORIES, len(ids))):
            yield from self._history(engine, ids[key], at.revision)

    def _restored(self, engine: SqliteEngine, known: Known) -> Iterator[str]:
        """The store of the backup, in its own epoch: what stood then, without what had a lease."""
        epoch = engine.position().epoch
        if known.restored and epoch != known.restored:
            yield f"restored: the epoch is {epoch}, {known.restored} had begun"
        expected = {key: each for key, each in self._truth.entries[-1].items() if not key.startswith(LEASED)}
        found = {entry.id[2]: _standing(entry) for entry in engine.entries() if not entry.id[2].startswith(LEASED)}
        if found != expected:
            yield "restored: it is not what was backed up"

    def _backups(self, directory: Path, known: Known) -> Iterator[str]:
        """A backup under its final name is whole, and one that was told of is there (P10)."""
        if not (directory / DIRECTORY).is_dir():
            if known.backup:
                yield f"backup: {known.backup} is gone, with all others"
            return
        with contextlib.closing(BackupDirectory(directory)) as held:
            found = {each.name: each for each in held.found() if each.state != "no_database"}
            for name, each in found.items():
                if each.manifest is None:
                    yield f"backup: {name} is {each.state}"
                    continue
                if wrong := self._proved(held.database(name), each.manifest):
                    yield f"backup: {name}: {wrong}"
            if known.backup and known.backup not in found:
                yield f"backup: {known.backup} was made, and is gone"

    def _proved(self, database: Path, manifest: Manifest) -> str:
        """What is wrong with a backup; of the same bytes it is not asked twice."""
        key = str(manifest), blake2b(database.read_bytes()).digest()
        if key not in self._backed_up:
            try:
                self._backed_up[key] = differs(manifest, prove(database))
            except (StoreBroken, CosessionError) as error:
                self._backed_up[key] = str(error)
        return self._backed_up[key]

    def _log(self, engine: SqliteEngine, first: int, last: int) -> Iterator[str]:
        after = max(0, first - 1)
        while after < last:
            page = engine.changes(after, 256, 1 << 20)
            for outcome in page:
                after += 1
                if outcome.revision != after:
                    yield f"gap: the log goes from {after - 1} to {outcome.revision}"
                    return
                if _changes(outcome) != [_change(each) for each in self._truth.batches[after - 1]]:
                    yield f"batch: revision {after} is not what was committed"
                    return
            if not page:
                yield f"gap: the log ends at {after}, the store at {last}"
                return

    def _history(self, engine: SqliteEngine, id: EntryId, revision: int) -> Iterator[str]:
        """The newest versions, all of them; but what lies behind a deletion that has left the log may have gone."""
        key, compact_revision = id[2], engine.position().compact_revision
        shown = [row.mod_revision for row in engine.history(id, VERSIONS_KEPT, revision + 1)]
        written: list[int] = []
        gone_from = 0
        for number, changes in enumerate(self._truth.batches[:revision], 1):
            for change in changes:
                if change.key == key:
                    written.insert(0, number)
                    gone_from = number if change.kind != "put" and number < compact_revision else gone_from
        kept = sum(number > gone_from for number in written)
        if shown != written[: len(shown)] or len(shown) < min(kept, VERSIONS_KEPT):
            yield f"history: {key} at {revision} has the versions {shown[:5]}, written were {written[:5]}"


def judge_served(home: Path, truth: Truth, known: Known) -> list[str]:
    """The same of a state in `home` by a real daemon, from outside: where it stands, and every entry."""
    with contextlib.ExitStack() as stack:
        daemon = Daemon(home)
        try:
            daemon.start()
        except AssertionError as error:
            return [f"refused: {error}"]
        stack.callback(daemon.close)
        with open_when_ready(daemon.socket) as link:
            hello = link.hello()
            if hello.revision >= EPOCH_STEP:
                return [] if known.restored in ("", hello.epoch) else [f"restored: {known.restored} is {hello.epoch}"]
            if hello.epoch != truth.epoch:
                return [f"epoch: it is {hello.epoch}, was {truth.epoch}"] if known.told or hello.revision else []
            if not known.revision <= hello.revision <= len(truth.batches):
                return [f"lost: {known.revision} was told, the store ends at {hello.revision}"]
            found = {e.key: (e.value, e.version, e.create_revision, e.mod_revision) for e in listed(link)}
    return [] if found == truth.entries[hello.revision] else [f"entries: at {hello.revision} they are not as they were"]


def _standing(entry: Any) -> tuple[Any, int, int, int]:
    return _decode(entry.value), entry.version, entry.create_revision, entry.mod_revision


def _changes(outcome: Committed) -> list[tuple[Any, ...]]:
    return [
        (c.kind, c.id[2], _decode(c.value) if c.kind == "put" else None, c.version, c.create_revision)
        for c in outcome.changes
    ]


def _change(change: Any) -> tuple[Any, ...]:
    return change.kind, change.key, change.value, change.version, change.create_revision
