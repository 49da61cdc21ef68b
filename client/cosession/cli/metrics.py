"""`cosession metrics`: what the daemon counts, and how full each of its limits is.

Rule: all of it comes from one `status`; nothing is added up here but the share of a limit.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Each number of `status` that goes up and down, and the key of the limit that bounds it; "" where that is per
#: connection, or fixed.
GAUGES = (
    ("connections", "limits.connections_max"),
    ("watches", ""),
    ("sessions", ""),
    ("entries", "limits.live_entries_max"),
    ("live_bytes", "limits.live_bytes_max"),
    ("database_bytes", "limits.database_bytes_max"),
    ("disk_free_bytes", ""),
    ("reserve_bytes", ""),
    ("revision", ""),
    ("uptime_s", ""),
)
#: `metrics` of the daemon warns at 80 %.
NEAR = 0.8


def run(given: Given) -> int:
    """Print gauges, then counters; exit 69 when no daemon is running."""
    status = Line(given, spawn=False).ask("status", {})
    gauges = _gauges(status)
    if given.flag("--json"):
        render.json_line({"gauges": gauges, "counters": status["counters"]})
        return 0
    rows = [(each["name"], _number(each["value"]), _limit(each), _share(each)) for each in gauges]
    render.table(("GAUGE", "NOW", "LIMIT", "FULL"), rows)
    render.line()
    counters = [(name, f"{number:,}") for name, number in status["counters"].items()]
    if counters:
        render.table(("COUNTER", "SINCE THE START"), counters)
    else:
        render.line("nothing was counted since the start")
    return 0


def _gauges(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, value, limit (null without one) and `full`, the share of it from 0 to 1."""
    found = []
    for name, key in GAUGES:
        value = status.get(name, 0)
        limit = status.get("config", {}).get(key)  # a daemon of an older version does not say
        found.append({"name": name, "value": value, "limit": limit, "full": round(value / limit, 4) if limit else None})
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _limit(gauge: dict[str, Any]) -> str:
    return "-" if gauge["limit"] is None else _number(gauge["limit"])


def _share(gauge: dict[str, Any]) -> str:
    if gauge["full"] is None:
        return "-"
    text = f"{gauge['full']:.1%}"
    return f"{text} near its limit" if gauge["full"] >= NEAR else text


METRICS = Verb(
    "metrics",
    "",
    run,
    summary="Show what the daemon counts, and how full each of its limits is.",
    text="`limit.NAME` counts what a limit has refused, `near_limit.NAME` how often it came to 80 %, `error.CODE` the\n"
    "errors that were answered. It never starts a daemon. Exit code 69 when none is running.",
    examples=(
        ("cosession metrics", "is anything getting full"),
        ("cosession metrics --json", "for a monitor: gauges with value, limit and share; counters by name"),
    ),
)
