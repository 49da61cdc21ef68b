"""`cosession debug ping`: is the daemon's event loop alive, and how far away, and how that is spread.

Rule: on the fast path; it measures round trips on one open connection and never starts a daemon.
"""

from __future__ import annotations

from time import perf_counter, sleep

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb

COUNT_MAX = 1_000_000
#: Fewer are no distribution.
SPREAD_MIN = 5
BAR_CELLS = 24


def run(given: Given) -> int:
    """Ping; print one line, with --count the minimum, median and maximum."""
    count = given.integer("--count", 1, low=1, high=COUNT_MAX)
    interval_s = given.number("--interval", 0.0, high=3600.0)
    line = Line(given, spawn=False)
    reply = line.ask("ping", {})  # opens the connection; what is measured is the way there and back
    took_ms = []
    for index in range(count):
        if index and interval_s:
            sleep(interval_s)
        line.again()
        began = perf_counter()
        reply = line.ask("ping", {})
        took_ms.append((perf_counter() - began) * 1000)
    took_ms.sort()
    low, median, high = took_ms[0], took_ms[(len(took_ms) - 1) // 2], took_ms[-1]
    if given.flag("--json"):
        times = {"min_ms": round(low, 4), "median_ms": round(median, 4), "max_ms": round(high, 4)}
        spread = [{"up_to_ms": bound, "count": number} for bound, number in histogram(took_ms)]
        render.json_line({**reply, "socket": line.path, "count": count, **times, "histogram": spread})
        return 0
    who = f"cosessiond {reply['version']}, pid {reply['pid']}"
    took = f"{median:.3f} ms" if count == 1 else f"{count} pings: min {low:.3f}, median {median:.3f}, max {high:.3f} ms"
    render.line(f"{render.escape(who)}: {took}")
    if count >= SPREAD_MIN:
        _show(histogram(took_ms))
    return 0


def histogram(took_ms: list[float]) -> list[tuple[float, int]]:
    """Upper bounds in milliseconds, 1, 2 and 5 of each power of ten, from the first that one is below to the last."""
    found: list[tuple[float, int]] = []
    left = sorted(took_ms)
    step = 0
    while left:
        bound = (1, 2, 5)[step % 3] * 10 ** (step // 3) / 1000
        below = sum(each <= bound for each in left)
        if below or found:
            found.append((bound, below))
        left = left[below:]
        step += 1
    return found


def _show(found: list[tuple[float, int]]) -> None:
    most = max(number for _, number in found)
    for bound, number in found:
        bar = "#" * max(round(BAR_CELLS * number / most), number > 0)
        render.line(f"  up to {bound:>8g} ms  {number:>7,}  {bar}".rstrip())


PING = Verb(
    "debug ping",
    "",
    run,
    summary="Measure the round trip to the daemon's event loop.",
    text="It never starts a daemon; exit code 69 when none is running.",
    options=(
        Option("--count", "N", "ping N times on one connection: min, median, max, histogram"),
        Option("--interval", "S", "wait S seconds between two pings"),
    ),
    examples=(
        ("cosession debug ping", "once"),
        ("cosession debug ping --count 1000", "a thousand times, as a histogram"),
    ),
)
