"""What `--at` and `--to` take: a revision, or a time in words that becomes one.

    41                                a revision
    "2h ago", "90 min ago", "3 d ago" counted from now, in s, min, h or d
    "yesterday 14:00", "14:00"        local time; without a day it is today
    "2026-11-24", "2026-11-24 14:00"  local time, also with a T between and with seconds

Rule: on the fast path and exact: what is not of these forms is refused with examples, never guessed at.
"""

from __future__ import annotations

from time import localtime, mktime, time

from cosession.cli.options import DIGITS_MAX, usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cosession.cli.line import Line
    from cosession.cli.options import Given

FORMS = 'a revision, "2h ago", "yesterday 14:00", "14:00", "2026-11-24" or "2026-11-24 14:00"'
_UNITS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_YEAR_MIN, _YEAR_MAX = 1970, 9999


def revision_of(given: Given, option: str, line: Line) -> int:
    """The revision that the option names, 0 when it is not given; a time is looked up by the daemon."""
    text = given.text(option).strip()
    if not given.flag(option):
        return 0
    if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX and int(text) < 2**63:
        return int(text)
    moment = seconds_of(text, time())
    if moment is None:
        raise usage_error(given.verb, f"{option} takes {FORMS}, not {text!r}")
    revision: int = line.ask("revision_at", {"time": moment})["at_revision"]
    line.again()
    return revision


def seconds_of(text: str, now: float) -> float | None:
    """Seconds since the epoch, None for what is no time."""
    words = text.replace("T", " ", 1).split() if text[:1].isdigit() and "T" in text else text.split()
    if words[-1:] == ["ago"]:
        return _ago("".join(words[:-1]), now)
    if words[:1] == ["yesterday"] and len(words) == 2:  # noqa: PLR2004
        today = localtime(now)
        return _at((today.tm_year, today.tm_mon, today.tm_mday - 1), words[1])
    if len(words) == 1 and ":" in words[0]:
        return _at(localtime(now)[:3], words[0])
    if 1 <= len(words) <= 2:  # noqa: PLR2004
        day = _numbers(words[0], "-", (4, 2, 2))
        if day is None or not _YEAR_MIN <= day[0] <= _YEAR_MAX:
            return None
        moment = _at((day[0], day[1], day[2]), words[1] if len(words) > 1 else "00:00")
        return moment if moment is not None and localtime(moment)[:3] == tuple(day) else None  # no 30 February
    return None


def _ago(text: str, now: float) -> float | None:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = _UNITS.get(text[len(digits) :])
    if unit is None or not (digits.isascii() and digits.isdigit() and len(digits) <= DIGITS_MAX):
        return None
    return max(now - int(digits) * unit, 0.0)


def _at(day: tuple[int, ...], clock: str) -> float | None:
    """Local time of a day, `HH:MM` or `HH:MM:SS`."""
    parts = _numbers(clock, ":", (2, 2)) or _numbers(clock, ":", (2, 2, 2))
    if parts is None or parts[0] > 23 or max(parts[1:]) > 59:  # noqa: PLR2004
        return None
    hour, minute, *second = parts
    try:
        return mktime((day[0], day[1], day[2], hour, minute, second[0] if second else 0, 0, 0, -1))
    except (OverflowError, ValueError):
        return None


def _numbers(text: str, separator: str, widths: tuple[int, ...]) -> list[int] | None:
    parts = text.split(separator)
    if [len(part) for part in parts] != list(widths) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return [int(part) for part in parts]
