"""Points in time as people type them: `2h` ago, a time of today, a date, seconds since the epoch.

Rule: local time unless a `Z` says otherwise; what cannot be read is an error that shows what can.
"""

from __future__ import annotations

import time
from calendar import timegm

from cosession.errors import InvalidRequest

_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "m", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400.0),
}
_DATES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_TIMES = ("%H:%M:%S", "%H:%M")
_DIGITS_MAX = 15


def moment(text: str, now: float) -> float:
    """Seconds since the Unix epoch; raises InvalidRequest."""
    given = text.strip()
    found = _ago(given, now)
    if found is None:
        found = _at(given, now)
    if found is None or found < 0:
        raise InvalidRequest(
            f"cannot read the time {text[:60]!r}; do: 30s, 5min, 2h, 3d or 1w for so long ago, 14:30 for today, "
            "2026-11-24, '2026-11-24 14:30', with a Z behind it for UTC, or @ and seconds since the epoch"
        )
    return found


def _ago(given: str, now: float) -> float | None:
    """`2h`, `2h ago`, `1.5 h`: so long before now."""
    words = given.removesuffix(" ago").strip()
    digits = words.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = _UNITS.get(words[len(digits) :].strip())
    if unit is None or not digits or len(digits) > _DIGITS_MAX or not digits.replace(".", "", 1).isdecimal():
        return None
    return now - float(digits) * unit


def _at(given: str, now: float) -> float | None:
    if given.startswith("@"):
        digits = given[1:]
        is_number = len(digits) <= _DIGITS_MAX and digits.replace(".", "", 1).isdecimal()
        return float(digits) if is_number else None
    is_utc = given.endswith("Z")
    words = given.removesuffix("Z").replace("T", " ").strip()
    today = time.strftime("%Y-%m-%d", time.gmtime(now) if is_utc else time.localtime(now))
    for form, prefix in (*((form, "") for form in _DATES), *((f"%Y-%m-%d {form}", f"{today} ") for form in _TIMES)):
        try:
            parts = time.strptime(prefix + words, form)
            return float(timegm(parts)) if is_utc else time.mktime(parts)
        except (ValueError, OverflowError):
            continue
    return None
