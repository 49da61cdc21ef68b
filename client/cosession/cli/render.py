"""What people see: escaping, colour, tables, relative times; and the one way to standard output.

Whatever was stored by someone else (a key, a value, a name, a message) can hold terminal escapes, bidirectional
overrides or line breaks that fake a line of ours. `escape` makes them visible, in the notation of JSON strings, so that
escaped JSON text is still the same JSON.

Rule: a foreign string is printed through `escape` (or `json_text` and `table`, which use it), whatever it may hold.
"""

from __future__ import annotations

import os
import sys

from cosession.cli import data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TextIO

WIDTH_MIN = 40
#: A column of text is not made narrower than this in a table, nor the last one than that.
CELL_CELLS_MIN = 10
LAST_CELLS_MIN = 12
KIB = 1024
#: The first code point that JSON escapes as two (RFC 8259, section 7).
ASTRAL = 0x10000
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def escape(text: str, *, keep: str = "") -> str:
    """`text` with everything that is not plainly visible as a JSON escape, except the characters in `keep`.

    Visible is what Unicode calls so: no controls, no format characters (bidi, zero width, tags), no surrogates, nothing
    unassigned. Where standard output is not UTF-8, only ASCII is visible.
    """
    if text.isascii() and text.isprintable():
        return text
    ascii_only = not is_utf8()
    if text.isprintable() and not ascii_only:
        return text
    return "".join(char if char in keep or _is_visible(char, ascii_only) else _escaped(char) for char in text)


def _is_visible(char: str, ascii_only: bool) -> bool:  # noqa: FBT001 (private, called once per character)
    if ascii_only or char <= "\x9f":
        return " " <= char <= "~"
    # Unicode's wide and narrow blanks are not "printable" to Python, but harmless and common in some scripts.
    return char.isprintable() or (char.isspace() and char not in "\u2028\u2029")


def _escaped(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code < ASTRAL:
        return f"\\u{code:04x}"
    code -= ASTRAL
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def is_utf8(stream: TextIO | None = None) -> bool:
    """Whether a stream, standard output unless another is named, takes any character.

    In the locale C Python writes UTF-8 (PEP 540), which is right for a file or a pipe; a terminal takes what its locale
    says, and no more.
    """
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "ascii"
    if encoding.lower().replace("-", "").replace("_", "") not in {"utf8", "utf8sig"}:
        return False
    return not (stream and stream.isatty()) or _is_locale_utf8(os.environ)


def _is_locale_utf8(env: Mapping[str, str]) -> bool:
    """Whether the locale of the user is one of UTF-8."""
    if env.get("PYTHONUTF8") == "1":
        return True
    named = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C"
    if sys.flags.utf8_mode and not env.get("LC_ALL") and env.get("LC_CTYPE") == "C.UTF-8":
        named = env.get("LANG") or "C"  # LC_CTYPE is Python's own word, instead of C (PEP 538)
    return "utf8" in named.lower().replace("-", "")


def is_terminal() -> bool:
    """Whether a person is looking at standard output."""
    return sys.stdout is not None and sys.stdout.isatty()


def has_colour() -> bool:
    """Colour is for terminals that know it, and for nobody who set NO_COLOR (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str) -> str:
    """`text` in a style, where there is colour."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if has_colour() else text


def terminal_width() -> int:
    """Columns of the terminal; 0 where there is none, which means: cut nothing."""
    if not is_terminal():
        return 0
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return max(int(columns), WIDTH_MIN)
    try:
        return max(os.get_terminal_size(1).columns, WIDTH_MIN)
    except OSError:
        return 80


def line(text: str = "") -> None:
    """One line to standard output, of text that is ours or escaped."""
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line to standard error, for what is neither result nor error."""
    if sys.stderr is not None:
        sys.stderr.write(escape(f"cosession: {text}") + "\n")
        sys.stderr.flush()


def json_text(value: Any) -> str:
    """JSON on one line that is safe to show."""
    return escape(data.dumps(value))


def json_line(value: Any) -> None:
    """One JSON object as a line of standard output."""
    line(json_text(value))


def brief(value: Any) -> str:
    """A stored value for a table: a string bare, anything else as JSON, on one line."""
    return escape(value) if isinstance(value, str) else json_text(value)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """`text` cut to `width` columns, with a mark where something is missing."""
    if width <= 0 or cells(text) <= width:
        return text
    mark = "\u2026" if is_utf8() else "..."
    while text and cells(text) > width - len(mark):
        text = text[: max(width - len(mark), 0)] if len(text) > width else text[:-1]
    return text + mark


def cut_head(text: str, width: int) -> str:
    """`text` cut to `width` columns with its end kept, where names that begin alike differ."""
    if cells(text) <= width:
        return text
    mark = "\u2026" if is_utf8() else "..."
    while text and cells(text) > width - len(mark):
        text = text[1:]
    return mark + text


def pad(text: str, width: int) -> str:
    """`text` filled with blanks to `width` columns."""
    return text + " " * (width - cells(text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns; every cell is escaped. What is too wide for the terminal is cut, the last column first, numbers
    never; where that leaves too little each row becomes lines of its own.
    """
    body = [[escape(cell) for cell in row] for row in rows]
    room = terminal_width()
    columns = list(zip(head, *body, strict=True))
    widths = _fitted(columns, room) if room else [max(map(cells, column)) for column in columns]
    if not widths:
        _stacked(head, body, room)
        return
    for index, row in enumerate([list(head), *body]):
        shown = [_narrow(cell, width) if room else cell for cell, width in zip(row, widths, strict=True)]
        text = "  ".join(pad(cell, width) for cell, width in zip(shown, widths, strict=True)).rstrip()
        line(paint(text, "dim") if index == 0 else text)


def _fitted(columns: list[tuple[str, ...]], room: int) -> list[int]:
    """How wide each column may be; nothing when they do not fit side by side."""
    widths = [max(map(cells, column)) for column in columns]
    over = sum(widths) + 2 * (len(widths) - 1) - room
    last = len(widths) - 1
    texts = [index for index in range(last) if not all(map(_is_number, columns[index][1:]))]
    for index in (last, *sorted(texts, key=lambda index: -widths[index])):
        least = max(cells(columns[index][0]), LAST_CELLS_MIN if index == last else CELL_CELLS_MIN)
        spare = min(max(over, 0), max(widths[index] - least, 0))
        widths[index] -= spare
        over -= spare
    return widths if over <= 0 else []


def _is_number(cell: str) -> bool:
    return not any(char.isalpha() for char in cell)


def _narrow(cell: str, width: int) -> str:
    """Of a path the end is kept: names that lie together begin alike."""
    return cut_head(cell, width) if "/" in cell else cut(cell, width)


def _stacked(head: Sequence[str], rows: list[list[str]], room: int) -> None:
    """Each row as lines of a name and a value, with a blank line between two rows."""
    wide = max(map(cells, head))
    for index, row in enumerate(rows):
        if index:
            line()
        for name, cell in zip(head, row, strict=True):
            line(f"{paint(pad(name, wide), 'dim')}  {_narrow(cell, room - wide - 2)}".rstrip())


def span(seconds: float) -> str:
    """A duration in its largest unit: `40 ms`, `3 s`, `2 min`, `5 h`, `3 d`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(seconds, 0.0) * 1000:.0f} ms"


def ago(then: float, now: float) -> str:
    """How long ago, for people: `just now`, `3 s ago`. The wall clock may have been set meanwhile."""
    return "just now" if now - then < 1.0 else f"{span(now - then)} ago"


def size(count: int) -> str:
    """Bytes for people: `512 B`, `2.3 KiB`."""
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < KIB:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= KIB
    return f"{number:.1f} GiB"


def count(number: int, noun: str) -> str:
    """`1 watch`, `2 watches`, `3 entries`."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number:,} {noun}"
