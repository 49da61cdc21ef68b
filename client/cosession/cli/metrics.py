"""`cosession metrics`: what the daemon counts and measures, for a monitor: OpenMetrics text, or JSON.

Rule: one question, and over within a second, since what asks it does so again and again. For people there is
`debug metrics`.
"""

from __future__ import annotations

import sys

from cosession.cli import openmetrics, render
from cosession.cli.line import Line
from cosession.cli.options import TIMEOUT_S_MAX, Given, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WITHIN_S = 1.0
PARTS = (("p50_s", 0.5), ("p90_s", 0.9), ("p99_s", 0.99))


def run(given: Given) -> int:
    """Print everything; exit 69 when no daemon is running."""
    reply = ask(given)
    if given.flag("--json"):
        render.json_line(shown(reply))
    elif sys.stdout is not None:
        sys.stdout.write(render.escape(openmetrics.text(reply), keep="\n"))
    return 0


def ask(given: Given) -> dict[str, Any]:
    """What the daemon measures, asked within a second unless the user says otherwise."""
    within_s = given.number("--timeout", WITHIN_S, low=0.001, high=TIMEOUT_S_MAX)
    return Line(given, spawn=False, timeout_s=within_s).ask("debug.metrics", {})


def shown(reply: dict[str, Any]) -> dict[str, Any]:
    """As one JSON object."""
    named = ("timestamp", "uptime_s", "version", "revision", "gauges", "counters")
    return {**{name: reply[name] for name in named}, "latencies": openmetrics.summaries(reply, PARTS)}


METRICS = Verb(
    "metrics",
    "",
    run,
    summary="Print what the daemon counts and measures, as OpenMetrics text or (--json) as one object.",
    text="It gives up after a second unless --timeout says otherwise, and never starts a daemon. Exit code 69 when\n"
    "none is running. For people: cosession debug metrics.",
    examples=(
        ("cosession metrics", "OpenMetrics, as Prometheus and others read it"),
        ("cosession metrics --json", "timestamp, uptime_s, gauges, counters, latencies"),
    ),
)
