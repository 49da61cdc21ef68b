"""The configuration file: read with suspicion, judged key by key, and each value traced to its line.

Rule: an unknown name or a value outside its span is an error with file and line, never a silent default; only a plain
file of the user's own is read, and what reading it can cost is bounded before TOML is parsed.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import convert, structs

from cosession.config import Config, shown, values, wrong_value
from cosession.errors import ConfigError
from cosession.nearest import nearest

#: A file with every key and a comment to each has under 4 KiB.
BYTES_MAX: Final = 16 * 1024
#: tomllib takes quadratic time over the parts of one dotted name: a line of 60 KiB is a minute.
LINE_BYTES_MAX: Final = 512
#: Of the problems of one file, so many are told.
PROBLEMS_MAX: Final = 3
#: Lines that are tried for one key, see `line_of`.
_CANDIDATES_MAX: Final = 8
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_BARE: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


class Problem(NamedTuple):
    """One thing that is wrong: the names that lead to it, and why, which is found when it is told."""

    names: tuple[str, ...]
    why: Callable[[], str]


class ConfigFile:
    """The file at one path, over as many readings as its user likes: one that has not changed is not judged again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text: bytes | None = None
        self._judged: Config | ConfigError | None = None

    def load(self) -> Config:
        """What the file says now; the defaults when there is none. Raises ConfigError."""
        text = read(self.path)
        if self._judged is None or text != self._text:
            self._text = text
            try:
                self._judged = Config() if text is None else parse(text, self.path)
            except ConfigError as error:
                self._judged = error
        if isinstance(self._judged, ConfigError):
            raise ConfigError(self._judged.message, data=self._judged.data)
        return self._judged


def load(path: Path) -> Config:
    """The configuration at `path`; the defaults when there is no such file. Raises ConfigError."""
    return ConfigFile(path).load()


def read(path: Path) -> bytes | None:
    """The bytes of the file, None when there is none. Raises ConfigError for all but a plain file of the user's own."""
    try:
        # Not blocking: a pipe in its place must not hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_owner(path, os.fstat(descriptor))
            text = os.read(descriptor, BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check its owner and mode") from error
    if len(text) > BYTES_MAX:
        raise ConfigError(f"cannot read {path}: over {BYTES_MAX} bytes; it is no configuration of cosession")
    return text


def _check_owner(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"cannot read {path}: it is no plain file; move it away")
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"cannot read {path}: it belongs to uid {status.st_uid}, this is uid {os.geteuid()}; "
            "put a file of your own in its place"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise ConfigError(
            f"cannot read {path}: mode {stat.S_IMODE(status.st_mode):04o} lets others write it; run: chmod go-w {path}"
        )


def parse(text: bytes, path: Path) -> Config:
    """The configuration that a file says. Raises ConfigError, with `problems` in its data: `line` (0: not known),
    `key`, `why`.
    """
    table, lines = _table(text, path)
    problems = list(_problems(table))
    if not problems:
        return convert(table, Config)
    first = problems[:PROBLEMS_MAX]
    at = [line_of(lines, each.names) for each in first]
    told = [{"line": line, "key": dotted(each.names), "why": each.why()} for line, each in zip(at, first, strict=True)]
    more = len(problems) - 1
    raise ConfigError(
        f"cannot use {_place(path, at[0])}: {told[0]['why']}; "
        f"correct it there, or remove it for the default{f' ({more} more to correct)' if more else ''}",
        data={"path": str(path), "problems": told},
    )


def origins(text: bytes, path: Path) -> dict[str, str]:
    """Where each key that a good file sets is set: `PATH:LINE`, or `PATH` where the line is not certain."""
    table, lines = _table(text, path)
    return {
        key: _place(path, line_of(lines, tuple(key.split("."))))
        for key in values(Config())
        if _holds(table, tuple(key.split(".")))
    }


def _table(text: bytes, path: Path) -> tuple[dict[str, Any], list[str]]:
    """The file as TOML and its lines. Raises ConfigError."""
    try:
        lines = text.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _no_toml(path, line, "it is not UTF-8") from None
    long = next((number for number, line in enumerate(lines, 1) if len(line.encode()) > LINE_BYTES_MAX), 0)
    if long:
        raise _no_toml(path, long, f"the line has over {LINE_BYTES_MAX} bytes")
    try:
        return tomllib.loads("\n".join(lines)), lines
    except RecursionError:
        raise _no_toml(path, 0, "it is nested too deep") from None
    except ValueError as error:  # TOMLDecodeError is one; so is a number with too many digits
        said = str(error)
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", said)
        last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=1)
        line = int(found[1] or last) if found else 0
        end = " where the file ends" if found and not found[1] else ""
        reason = said[: found.start()] if found else said
        raise _no_toml(path, line, f"{ascii(reason)[1:-1]}{end}") from None


def _no_toml(path: Path, line: int, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use {_place(path, line)}: it is no TOML: {why}; correct it there, or finish writing it",
        data={"path": str(path), "problems": [{"line": line, "key": "", "why": why}]},
    )


def _place(path: Path, line: int) -> str:
    return f"{path}:{line}" if line else str(path)


# -- what is wrong with it ---------------------------------------------------------------------------------------------


def _problems(table: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong, about in the order of the file, which is that of the dicts of tomllib."""
    known = values(Config())
    tables = [each.name for each in structs.fields(Config)]
    for name, content in table.items():
        if name not in tables:
            yield Problem((name,), partial(_unknown, (name,), [*tables, *known]))
        elif not isinstance(content, dict):
            yield Problem((name,), partial(_no_table, name, content))
        else:
            for own, value in content.items():
                key = f"{name}.{own}"
                if key not in known:
                    yield Problem((name, own), partial(_unknown, (name, own), list(known)))
                elif wrong_value(key, value):
                    yield Problem((name, own), partial(wrong_value, key, value))


def _no_table(name: str, content: Any) -> str:
    return f"{name} = {shown(content)}, but it is a table: [{name}]"


def _unknown(names: tuple[str, ...], known: list[str]) -> str:
    """Why the names mean nothing; with the nearest key by its whole name, else by its last part."""
    key = dotted(names)
    by_last = {each.rpartition(".")[2]: each for each in known}
    near = nearest(".".join(names), known) or by_last.get(nearest(names[-1], by_last), "")
    return f"{key} is unknown, " + (f"did you mean {near}?" if near else "see all keys with: cosession config show")


def dotted(names: tuple[str, ...]) -> str:
    """The name of a key as TOML has it, in printable characters."""
    return ".".join(name if _BARE.fullmatch(name) else shown(name) for name in names)


# -- where it stands ---------------------------------------------------------------------------------------------------


def line_of(lines: list[str], names: tuple[str, ...]) -> int:
    """The line on which the key is set, 0 where that is not certain.

    tomllib tells no positions, and a scanner of our own would be a second TOML parser that one day disagrees with the
    first. So a plain search only proposes lines that hold the last part of the name, and tomllib decides: what stands
    above the line must parse without the key, and together with the line it must parse with it. Dotted names, inline
    tables and quoted names are right that way; a value over several lines, or a name spelled with escapes, has no line.
    """
    word = re.compile(rf"(?<![\w-]){re.escape(names[-1])}(?![\w-])")
    proposed = [number for number, line in enumerate(lines, 1) if word.search(line.partition("#")[0] or "")]
    for number in proposed[:_CANDIDATES_MAX]:
        above, with_it = (_parsed(lines[:end]) for end in (number - 1, number))
        if above is not None and not _holds(above, names) and with_it is not None and _holds(with_it, names):
            return number
    return 0


def _parsed(lines: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None


def _holds(table: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        if not isinstance(table, dict) or name not in table:
            return False
        table = table[name]
    return True
