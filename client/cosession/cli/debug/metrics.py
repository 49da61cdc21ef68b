"""`cosession debug metrics`: how full each limit is, what was counted, how long things took; for people.

Rule: the numbers are those of `cosession metrics`.
"""

from __future__ import annotations

from cosession.cli import openmetrics, render
from cosession.cli.metrics import PARTS, ask, shown
from cosession.cli.options import Given, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The daemon warns at 80 %.
NEAR = 0.8


def run(given: Given) -> int:
    """Print gauges, latencies, then counters; exit 69 when no daemon is running."""
    reply = ask(given)
    if given.flag("--json"):
        render.json_line(shown(reply))
        return 0
    rows = [(each["name"], f"{each['value']:,.0f}", _limit(each), _share(each)) for each in reply["gauges"]]
    render.table(("GAUGE", "NOW", "LIMIT", "FULL"), rows)
    render.line()
    render.table(
        ("LATENCY", "COUNT", "P50", "P99", "MOST"),
        [
            (name, f"{each['count']:,}", *(f"{each[of] * 1000:.2f} ms" for of in ("p50_s", "p99_s", "max_s")))
            for name, each in openmetrics.summaries(reply, PARTS).items()
        ],
    )
    render.line()
    counters = [(name, f"{number:,}") for name, number in reply["counters"].items()]
    if counters:
        render.table(("COUNTER", "SINCE THE START"), counters)
    else:
        render.line("nothing was counted since the start")
    return 0


def _limit(gauge: dict[str, Any]) -> str:
    return "-" if gauge["limit"] is None else f"{gauge['limit']:,.0f}"


def _share(gauge: dict[str, Any]) -> str:
    if gauge["full"] is None:
        return "-"
    text = f"{gauge['full']:.1%}"
    return f"{text} near its limit" if gauge["full"] >= NEAR else text


METRICS = Verb(
    "debug metrics",
    "",
    run,
    summary="Show what the daemon counts and measures, and how full each of its limits is.",
    text="`limit.NAME` counts what a limit has refused, `near_limit.NAME` how often it came to 80 %, `error.CODE` the\n"
    "errors that were answered. Latencies are told by buckets, so that a percentile is the bound of one. Methods that\n"
    "wait on purpose (audit, turn, claim.acquire, debug.tail and others) count what they waited.",
    examples=(("cosession debug metrics", "is anything getting full or slow"),),
)
