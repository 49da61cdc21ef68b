"""The spool directory: what waits in it is read with suspicion, what cannot be taken is put aside, bounded.

Anything may lie there: half a file, a link, a pipe, a file of another user, a gigabyte, a name that is none, ten
thousand of them. A file is opened without following links and without waiting, judged on the open descriptor, and read
up to a bound. What is no call goes into `refused/`, with the reason beside it, where the oldest give way.

Rule: runs on a thread of its own, never on the loop; knows files and names, and nothing of what a call means.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from cosession.errors import ConfigError
from cosession.spool import CALL_BYTES_MAX, HEADER_BYTES_MAX, NAME, UNFINISHED
from cosessiond.process.directories import private_directory
from cosessiond.process.durable import sync_directory

REFUSED: Final = "refused"
#: Calls of one round, and how many bytes they have together.
ROUND_FILES_MAX: Final = 64
ROUND_BYTES_MAX: Final = 8 * 1024 * 1024
#: Names that one look takes in: whoever leaves more there waits for the next.
LOOKED_MAX: Final = 20_000
#: What was put aside and is kept to be looked at.
ASIDE_FILES_MAX: Final = 100
ASIDE_BYTES_MAX: Final = 16 * 1024 * 1024
ASIDE_FILE_BYTES_MAX: Final = 2 * 1024 * 1024  # one that is larger would push out all others
#: Put aside in one round: the rest is there the next time.
ASIDE_ROUND_MAX: Final = 64
#: How old a file is that somebody began and will not finish any more.
UNFINISHED_S: Final = 3_600.0
#: Of a reason, in the file beside what was put aside.
_WHY_BYTES_MAX: Final = 1_024


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a file: its format, and which session it says it is of."""

    spool: int
    session: str = ""
    proof: str = ""


class Spooled(NamedTuple):
    """One call that waits: the file, its header, and the call as it would have come over the socket."""

    name: str
    request_id: str
    header: Header
    call: bytes


class Aside(NamedTuple):
    """What was put aside, and why."""

    name: str
    why: str


class Look(NamedTuple):
    """What one look found: the calls that are next, what was put aside, and how many calls wait in all."""

    calls: tuple[Spooled, ...] = ()
    aside: tuple[Aside, ...] = ()
    waiting: int = 0
    refused: int = 0
    error: str = ""


class _NoCall(Exception):
    """Not a call; the argument says why."""


_decode_header = msgspec.json.Decoder(Header).decode


class Directory:
    """The one at `path`. `now_s`: the wall clock, in seconds; only to see what was never finished."""

    def __init__(self, path: Path, now_s: float = 0.0) -> None:
        self.path = path
        self.now_s = now_s

    def look(self) -> Look:
        """The calls that are next; what is none is put aside. Raises nothing that a directory can cause."""
        try:
            with _opened(self.path) as directory:
                return self._look(directory)
        except (OSError, ConfigError) as error:
            return Look(error=str(error))

    def settle(self, done: Iterable[str], refused: Iterable[Aside]) -> str:
        """Remove what is committed, put aside what was refused; "" or what went wrong. Doing it again does nothing."""
        try:
            with _opened(self.path) as directory:
                for name in done:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=directory)
                for each in refused:
                    _put_aside(directory, each.name, each.why)
                sync_directory(directory)
        except (OSError, ConfigError) as error:
            return str(error)
        return ""

    def _look(self, directory: int) -> Look:
        waiting: list[str] = []
        odd: list[str] = []
        with os.scandir(directory) as entries:
            for entry in islice(entries, LOOKED_MAX):
                name = entry.name
                if NAME.fullmatch(name):
                    waiting.append(name)
                elif name.startswith(UNFINISHED):
                    self._forget_unfinished(directory, name)
                elif name != REFUSED:
                    odd.append(name)
        aside = [Aside(name, "its name is none of a call") for name in odd[:ASIDE_ROUND_MAX]]
        calls: list[Spooled] = []
        size = 0
        for name in heapq.nsmallest(ROUND_FILES_MAX, waiting):
            try:
                found = _read(directory, name)
            except FileNotFoundError:
                continue
            except (OSError, _NoCall) as error:
                aside.append(Aside(name, str(error)))
                continue
            size += len(found.call)
            if calls and size > ROUND_BYTES_MAX:
                break
            calls.append(found)
        gone = [each for each in aside if _put_aside(directory, each.name, each.why)]
        left = len(waiting) - sum(NAME.fullmatch(each.name) is not None for each in gone)
        told = tuple(Aside(_shown(each.name), each.why) for each in gone)
        return Look(tuple(calls), told, left, _kept(directory))

    def _forget_unfinished(self, directory: int, name: str) -> None:
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if self.now_s - found.st_mtime > UNFINISHED_S:
                os.unlink(name, dir_fd=directory)


@contextlib.contextmanager
def _opened(path: Path):  # type: ignore[no-untyped-def] # noqa: ANN202 - a context manager of a descriptor
    descriptor = private_directory(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(directory: int, name: str) -> Spooled:
    """The call in a file. Raises _NoCall, OSError."""
    matched = NAME.fullmatch(name)
    assert matched is not None, "looked at before"
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise _NoCall("it is no plain file")
        if found.st_uid != os.geteuid():
            raise _NoCall(f"it belongs to uid {found.st_uid}")
        if found.st_nlink != 1:
            raise _NoCall(f"it has {found.st_nlink} names")
        if found.st_size > CALL_BYTES_MAX + HEADER_BYTES_MAX:
            raise _NoCall(f"it has {found.st_size} bytes, a call has {CALL_BYTES_MAX} at most")
        data = _all_of(file, CALL_BYTES_MAX + HEADER_BYTES_MAX + 1)
    finally:
        os.close(file)
    head, newline, rest = data.partition(b"\n")
    if not newline or not rest.endswith(b"\n") or rest.count(b"\n") != 1:
        raise _NoCall("it is not two whole lines")
    try:
        header = _decode_header(head[: HEADER_BYTES_MAX + 1])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _NoCall(f"its header cannot be read: {str(error)[:200]}") from None
    if header.spool != 1:
        raise _NoCall(f"it is of format {header.spool}, this version reads 1")
    return Spooled(name, matched[2], header, rest[:-1])


def _shown(name: str) -> str:
    """A name as text that can be told: the bytes of a file's name need not be any."""
    return os.fsencode(name).decode(errors="replace")


def _all_of(file: int, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    left = bytes_max
    while left > 0 and (part := os.read(file, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _put_aside(directory: int, name: str, why: str) -> bool:
    """Take something out of the way: a plain file into `refused/`, what is none, or huge, away; whether it is gone."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=directory)  # an empty one; whatever is in another is not ours to judge
        elif not stat.S_ISREG(found.st_mode) or found.st_size > ASIDE_FILE_BYTES_MAX:
            os.unlink(name, dir_fd=directory)
        else:
            _keep(directory, name, why)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it stays, and is passed over
    return True


def _keep(directory: int, name: str, why: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(REFUSED, 0o700, dir_fd=directory)
    os.rename(name, f"{REFUSED}/{name}", src_dir_fd=directory, dst_dir_fd=directory)
    with contextlib.suppress(OSError):  # a name that is too long for one more ending
        note = os.open(
            f"{REFUSED}/{name}.why",
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=directory,
        )
        try:
            os.write(note, why.encode(errors="replace")[:_WHY_BYTES_MAX] + b"\n")
        finally:
            os.close(note)
    _give_way(directory)


def _give_way(directory: int) -> None:
    """The oldest of what was put aside go, until few enough and small enough are left."""
    kept = sorted(_aside(directory))
    size = sum(each[2] for each in kept)
    while kept and (len(kept) > ASIDE_FILES_MAX or size > ASIDE_BYTES_MAX):
        _, name, bytes_ = kept.pop(0)
        size -= bytes_
        for each in (name, f"{name}.why"):
            with contextlib.suppress(OSError):
                os.unlink(f"{REFUSED}/{each}", dir_fd=directory)


def _aside(directory: int) -> list[tuple[int, str, int]]:
    """What was put aside: when, its name, its size."""
    try:
        inner = os.open(REFUSED, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return []
    try:
        with os.scandir(inner) as entries:
            found = [(each, each.stat(follow_symlinks=False)) for each in islice(entries, LOOKED_MAX)]
    finally:
        os.close(inner)
    return [(about.st_ctime_ns, each.name, about.st_size) for each, about in found if not each.name.endswith(".why")]


def _kept(directory: int) -> int:
    return len(_aside(directory))
