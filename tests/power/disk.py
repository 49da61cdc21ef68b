"""What a power cut may leave of a directory: a model of a disk that keeps what was synced, and of the rest anything.

Synced bytes stay. Of what was written since, any subset of 512-byte sectors is there, each as any of the writes left
it; a file is as long as it was at the last sync or after any later change of its size, with zeros where nothing came;
what was cut off and written again is not seen without the cut. A name that was made, changed or removed and whose
directory was not synced since, may or may not have been; a rename happens as a whole. A name lasts without its file's
bytes, and bytes without their name are gone.

Rule: knows files and nothing of what is in them; a kind of loss that POSIX allows is not left out because some file
system is kinder.
"""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from power.trace import Event

SECTOR_BYTES: Final = 512


class Change(NamedTuple):
    """One change of a file that is not synced yet: `data` at `offset`, or (None) the size becomes `offset`."""

    serial: int
    offset: int
    data: bytes | None
    cuts: bool = False  # the size became smaller


class Renaming(NamedTuple):
    """One change of names that is not synced yet: what goes away, what is there instead, in which directories."""

    serial: int
    removed: tuple[Directory, str] | None
    made: tuple[Directory, str, File | Directory] | None

    @property
    def directories(self) -> set[int]:
        """Those whose sync makes it last."""
        return {id(place[0]) for place in (self.removed, self.made) if place is not None}


class File:
    """One file, whatever its names are."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.now = bytearray()
        self.pending: list[Change] = []
        self.syncs = 0

    def write(self, serial: int, offset: int, data: bytes) -> None:
        """Somebody wrote."""
        self.pending.append(Change(serial, offset, data))
        _put(self.now, offset, data)

    def resize(self, serial: int, size: int) -> None:
        """Somebody set the size."""
        if size != len(self.now):
            self.pending.append(Change(serial, size, None, size < len(self.now)))
            _resize(self.now, size)

    def sync(self, serial: int) -> None:
        """All that was done before `serial` is safe."""
        safe = [change for change in self.pending if change.serial < serial]
        self.pending = self.pending[len(safe) :]
        self.syncs += bool(safe)
        for change in safe:
            _apply(self.durable, change)


class Directory:
    """One directory: its names, as they are now and as they are safe."""

    def __init__(self) -> None:
        self.now: dict[str, File | Directory] = {}
        self.durable: dict[str, File | Directory] = {}


#: What to keep of the changes that are not synced: given the place of each among them and how many there are, the share
#: of its sectors; LENGTH_ONLY of a write: the file is as long as if it were there, with zeros.
Choice = Callable[[int, int], float]
LENGTH_ONLY: Final = -1.0


class Disk:
    """A directory tree with everything that is not synced yet. Feed it events with `take`."""

    def __init__(self) -> None:
        self.root = Directory()
        self.renamings: list[Renaming] = []
        self._serial = 0
        self._begun: dict[int, int] = {}  # syncs: the line of their call, and the serial at that moment

    def take(self, event: Event) -> bool:
        """Follow one event; whether a power cut behind it may leave something that one before it could not."""
        self._serial += 1
        if event.kind == "said":
            return False
        if event.kind == "begin":
            self._begun[event.offset] = self._serial
            return False
        if event.kind == "synced":
            return self._synced(event)
        parent, name = self._place(event.path)
        if event.kind in ("create", "mkdir"):
            return self._make(parent, name, File() if event.kind == "create" else Directory())
        if event.kind in ("unlink", "rmdir"):
            del parent.now[name]
            self.renamings.append(Renaming(self._serial, (parent, name), None))
            return True
        if event.kind in ("rename", "link"):
            return self._rename(parent, name, event)
        file = parent.now[name]
        assert isinstance(file, File), f"{event.path} is a directory"
        before = len(file.pending)
        if event.kind == "write":
            file.write(self._serial, event.offset, event.data)
        else:
            size = 0 if event.kind == "opened" else event.offset
            file.resize(self._serial, max(size, len(file.now)) if event.kind == "grow" else size)
        return len(file.pending) > before

    def _make(self, parent: Directory, name: str, made: File | Directory) -> bool:
        if name in parent.now:
            return False
        parent.now[name] = made
        self.renamings.append(Renaming(self._serial, None, (parent, name, made)))
        return True

    def _rename(self, parent: Directory, name: str, event: Event) -> bool:
        other, new_name = self._place(event.other)
        moved = parent.now[name]
        other.now[new_name] = moved
        removed = None
        if event.kind == "rename":
            del parent.now[name]
            removed = (parent, name)
        self.renamings.append(Renaming(self._serial, removed, (other, new_name, moved)))
        return True

    def _synced(self, event: Event) -> bool:
        serial = self._begun.pop(event.offset)
        thing = self._find(event.path)
        if isinstance(thing, File):
            had = bool(thing.pending)
            thing.sync(serial)
            return had
        safe = [each for each in self.renamings if each.serial < serial and id(thing) in each.directories]
        self.renamings = [each for each in self.renamings if each not in safe]
        for each in safe:
            _perform(each, lambda directory: directory.durable)
        return bool(safe)

    def _place(self, path: str) -> tuple[Directory, str]:
        above, name = posixpath.split(path)
        parent = self._find(above)
        assert isinstance(parent, Directory), f"{above} is no directory"
        return parent, name

    def _find(self, path: str) -> File | Directory:
        found: File | Directory = self.root
        for part in path.split("/") if path else ():
            assert isinstance(found, Directory), f"{path} goes through a file"
            found = found.now[part]
        return found

    # -- what is left ----------------------------------------------------------------------------------------------

    def dirty(self) -> list[File]:
        """The files with changes that are not synced, in a fixed order, those that have lost their name as well."""
        seen: dict[int, File] = {}
        for file in _files(self.root.now, self.root.durable, self.renamings):
            if file.pending:
                seen.setdefault(id(file), file)
        return list(seen.values())

    def left(self, files: Callable[[int, File], Choice], names: Choice, random: random.Random) -> Left:
        """One state: what is kept of the changes of each dirty file, and of the names."""
        tree: dict[int, dict[str, File | Directory]] = {}

        def of(directory: Directory) -> dict[str, File | Directory]:
            return tree.setdefault(id(directory), dict(directory.durable))

        total = len(self.renamings)
        kept = [random.random() < names(index, total) for index in range(total)]
        for each, is_kept in zip(self.renamings, kept, strict=True):
            if is_kept:
                _perform(each, of)
        content = {id(file): _keep(file, files(index, file), random) for index, file in enumerate(self.dirty())}
        return Left(self.root, of, content)

    def whole(self) -> Left:
        """As whoever looks at it now sees it: what a kill leaves, and no power cut."""
        return self.left(lambda *_: lambda *_: 1.0, lambda *_: 1.0, random.Random(0))


class Left:
    """What is there after one power cut."""

    def __init__(
        self,
        root: Directory,
        of: Callable[[Directory], dict[str, File | Directory]],
        content: dict[int, tuple[object, bytearray]],
    ) -> None:
        self._root = root
        self._of = of
        self._content = content

    def files(self) -> Iterator[tuple[str, bytes | bytearray | None]]:
        """Each path with its content, None for a directory; a directory comes before what is in it."""
        yield from self._below("", self._root)

    def _below(self, path: str, directory: Directory) -> Iterator[tuple[str, bytes | bytearray | None]]:
        for name, thing in sorted(self._of(directory).items()):
            whole = f"{path}/{name}" if path else name
            if isinstance(thing, Directory):
                yield whole, None
                yield from self._below(whole, thing)
            else:
                yield whole, self._content[id(thing)][1] if id(thing) in self._content else thing.durable

    def signature(self) -> bytes:
        """The same for the same names with the same bytes in them, whenever the power went."""
        found = blake2b(digest_size=16)
        for path, content in self.files():
            found.update(f"{path} {-1 if content is None else len(content)} ".encode())
            found.update(content or b"")
        return found.digest()

    def write(self, directory: Path) -> None:
        """Make it so in an empty directory."""
        for path, content in self.files():
            if content is None:
                (directory / path).mkdir(mode=0o700)
            else:
                target = directory / path
                target.write_bytes(content)
                target.chmod(0o600)


def _keep(file: File, choice: Choice, random: random.Random) -> tuple[object, bytearray]:
    """A file with the chosen part of its pending changes; and what was chosen, to be compared."""
    pending = file.pending
    shares = [choice(index, len(pending)) for index in range(len(pending))]
    content = bytearray(file.durable)
    chosen: list[object] = []
    # The size follows the last change of it that is kept; one that cuts is not passed by what was written behind it.
    cut_lost = 1 << 62
    for change, share in zip(pending, shares, strict=True):
        if change.data is None:
            if share < 0.0 or random.random() < share:
                _resize(content, change.offset)
                chosen.append(change.serial)
            elif change.cuts:
                cut_lost = min(cut_lost, change.offset)
            continue
        longer = min(change.offset + len(change.data), cut_lost)
        if longer > len(content) and (share < 0.0 or (0.0 < share < 1.0 and random.random() < 0.5)):
            _resize(content, longer)  # the length came through, and perhaps nothing else
            chosen.append((change.serial, longer))
        for start, last in _sectors(change, share, random):
            end = min(last, cut_lost)
            if start < end:
                _put(content, start, change.data[start - change.offset : end - change.offset])
                chosen.append((change.serial, start, end))
    return tuple(chosen), content


def _sectors(change: Change, share: float, random: random.Random) -> Iterator[tuple[int, int]]:
    """The runs of sectors of a write that are kept."""
    assert change.data is not None
    begin, end = change.offset, change.offset + len(change.data)
    if share >= 1.0:
        yield begin, end
    elif share > 0.0:
        first = begin // SECTOR_BYTES
        count = (end - 1) // SECTOR_BYTES - first + 1
        width = max(1, count // 16)  # of a long write not each sector alone
        for sector in range(first, first + count, width):
            if random.random() < share:
                low, high = max(begin, sector * SECTOR_BYTES), min(end, (sector + width) * SECTOR_BYTES)
                if low < high:
                    yield low, high


def _perform(renaming: Renaming, of: Callable[[Directory], dict[str, File | Directory]]) -> None:
    if renaming.removed is not None:
        of(renaming.removed[0]).pop(renaming.removed[1], None)
    if renaming.made is not None:
        directory, name, thing = renaming.made
        of(directory)[name] = thing


def _apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        _resize(content, change.offset)
    else:
        _put(content, change.offset, change.data)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content += bytes(size - len(content))


def _files(
    now: dict[str, File | Directory], durable: dict[str, File | Directory], renamings: Iterable[Renaming]
) -> Iterator[File]:
    things = [*now.values(), *durable.values(), *(each.made[2] for each in renamings if each.made)]
    for thing in things:
        if isinstance(thing, File):
            yield thing
        else:
            yield from _files(thing.now, thing.durable, ())
