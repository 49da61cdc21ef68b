"""What is in the stores of tests/data/state-v*/ and how it is read back: shared by the script that makes them and the
tests that open them.

Rule: everything is read over the socket, except the recorded hashes, which are in the file alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, msgpack
from msgspec.structs import replace

from cosession.messages.audit import Audit
from cosession.messages.limits import AUDIT_RECORDS_MAX
from cosession.messages.past import History
from cosession.messages.store import Range
from cosession.messages.watches import Watch, WatchEvent
from cosession.model import AuditRecord, Change, Entry, Version
from durability.link import Link, open_when_ready

HERE: Final = Path(__file__).resolve().parent
SCHEMAS: Final = (1, 2, 3)
VARIANTS: Final = ("clean", "killed")
FILES: Final = ("store.db", "store.db-wal")
#: https://www.sqlite.org/fileformat.html#the_write_ahead_log, with pages of 4 KiB.
WAL_HEADER: Final = 32
WAL_FRAME: Final = 24 + 4096
PROJECT: Final = "example"
PLACES: Final = (("context", "global"), ("context", PROJECT), ("$sessions", "global"))
#: The session of `killed` that was alive when the daemon was not any more, and what was to end with it.
ORPHAN: Final = "orphan"
ORPHANED_KEY: Final = "presence/orphan"
_decode_event = msgpack.Decoder(WatchEvent).decode


class Request(Struct, frozen=True, kw_only=True):
    """A write as it was sent, to send again: the method, its parameters as JSON data, the revision it got."""

    method: str
    params: dict[str, Any]
    revision: int


class Kept(Struct, frozen=True, kw_only=True):
    """All versions shown of one key, newest first."""

    space: str
    project: str
    key: str
    versions: list[Version]


class Listed(Struct, frozen=True, kw_only=True):
    """One entry and where it is."""

    space: str
    project: str
    entry: Entry


class Logged(Struct, frozen=True, kw_only=True):
    """What one batch changed in one place."""

    space: str
    project: str
    revision: int
    changes: list[Change]


class Expected(Struct, frozen=True, kw_only=True):
    """Everything that one store holds at `revision`, which was written at `wall_ms`. Hashes are hexadecimal, and those
    of the revision `settled` (0: the same), up to which its tables are derived; behind it there is the log only.
    `audit` is what was recorded until then; schema 1 has none.
    """

    epoch: str
    revision: int
    wall_ms: int
    chain_hash: str
    state_hash: str
    files: dict[str, str]
    entries: list[Listed]
    histories: list[Kept]
    log: list[Logged]
    requests: list[Request]
    audit: list[AuditRecord] = []
    settled: int = 0

    @property
    def recorded(self) -> tuple[str, int, str, str]:
        """What `recorded` must find in its file."""
        return self.epoch, self.settled or self.revision, self.chain_hash, self.state_hash


class Committed(NamedTuple):
    """One store in the repository."""

    schema: int
    variant: str

    @property
    def place(self) -> Path:
        """Its directory."""
        return HERE / f"state-v{self.schema}" / self.variant

    def load(self) -> Expected:
        """What is expected of it."""
        return msgspec.json.decode((self.place / "expected.json").read_bytes(), type=Expected)

    def save(self, expected: Expected) -> None:
        """Write that, one record a line, so that a change can be read."""
        lines = []
        for name, value in msgspec.to_builtins(expected).items():
            if isinstance(value, list):
                rows = ",\n  ".join(msgspec.json.encode(row).decode() for row in value)
                lines.append(f' "{name}": [\n  {rows}\n ]')
            else:
                lines.append(f' "{name}": {msgspec.json.encode(value).decode()}')
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        (self.place / "expected.json").write_text(text, encoding="utf-8")


STORES: Final = [Committed(schema, variant) for schema in SCHEMAS for variant in VARIANTS]


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of the store's files in a directory."""
    present = [name for name in FILES if (directory / name).exists()]
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in present}


def copy_store(source: Path, state: Path) -> None:
    """The store's files as a state directory of its own, private as the daemon wants it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, state / name)
            (state / name).chmod(0o600)


def tables(source: Path) -> tuple[int, list[tuple[str, str]]]:
    """The schema of a store and how its tables and indexes were made; a copy is read."""
    with tempfile.TemporaryDirectory(prefix="cs-state-") as place:
        copy_store(source, Path(place))
        db = sqlite3.connect(Path(place) / "store.db")
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        made = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        db.close()
    return schema, made


def cut_wal(directory: Path) -> None:
    """Cut off what was laid out of the WAL and never written, so that the repository need not keep it."""
    wal = directory / FILES[1]
    if wal.exists():
        used = len(wal.read_bytes().rstrip(b"\0"))
        frames = -(-(used - WAL_HEADER) // WAL_FRAME)
        os.truncate(wal, WAL_HEADER + frames * WAL_FRAME)


def recorded(source: Path) -> tuple[str, int, str, str]:
    """Epoch, revision, chain hash and state hash as they stand in the file; a copy is read."""
    with tempfile.TemporaryDirectory(prefix="cs-state-") as place:
        copy_store(source, Path(place))
        db = sqlite3.connect(Path(place) / "store.db")
        row = db.execute("SELECT epoch, revision, chain_hash, state_hash FROM meta").fetchone()
        db.close()
    return row[0], row[1], row[2].hex(), row[3].hex()


def listed(link: Link, revision: int) -> list[Listed]:
    """All entries at a revision."""
    found = []
    for space, project in PLACES:
        reply = link.call(Range(space=space, project=project, at_revision=revision))
        assert not reply.more, "the store is small"
        found += [Listed(space=space, project=project, entry=entry) for entry in reply.entries]
    return found


def histories(link: Link, revision: int, log: list[Logged]) -> list[Kept]:
    """The kept versions up to a revision of every key that was ever written."""
    ids = sorted({(row.space, row.project, change.key) for row in log for change in row.changes})
    found = []
    for space, project, key in ids:
        reply = link.call(History(space=space, project=project, key=key, before_revision=revision + 1))
        assert not reply.more, "the store is small"
        found.append(Kept(space=space, project=project, key=key, versions=reply.versions))
    return found


def alike(store: Committed, found: list[Kept], expected: list[Kept]) -> tuple[list[Kept], list[Kept]]:
    """Histories as found and as expected of a store, where they can be compared: what was expected was written down by
    the version that made it.
    """
    if store.schema == 1:  # before versions told who
        found = [replace(kept, versions=[replace(each, instance="") for each in kept.versions]) for kept in found]
    if store.schema < 3:  # where entries of ours kept as many versions as others
        expected = [replace(kept, versions=kept.versions[: 1 if kept.space[0] == "$" else None]) for kept in expected]
    # What had a version by then and has another since shows that alone; a daemon that starts finds the dead.
    since = {ORPHAN} if store.variant == "killed" else set()
    return [kept for kept in found if kept.key not in since], [kept for kept in expected if kept.key not in since]


def audited(link: Link) -> list[AuditRecord]:
    """The audit, oldest first."""
    reply = link.call(Audit(after=0, limit=AUDIT_RECORDS_MAX))
    assert not reply.more, "the store is small"
    return reply.records


def logged(socket: Path, revision: int, *, like: Sequence[Logged] = (), silence_s: float = 1.0) -> list[Logged]:
    """The log up to a revision, as watches from the first revision on deliver it.

    The end cannot be seen from one place alone, silence is the sign of it; where `like` says what to expect, a shorter
    one will do once that much has come.
    """
    found: list[Logged] = []
    for space, project in PLACES:
        last = max((row.revision for row in like if (row.space, row.project) == (space, project)), default=0)
        with open_when_ready(socket) as link:
            link.call(Watch(space=space, project=project, start_revision=1))
            reached = 0
            while bodies := link.events(0.1 if like and reached >= last else silence_s):
                for event in map(_decode_event, bodies):
                    reached = event.revision
                    if event.kind == "changes" and reached <= revision:
                        found.append(Logged(space=space, project=project, revision=reached, changes=event.changes))
    return sorted(found, key=lambda row: (row.revision, row.space, row.project))
