"""What launchd knows of the user's agents, read: `launchctl list`, `launchctl print`, and their property lists.

Written from launchctl(1), launchd.plist(5) and outputs that others have published; never run on a Mac.

Rule: pure functions of text and of plists; a line of an unknown shape is passed over, since Apple says that `print` is
for people and may change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from cosession.services import endings
from cosession.services.judging import Service, State

#: How far the next time of a calendar is looked for.
_DAYS_MAX: Final = 366
_FIELD: Final = re.compile(r"^\t?([a-z][a-z ]*[a-z]) = (.*)$")
_DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TRIGGERS: Final = ("Sockets", "WatchPaths", "QueueDirectories", "StartOnMount", "MachServices", "LaunchEvents")


def labels(text: str) -> dict[str, tuple[int, int]]:
    """The agents of `launchctl list` by label: pid (0: not running) and last status (-N: ended by signal N)."""
    found = {}
    for line in text.splitlines():
        pid, _, rest = line.partition("\t")
        status, _, label = rest.partition("\t")
        if label and (pid == "-" or pid.isdigit()) and re.fullmatch(r"-?\d+|-", status):
            found[label] = (0 if pid == "-" else int(pid), 0 if status == "-" else int(status))
    return found


def fields(text: str) -> dict[str, str]:
    """The plain fields of `launchctl print`, those at its first level."""
    found: dict[str, str] = {}
    depth = 0
    for line in text.splitlines():
        if line.rstrip().endswith("{"):
            depth += 1
        elif line.strip() == "}":
            depth -= 1
        elif depth == 1 and (match := _FIELD.match(line)):
            found.setdefault(match[1], match[2].strip())
    return found


def service(label: str, domain: str, said: Mapping[str, str], plist: Mapping[str, Any], *, now: datetime) -> Service:
    """One agent: `said` is what `print` told of it, empty where it is not loaded; `domain` as in `gui/501`."""
    state, reason = _judged(said, plist)
    log = said.get("stderr path") or said.get("stdout path") or plist.get("StandardErrorPath") or ""
    file = said.get("path", "") or str(plist.get("", ""))
    upcoming = next_time(plist.get("StartCalendarInterval"), now)
    return Service(
        name=label,
        state=state,
        reason=reason,
        purpose=str(plist.get("Comment") or said.get("program") or plist.get("Program") or _program(plist)),
        pid=_number(said.get("pid", "")),
        trigger=_trigger(plist),
        next_s=upcoming.timestamp() if upcoming else 0.0,
        log=str(log or plist.get("StandardOutPath") or "none"),
        file=file,
        commands={
            "status": f"launchctl print {domain}/{label}",
            "logs": f"tail -n 50 {log}" if log else "its plist names no log",
            "restart": f"launchctl kickstart -k {domain}/{label}",
        },
    )


def _judged(said: Mapping[str, str], plist: Mapping[str, Any]) -> tuple[State, str]:
    if not said:
        return "UNKNOWN", "it is not loaded"
    if _number(said.get("pid", "")) or said.get("state") == "running":
        return "HEALTHY", "running"
    killed = re.search(r": (\d+)$", said.get("last terminating signal", ""))
    if killed:
        return "FAILED", endings.of_signal(int(killed[1]))
    code = re.match(r"-?\d+", said.get("last exit code", ""))
    if code and int(code[0]):
        return "FAILED", endings.of_code(int(code[0]))
    if said.get("state") == "spawn failed":
        return "FAILED", "its program could not be started"
    if _has_trigger(plist):
        return "IDLE", f"waits: {_trigger(plist)}"
    if plist.get("KeepAlive") is True:
        return "UNKNOWN", f"it is kept alive and does not run ({said.get('state', 'nobody knows why')})"
    return "IDLE", "nothing starts it by itself"


def _has_trigger(plist: Mapping[str, Any]) -> bool:
    return any(plist.get(key) for key in ("StartInterval", "StartCalendarInterval", *_TRIGGERS))


def _trigger(plist: Mapping[str, Any]) -> str:
    """What starts it, in words."""
    found = []
    if plist.get("KeepAlive"):
        found.append("kept alive")
    if isinstance(plist.get("StartInterval"), int):
        found.append(f"every {plist['StartInterval']} s")
    found += [f"at {_when(each)}" for each in _calendar(plist.get("StartCalendarInterval"))]
    found += [f"by {key}" for key in _TRIGGERS if plist.get(key)]
    if plist.get("RunAtLoad"):
        found.append("at login")
    return ", ".join(found) or "by hand, or by others"


def _when(rule: Mapping[str, int]) -> str:
    hour, minute = rule.get("Hour"), rule.get("Minute")
    time = f"{'*' if hour is None else f'{hour:02}'}:{'*' if minute is None else f'{minute:02}'}"
    weekday = rule.get("Weekday")
    day = "" if weekday is None else _DAYS[weekday]
    date = f"day {rule['Day']}" if "Day" in rule else ""
    month = f"month {rule['Month']}" if "Month" in rule else ""
    return " ".join(filter(None, (month, date, day, time)))


def next_time(rules: Any, now: datetime) -> datetime | None:
    """When a StartCalendarInterval comes next, behind `now`; None where there is none. A missing part is any."""
    found = [_next(each, now) for each in _calendar(rules)]
    return min(filter(None, found), default=None)


def _next(rule: Mapping[str, int], now: datetime) -> datetime | None:
    first = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for days in range(_DAYS_MAX + 1):
        day = first + timedelta(days=days)
        fits = (
            rule.get("Month", day.month) == day.month
            and rule.get("Day", day.day) == day.day
            and rule.get("Weekday", day.isoweekday()) % 7 == day.isoweekday() % 7
        )
        if not fits:
            continue
        for hour in range(24) if "Hour" not in rule else (rule["Hour"],):
            for minute in range(60) if "Minute" not in rule else (rule["Minute"],):
                at = day.replace(hour=hour, minute=minute)
                if at >= first:
                    return at
    return None


def _calendar(rules: Any) -> list[dict[str, int]]:
    """The rules that can be: whole numbers within their bounds."""
    bounds = {"Minute": 59, "Hour": 23, "Day": 31, "Weekday": 7, "Month": 12}
    rules = rules if isinstance(rules, list) else [rules]
    return [
        each
        for each in rules
        if isinstance(each, dict)
        and all(key in bounds and isinstance(part, int) and 0 <= part <= bounds[key] for key, part in each.items())
    ]


def _program(plist: Mapping[str, Any]) -> str:
    arguments = plist.get("ProgramArguments")
    return str(arguments[0]) if isinstance(arguments, list) and arguments else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004 - 64 bits
