"""What systemctl says of user units, read: `list-unit-files`, `list-units` and `list-timers` as JSON, `show` as text.

Written for systemd 247 (Debian 11) and newer; `tests/data/services` has what 252 really printed.

Rule: pure functions of text; a field that is not there is empty, and what cannot be read at all is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from cosession.errors import CosessionError
from cosession.services import endings
from cosession.services.judging import Service, State

#: What `show` is asked for.
PROPERTIES: Final = (
    *("Id", "Description", "LoadState", "LoadError", "ActiveState", "SubState", "Result", "Type", "MainPID"),
    *("ExecMainCode", "ExecMainStatus", "NRestarts", "UnitFileState", "FragmentPath", "TriggeredBy"),
    *("StateChangeTimestamp", "StandardOutput"),
)
#: How a unit that starts another is called, by its kind.
_TRIGGERS: Final = {"timer": "by time", "socket": "by its socket", "path": "by a file"}
#: `si_code` of waitid(2): how the main process ended.
_EXITED: Final = "1"


def names(text: str) -> list[str]:
    """The units that `list-unit-files` or `list-units` lists as JSON."""
    return [str(row.get("unit_file") or row.get("unit") or "") for row in _rows(text)]


def next_times(text: str) -> dict[str, float]:
    """When each timer elapses next, in seconds since the Unix epoch, as `list-timers` says."""
    found = {}
    for row in _rows(text):
        at = row.get("next")
        if isinstance(at, int) and 0 < at < 2**63:
            found[str(row.get("unit", ""))] = at / 1e6
    return found


def blocks(text: str) -> list[dict[str, str]]:
    """The units that `show` tells of, each as its properties."""
    found: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        if not line:
            found.append({})
            continue
        name, equals, value = line.partition("=")
        if equals:
            found[-1][name] = value
    return [each for each in found if each.get("Id")]


def services(units: Iterable[Mapping[str, str]], times: Mapping[str, float]) -> list[Service]:
    """Every service among the units of `show`, by name; the timers and sockets beside them say what starts it."""
    by_name = {each["Id"]: each for each in units}
    return [_service(each, by_name, times) for name, each in sorted(by_name.items()) if name.endswith(".service")]


def _service(unit: Mapping[str, str], by_name: Mapping[str, Mapping[str, str]], times: Mapping[str, float]) -> Service:
    name = unit["Id"]
    triggers = unit.get("TriggeredBy", "").split()
    # A trigger that was not asked about counts as armed: it is what loaded the unit.
    armed = [each for each in triggers if by_name.get(each, {}).get("ActiveState", "active") == "active"]
    state, reason = _judged(unit, triggers, armed)
    upcoming = [times[each] for each in armed if each in times]
    return Service(
        name=name,
        state=state,
        reason=reason,
        purpose=unit.get("Description", ""),
        pid=_number(unit.get("MainPID", "")),
        trigger=", ".join(f"{_TRIGGERS.get(each.rpartition('.')[2], 'by')} ({each})" for each in triggers) or _on(unit),
        next_s=min(upcoming, default=0.0),
        since_s=float(_number(unit.get("StateChangeTimestamp", "").removeprefix("@"))),
        log=_log(unit),
        file=unit.get("FragmentPath", ""),
        commands={
            "status": f"systemctl --user status {name}",
            "logs": f"journalctl --user --unit {name}",
            "restart": f"systemctl --user restart {name}",
        },
    )


def _judged(unit: Mapping[str, str], triggers: list[str], armed: list[str]) -> tuple[State, str]:
    """How it is, and why."""
    load, active, sub = (unit.get(key, "") for key in ("LoadState", "ActiveState", "SubState"))
    if load in ("not-found", "masked") or (load and load != "loaded"):
        said = unit.get("LoadError", "").partition(" ")[2].strip('"')
        return "UNKNOWN", said or f"its unit is {load}"
    if active == "failed":
        return "FAILED", _ending(unit)
    if sub == "auto-restart":
        times = _number(unit.get("NRestarts", ""))
        return "FAILED", f"{_ending(unit)}; it is tried again, {times} times so far"
    if active in ("active", "reloading"):
        return "HEALTHY", "running" if sub == "running" else f"active ({sub})"
    if active == "inactive" and unit.get("Result", "success") not in ("success", "exec-condition", "condition"):
        return "FAILED", _ending(unit)
    if active == "inactive" and armed:
        return "IDLE", f"waits for {', '.join(armed)}"
    if active == "inactive" and triggers:
        return "UNKNOWN", f"what starts it does not run: {', '.join(triggers)}"
    if active == "inactive" and unit.get("UnitFileState") in ("enabled", "enabled-runtime", "linked", "linked-runtime"):
        return "UNKNOWN", "it is enabled and does not run: stopped by hand, or never started"
    if active == "inactive":
        return "IDLE", "nothing starts it by itself"
    return "UNKNOWN", f"{active or 'nothing is known of it'}{f' ({sub})' if sub else ''}"


def _ending(unit: Mapping[str, str]) -> str:
    """How its last run ended."""
    result = endings.of_result(unit.get("Result", ""))
    code, status = unit.get("ExecMainCode", ""), _number(unit.get("ExecMainStatus", ""))
    if code in ("", "0"):
        how = ""
    elif code == _EXITED:
        how = endings.of_code(status)
    else:
        how = endings.of_signal(status)
    return ", ".join(filter(None, (result, how))) or f"its result is {unit.get('Result', 'not known')}"


def _on(unit: Mapping[str, str]) -> str:
    if unit.get("UnitFileState") == "enabled":
        return "at login"
    return "by hand, or by others"


def _log(unit: Mapping[str, str]) -> str:
    output = unit.get("StandardOutput", "")
    return "journal" if output in ("", "journal", "inherit", "kmsg") or output.startswith("journal") else output


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004 - 64 bits


def _rows(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        raise CosessionError(
            f"cannot read what systemctl says: it is no JSON ({text.strip()[:60]!r}); systemd 246 or newer is needed",
            code="parse_error",
        ) from None
    if not isinstance(found, list):
        raise CosessionError(
            "cannot read what systemctl says: it is no list; look by hand: systemctl --user", code="parse_error"
        )
    return [row for row in found if isinstance(row, dict)]
