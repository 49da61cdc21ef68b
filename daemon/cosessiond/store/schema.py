"""Opening the database file: the settings it is run with, whose file it is, and its schema brought up to date.

Rule: a file that is not ours, or newer than us, is refused before SQLite touches it. The file is opened once.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import DecodeError

from cosession.errors import ConfigError, CosessionError
from cosessiond.process.durable import sync
from cosessiond.process.files import open_plain
from cosessiond.store.engine import StoreBroken, StoreDamaged
from cosessiond.store.fullness import is_full
from cosessiond.store.migrations import MIGRATIONS, SCHEMA
from cosessiond.store.walcheck import checksum

#: "cose", in the header's application id field (https://www.sqlite.org/fileformat.html#application_id).
APPLICATION_ID: Final = 0x636F7365
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_FRAME_BYTES: Final = 24
_WAL_HEADER_BYTES: Final = 32
_VERSIONS_AT: Final = 18
_WITHOUT_WAL: Final = b"\x01\x01"
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_JOURNAL_HEADER_BYTES: Final = 28
_PAGE_ONE: Final = (1).to_bytes(4)
#: The last byte of a WAL's magic number when its checksums are over big-endian words.
_BIG_ENDIAN: Final = b"\x83"

#: What SQLite says of a file that is not as it left it; the others are of the disk, of memory, of who may.
_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # a table that is not there
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_NOTADB,
    }
)
#: What reading a row raises that is not as it was written: its types may be others, its text no text.
UNREADABLE: Final = (sqlite3.Error, DecodeError, TypeError, ValueError, OverflowError)

# EXCLUSIVE before WAL: no shared memory file, and no second connection can ever open the database; before
# SQLite 3.51.3 two connections that write and checkpoint can corrupt it. Each value is read back and compared.
_SETTINGS: Final[tuple[tuple[str, str, object], ...]] = (
    ("locking_mode", "EXCLUSIVE", "exclusive"),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("wal_autocheckpoint", "0", 0),
    ("mmap_size", "0", 0),
    ("secure_delete", "ON", 1),
    ("trusted_schema", "OFF", 0),
)


def open_database(path: Path, *, was_used: bool) -> sqlite3.Connection:
    """The one connection to the database at `path`, created and migrated as needed.

    Raises ConfigError for a foreign file, a newer schema, or a directory that cannot be written; CosessionError
    already_running when another process has it open; StoreBroken when SQLite reports damage or an I/O error.
    """
    _check_header(path, was_used=was_used)
    _sync_log(Path(f"{path}-wal"))
    try:
        # timeout: nobody else may have it open, so there is nobody to wait for.
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64)
    except sqlite3.Error as error:
        raise ConfigError(f"cannot open {path}: {error}; check the directory's owner and mode") from error
    try:
        for name, wanted, expected in _SETTINGS:
            _set(db, name, wanted, expected)
        if sys.platform == "darwin":
            _set(db, "fullfsync", "ON", 1)
            _set(db, "checkpoint_fullfsync", "ON", 1)
        _migrate(db, path)
    except sqlite3.DatabaseError as error:
        abandon(db, path)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise CosessionError(
                f"cannot open {path}: already running, another process has it open though daemon.lock was free (was "
                f"that file removed?); end that process (fuser {path} names it), then: cosession start",
                code="already_running",
            ) from error
        raise broken(f"cannot open {path}", error) from error
    except BaseException:
        abandon(db, path)
        raise
    return db


def broken(what: str, error: Exception) -> StoreBroken:
    """What `error` means when `what` was tried: the disk failed, or what stands on it is not what was written.

    Every statement is a constant and every row was written by us: what cannot be read as such is damage.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    is_damage = code in _DAMAGE and not isinstance(error, sqlite3.ProgrammingError)
    return (StoreDamaged if is_damage else StoreBroken)(f"{what}: {error}")


def recorded(path: Path) -> int:
    """The schema of the database at `path` as its newest committed header has it, 0 where there is none of ours."""
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            header = file.read(_HEADER_BYTES)
    except (FileNotFoundError, ConfigError):
        return 0
    if header[60:64] != SCHEMA.to_bytes(4):  # else its log says no other: a schema only grows
        header = _header_in_log(Path(f"{path}-wal"), is_checked=True) or header
    is_ours = header.startswith(_MAGIC) and int.from_bytes(header[68:72]) == APPLICATION_ID
    return int.from_bytes(header[60:64]) if is_ours else 0


def open_copy(path: Path) -> sqlite3.Connection:
    """A database that nobody has open and nobody writes, to be read: no lock is taken, no file is made beside it.

    Raises ConfigError for a foreign file or a newer schema, sqlite3.Error.
    """
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise StoreBroken(f"cannot read {path}: it is no database, or the beginning of it is damaged")
    strange = _strange(header, path)
    if strange is not None:
        raise strange
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        _set(db, "trusted_schema", "OFF", 0)
        _set(db, "mmap_size", "0", 0)
    except BaseException:
        db.close()
        raise
    return db


def fill(path: Path, write: Callable[[sqlite3.Connection], None]) -> None:
    """Make a new store of what `write` puts into its empty tables. Raises ConfigError, StoreBroken."""
    db = open_database(path, was_used=False)
    try:
        write(db)
        checkpoint(db)
    except sqlite3.Error as error:
        raise broken(f"cannot fill {path}", error) from error
    finally:
        db.close()


def open_target(path: Path) -> sqlite3.Connection:
    """An empty file to copy a database into. Whoever does it syncs the file, and throws it away if anything fails:
    there is no journal, and SQLite syncs nothing.

    Raises sqlite3.Error, StoreBroken.
    """
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _set(db, "locking_mode", "EXCLUSIVE", "exclusive")
        _set(db, "journal_mode", "OFF", "off")
        _set(db, "synchronous", "OFF", 0)
        _set(db, "mmap_size", "0", 0)
    except BaseException:
        db.close()
        raise
    return db


def make_plain(descriptor: int) -> None:
    """Let a whole database that was copied page by page be one without a WAL
    (https://www.sqlite.org/fileformat.html#file_format_version_numbers). Raises OSError.
    """
    os.pwrite(descriptor, _WITHOUT_WAL, _VERSIONS_AT)


def fold(path: Path) -> None:
    """Bring what the log beside a copy holds into the copy: one whole file without a WAL, whatever its schema.

    Raises ConfigError for a foreign file or a newer schema, StoreBroken when SQLite cannot.
    """
    _check_header(path, was_used=True)
    try:
        db = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            _set(db, "locking_mode", "EXCLUSIVE", "exclusive")
            _set(db, "synchronous", "FULL", 2)
            _set(db, "trusted_schema", "OFF", 0)
            _set(db, "journal_mode", "DELETE", "delete")
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StoreBroken(f"cannot read {path}: {error}") from error


_abandoned: list[sqlite3.Connection] = []


def abandon(db: sqlite3.Connection, path: Path) -> None:
    """Let go of a database that cannot be trusted, and leave its files as they are: closing would move the WAL.

    An empty WAL is only the mark of having been opened, and goes with the closing.
    """
    wal = Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        _abandoned.append(db)
    else:
        db.close()


def _sync_log(wal: Path) -> None:
    """A transaction is only begun when the one before it is synced, by which `walcheck` tells damage from a power cut.
    So what a killed daemon wrote and did not sync is synced before anything is written behind it.
    """
    try:
        descriptor = open_plain(wal, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        sync(descriptor)
    except OSError as error:
        raise StoreBroken(f"cannot sync {wal}: {error}") from error
    finally:
        os.close(descriptor)


def _check_header(path: Path, *, was_used: bool) -> None:
    """Refuse by the 100-byte file header alone, so that a refused file is not even locked."""
    try:
        descriptor = open_plain(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as file:
        header = file.read(_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    wal = Path(f"{path}-wal")
    if not header and was_used and not wal.exists():
        raise StoreDamaged(f"cannot open {path}: it is empty and was not")
    if header and (len(header) < _HEADER_BYTES or not header.startswith(_MAGIC)):
        if _is_rolled_back_to_nothing(Path(f"{path}-journal")):
            return
        raise ConfigError(f"cannot use {path}: it is not a cosession database; move it away and start again")
    logged = _header_in_log(wal)
    if logged and _strange(logged, path) is not None:
        # A power cut may leave the heads of frames with what stood there in an earlier round: believed when it adds up.
        logged = _header_in_log(wal, is_checked=True)
    header = logged or header
    if not header:
        return
    strange = _strange(header, path)
    if strange is not None:
        raise strange
    pages = int.from_bytes(header[28:32])
    page_bytes = int.from_bytes(header[16:18]) or 1  # the file format writes 65,536 as 1; then nothing is checked
    if not logged and size < pages * page_bytes and not _is_rolled_back_to_nothing(Path(f"{path}-journal")):
        raise StoreDamaged(f"cannot open {path}: {pages * page_bytes - size} bytes are missing at its end")


def _is_rolled_back_to_nothing(journal: Path) -> bool:
    """Whether this journal makes SQLite empty the file, whatever is in it: it was empty before. A power cut while the
    very first page is written may leave any part of it (https://www.sqlite.org/fileformat.html#the_rollback_journal).
    """
    try:
        with os.fdopen(open_plain(journal, os.O_RDONLY), "rb") as file:
            start = file.read(_JOURNAL_HEADER_BYTES)
    except FileNotFoundError:
        return False
    return len(start) == _JOURNAL_HEADER_BYTES and start.startswith(_JOURNAL_MAGIC) and not any(start[16:20])


def _strange(header: bytes, path: Path) -> ConfigError | None:
    """Why a database with this header is not for us, None when it is."""
    pages, schema, application = (int.from_bytes(header[at : at + 4]) for at in (28, 60, 68))
    if application != APPLICATION_ID and (application or pages > 1):  # one page and no id: killed while it was begun
        return ConfigError(f"cannot use {path}: it belongs to another program; move it away and start again")
    return _newer(path, schema) if schema > SCHEMA else None


def _header_in_log(wal: Path, *, is_checked: bool = False) -> bytes:
    """The newest committed header in the WAL (https://www.sqlite.org/fileformat.html#the_write_ahead_log), b"" if
    there is none: after a crash the file may still show an older one.

    With `is_checked` a frame counts only while the checksums over all up to it hold, as for SQLite; that costs a second
    for a WAL of 10 MiB, and so is for what would be refused otherwise.
    """
    try:
        with os.fdopen(open_plain(wal, os.O_RDONLY), "rb") as file:
            start = file.read(32)
            page_bytes = int.from_bytes(start[8:12])
            order = ">" if start[3:4] == _BIG_ENDIAN else "<"
            sums = checksum(order, start[:24], (0, 0)) if is_checked and len(start) == _WAL_HEADER_BYTES else (0, 0)
            committed = seen = b""
            while page_bytes and len(frame := file.read(_FRAME_BYTES)) == _FRAME_BYTES and frame[8:16] == start[16:24]:
                page = file.read(page_bytes)
                if is_checked:
                    sums = checksum(order, frame[:8] + page, sums) if len(page) == page_bytes else (-1, -1)
                    if sums != (int.from_bytes(frame[16:20]), int.from_bytes(frame[20:24])):
                        break
                if frame[:4] == _PAGE_ONE:
                    seen = page[:_HEADER_BYTES]
                if any(frame[4:8]):
                    committed = seen
            return committed
    except FileNotFoundError:
        return b""


def _set(db: sqlite3.Connection, name: str, wanted: str, expected: object) -> None:
    db.execute(f"PRAGMA {name}={wanted}")
    row = db.execute(f"PRAGMA {name}").fetchone()
    if row is None or row[0] != expected:
        raise StoreBroken(f"cannot run the database with {name}={wanted}: SQLite answers {row!r}")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    if schema > SCHEMA:
        raise _newer(path, schema)
    if schema == SCHEMA:
        return
    if application != APPLICATION_ID and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise ConfigError(f"cannot use {path}: it belongs to another program; move it away and start again")
    db.execute("BEGIN IMMEDIATE")
    for migrate in MIGRATIONS[schema:]:
        migrate(db)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA}")
    db.execute("COMMIT")
    checkpoint(db)


def checkpoint(db: sqlite3.Connection) -> bool:
    """Move the WAL into the database and empty its file; raises StoreBroken when SQLite could not do all of it.

    False when the disk was full, and it stays as it is.
    """
    return _checkpoint(db, "TRUNCATE")


def checkpoint_in_place(db: sqlite3.Connection) -> bool:
    """Move the WAL into the database; the next commit writes it from its start again, in the room it has already.

    False when the disk was full, and it stays as it is. Raises StoreBroken.
    """
    return _checkpoint(db, "RESTART")


def _checkpoint(db: sqlite3.Connection, mode: str) -> bool:
    try:
        busy, pages, moved = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.Error as error:
        if is_full(error, db):
            return False  # the WAL holds everything; the next commit or checkpoint says disk_full again
        raise broken("cannot checkpoint", error) from error
    if busy or pages != moved:
        raise StoreBroken(f"cannot checkpoint: {moved} of {pages} pages moved (busy {busy})")
    return True


def _newer(path: Path, schema: int) -> ConfigError:
    return ConfigError(
        f"cannot use {path}: its schema is {schema}, this version knows {SCHEMA}; install the newer cosession again, "
        "or restore the backup made before the upgrade, whose name ends in -migration: cosession backup restore NAME"
    )
