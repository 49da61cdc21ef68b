"""What strace wrote about a daemon, as the calls that matter to a disk and to those who were answered, in their order.

    strace -f -y -xx -s N -e trace=CALLS -o FILE COMMAND...

With -xx every string is in hexadecimal digits, so that any byte of any frame and any page comes through. A call that
another thread's call interrupts in the file is put together again: it counts from the line where it began, a sync from
the line where it had returned. So whatever an acknowledgement follows here had really been done before it.

Rule: a call that could change a file and is not understood is an error, never skipped.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

#: Longer than anything that is written as one piece: the laid out log.
STRING_BYTES: Final = 16 * 1024 * 1024
_WRITES: Final = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range")
_SIZES: Final = ("ftruncate", "truncate", "fallocate")
_SYNCS: Final = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
_NAMES: Final = (
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"),
)
_SAYS: Final = ("sendto", "sendmsg", "sendmmsg")
CALLS: Final = ("openat", "open", "creat", "openat2", "lseek", *_WRITES, *_SIZES, *_SYNCS, *_NAMES, *_SAYS)
_IGNORED: Final = frozenset({"sync_file_range", "msync", "sendmmsg"})  # they promise nothing


class Event(NamedTuple):
    """One call, or the end of a sync. `kind` is one of

    create (a name, made by an open) · write (`data` at `offset`) · size (`offset` is the new one, of `truncate` or of
    an extension) · begin, synced (a sync of `path`; what had been done at its beginning is safe at its end) ·
    rename (`path` to `other`) · link (likewise) · unlink · mkdir · rmdir · said (`data` to the peer `path`) ·
    opened (a file opened with O_TRUNC: its size is 0).
    """

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""
    other: str = ""
    call: int = 0  # the line of the trace
    is_certain: bool = True  # it was seen to return; else it was killed in it, and may have been done or not


class _Line(NamedTuple):
    """A call with its arguments as strace printed them; where it began and where it had returned, as line numbers."""

    thread: str
    name: str
    arguments: list[str]
    result: str
    began: int
    ended: int


class Unreadable(Exception):
    """The trace has something that this module cannot account for."""


_STARTED: Final = re.compile(r"(\d+) +(\w+)\(")
_RESUMED: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>")
_RESULT: Final = re.compile(r"\) += (-?\d+|\?)([^\n]*)$")
#: What stands where a call had not returned yet: another thread's comes in between, or there was a kill.
_CUT: Final = ("<unfinished ...>", "<detached ...>")
_DESCRIPTOR: Final = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*|[^>]*)>(\(deleted\))?")


def events(lines: Sequence[str], root: Path) -> Iterator[Event]:
    """What happened under `root` and on sockets. Paths are relative to `root`, "" being itself.

    Raises Unreadable.
    """
    found: list[tuple[int, Event]] = []
    reader = _Reader(str(root))
    for line in _calls(lines):
        is_certain = not line.result.startswith("?")
        found += ((event.call, event._replace(is_certain=is_certain)) for event in reader.read(line))
    found.sort(key=lambda pair: pair[0])
    return (event for _, event in found)


def _calls(lines: Sequence[str]) -> list[_Line]:
    """The calls that returned or were never seen to, in the order in which they began."""
    open_calls: dict[str, tuple[str, str, int]] = {}
    found: list[_Line] = []
    for number, text in enumerate(lines):
        resumed = _RESUMED.match(text)
        if resumed:
            name, begun, began = open_calls.pop(resumed[1])
            found.append(_split(resumed[1], name, begun + text[resumed.end() :], began, number))
            continue
        started = _STARTED.match(text)
        if not started:
            continue  # an exit or a signal
        body = text[started.end() :]
        cut = next((mark for mark in _CUT if body.rstrip().endswith(mark)), "")
        if cut:
            open_calls[started[1]] = (started[2], body.rstrip()[: -len(cut)], number)
        else:
            found.append(_split(started[1], started[2], body, number, number))
    for thread, (name, begun, began) in open_calls.items():  # killed in the middle of it
        found.append(_split(thread, name, begun + ") = ?", began, len(lines)))
    return sorted(found, key=lambda line: line.began)


def _split(thread: str, name: str, body: str, began: int, ended: int) -> _Line:
    result = _RESULT.search(body)
    if result is None:
        raise Unreadable(f"line {began + 1}: {name} without a result: {body[-200:]}")
    value = "injected" if "(INJECTED)" in result[2] else result[1] + result[2]
    # No string has a comma, a quote or a bracket in it: all are hexadecimal.
    depth, part, parts = 0, "", []
    for piece in re.split(r"([,\[\]{}])", body[: result.start()]):
        depth += piece in ("[", "{")
        depth -= piece in ("]", "}")
        if piece == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += piece
    return _Line(thread, name, [*parts, part.strip()], value, began, ended)


def _bytes(text: str) -> bytes:
    """A string of strace's."""
    if not text.startswith('"') or text.endswith("..."):
        raise Unreadable(f"not a whole string: {text[:80]}")
    return bytes.fromhex(text[1:-1].replace("\\x", ""))


class _Reader:
    """Turns the calls of one process into events."""

    def __init__(self, root: str) -> None:
        self._root = root
        #: Where the next write(2) of an open descriptor goes; by its path too, since a child has numbers of its own.
        self._offsets: dict[tuple[str, str], int] = {}

    def read(self, line: _Line) -> list[Event]:
        """The events of one call; of one that failed there are none."""
        name = line.name
        if name not in CALLS:
            raise Unreadable(f"line {line.began + 1}: {name} is not a call that was asked for")
        failed = line.result.startswith("-1") or line.result == "injected"
        if failed or name in _IGNORED:
            return []
        if name in ("open", "openat", "creat", "openat2"):
            return self._opened(line)
        if name in _SAYS:
            return self._said(line)
        if name in _SYNCS:
            return self._synced(line)
        if name in _NAMES:
            return self._named(line)
        return self._changed(line)

    def _path(self, absolute: str) -> str | None:
        """Relative to the root; None outside of it."""
        whole = posixpath.normpath(absolute)
        if whole == self._root:
            return ""
        return whole[len(self._root) + 1 :] if whole.startswith(self._root + "/") else None

    def _descriptor(self, text: str) -> tuple[str, str | None]:
        """The number of a descriptor, and what it is of: None outside of the root, or when its name is gone."""
        match = _DESCRIPTOR.match(text)
        if match is None:
            raise Unreadable(f"not a descriptor: {text[:80]}")
        shown = bytes.fromhex(match[2].replace("\\x", "")).decode() if match[2].startswith("\\x") else match[2]
        return match[1], None if match[3] or shown.endswith(" (deleted)") else self._path(shown)

    def _at(self, directory: str, name: str) -> str | None:
        """A name below an open directory."""
        shown = _bytes(name).decode()
        if shown.startswith("/"):
            return self._path(shown)
        match = _DESCRIPTOR.match(directory)
        if match is None:
            raise Unreadable(f"not a directory: {directory[:80]}")
        below = bytes.fromhex(match[2].replace("\\x", "")).decode() if match[2].startswith("\\x") else match[2]
        return self._path(f"{below}/{shown}")

    def _opened(self, line: _Line) -> list[Event]:
        if line.name in ("creat", "openat2") or (line.name == "open" and "O_CREAT" in line.arguments[1]):
            raise Unreadable(f"line {line.began + 1}: {line.name} is not understood")
        path = self._at(line.arguments[0], line.arguments[1]) if line.name == "openat" else None
        if path is None:
            return []
        self._offsets[line.result.split("<", 1)[0], path] = 0
        flags = line.arguments[2].split("|")
        found = [Event("create", path, call=line.began)] if "O_CREAT" in flags else []
        return [*found, Event("opened", path, call=line.began)] if "O_TRUNC" in flags else found

    def _said(self, line: _Line) -> list[Event]:
        _, path = self._descriptor(line.arguments[0])
        if path is not None:
            raise Unreadable(f"line {line.began + 1}: {line.name} to a file")
        if line.name == "sendmsg":
            pieces = [_bytes(piece) for piece in re.findall(r'iov_base=("(?:\\x[0-9a-f]{2})*")', line.arguments[1])]
            data = b"".join(pieces)
        else:
            data = _bytes(line.arguments[1])
        sent = int(re.match(r"\d+", line.result)[0]) if not line.result.startswith("?") else 0  # type: ignore[index]
        return [Event("said", line.arguments[0].split("<", 1)[1], data=data[:sent], call=line.began)]

    def _synced(self, line: _Line) -> list[Event]:
        if line.name in ("sync", "syncfs"):
            raise Unreadable(f"line {line.began + 1}: {line.name} is not understood")
        _, path = self._descriptor(line.arguments[0])
        if path is None or line.result.startswith("?"):
            return []
        return [
            Event("begin", path, offset=line.began, call=line.began),
            Event("synced", path, offset=line.began, call=line.ended),
        ]

    def _named(self, line: _Line) -> list[Event]:
        arguments, call = line.arguments, line.began
        two = {"rename": (0, 1), "renameat": (1, 3), "renameat2": (1, 3), "link": (0, 1), "linkat": (1, 3)}
        if line.name in two:
            first, second = two[line.name]
            directories = (arguments[first - 1], arguments[second - 1]) if first else ("", "")
            path, other = (
                self._at(directory, arguments[index])
                for directory, index in zip(directories, (first, second), strict=True)
            )
            if path is None and other is None:
                return []
            if path is None or other is None or "RENAME_EXCHANGE" in arguments[-1]:
                raise Unreadable(f"line {call + 1}: {line.name} from {path} to {other}")
            return [Event("link" if line.name.startswith("link") else "rename", path, other=other, call=call)]
        one = {"unlink": "unlink", "unlinkat": "unlink", "rmdir": "rmdir", "mkdir": "mkdir", "mkdirat": "mkdir"}
        at = line.name.endswith("at")
        if line.name not in one:
            path = self._at(arguments[1] if at else "", arguments[2 if at else 1])
        else:
            path = self._at(arguments[0] if at else "", arguments[1 if at else 0])
        if not path:  # the root itself is always there
            return []
        if line.name not in one:
            raise Unreadable(f"line {call + 1}: {line.name} in the state directory")
        kind = "rmdir" if at and "AT_REMOVEDIR" in arguments[-1] else one[line.name]
        return [Event(kind, path, call=call)]

    def _changed(self, line: _Line) -> list[Event]:
        arguments, call = line.arguments, line.began
        if line.name == "truncate":
            if self._at("", arguments[0]) is None:
                return []
            raise Unreadable(f"line {call + 1}: truncate is not understood")
        number, path = self._descriptor(arguments[0])
        if path is None:
            return []
        if line.name == "lseek":
            self._offsets[number, path] = int(line.result.split()[0])
            return []
        if line.name in _SIZES:
            if line.name == "ftruncate":
                return [Event("size", path, offset=int(arguments[1]), call=call)]
            if arguments[1] != "0":
                raise Unreadable(f"line {call + 1}: fallocate with {arguments[1]}")
            return [Event("grow", path, offset=int(arguments[2]) + int(arguments[3]), call=call)]
        if line.name not in ("write", "pwrite64"):
            raise Unreadable(f"line {call + 1}: {line.name} into {path}")
        data = _bytes(arguments[1])
        if not line.result.startswith("?"):
            data = data[: int(line.result.split()[0])]
        if line.name == "pwrite64":
            return [Event("write", path, offset=int(arguments[3]), data=data, call=call)]
        offset = self._offsets.get((number, path), 0)
        self._offsets[number, path] = offset + len(data)
        return [Event("write", path, offset=offset, data=data, call=call)]
