"""What the daemon measures as OpenMetrics text, and the numbers that people want of a latency.

The format: https://prometheus.io/docs/specs/om/open_metrics_spec/.

Rule: pure; names and units are fixed here, since whoever keeps them for years goes by them. Base units only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

PREFIX = "cosession_"
#: What a counter of the daemon begins with, the family it goes into, its label, and what it is.
FAMILIES = (
    ("error.", "errors", "code", "Errors answered, by their code."),
    ("limit.", "limit_refusals", "limit", "What a limit has refused."),
    ("near_limit.", "near_limits", "limit", "How often something bounded came to 80 %."),
    ("", "events", "event", "Other things that happened."),
)
#: What a gauge is, by its name; those of the daemon in milliseconds become seconds.
GAUGES = {
    "connections": "Open connections.",
    "watches": "Watches of all connections.",
    "sessions": "Sessions that are alive.",
    "entries": "Live entries.",
    "live_bytes": "Bytes of live keys and values.",
    "database_bytes": "Bytes of the database in use, with log and history.",
    "surplus_batches": "Batches of the log that are still to be trimmed.",
    "commit_queue": "Batches that wait for their commit.",
    "read_queue": "Reads of the past that wait.",
    "turns": "Turns given and waited for.",
    "commit_stall_max_ms": "The longest time that a commit waited for upkeep.",
    "commit_stall_p99_ms": "What 99 of the last 100 commits did not wait longer than for upkeep.",
    "disk_free_bytes": "Bytes free on the disk, beside the reserve.",
    "reserve_bytes": "Bytes held for a full disk.",
    "revision": "The revision of the store.",
}
_LATENCIES = {
    "request": "From the call to its answer, by method; some methods wait on purpose.",
    "commit": "One group of batches on the thread of the store.",
    "fsync": "Of that, until the disk had it.",
}


def text(reply: dict[str, Any]) -> str:
    """The whole exposition, with its end mark."""
    return "".join(f"{line}\n" for line in [*_families(reply), "# EOF"])


def _families(reply: dict[str, Any]) -> Iterator[str]:
    yield from _head("build", "info", "Which daemon this is.")
    yield f"{PREFIX}build_info{_labels(version=reply['version'])} 1"
    yield from _gauge("timestamp_seconds", reply["timestamp"], "The wall clock when this was measured.")
    yield from _gauge("uptime_seconds", reply["uptime_s"], "How long the daemon has run.")
    for gauge in reply["gauges"]:
        name, value = gauge["name"], gauge["value"]
        about = GAUGES.get(name, "")
        if name.endswith("_ms"):
            name, value = f"{name[:-3]}_seconds", round(value / 1000, 9)
        yield from _gauge(name, value, about)
    yield from _head("limit", "gauge", "What bounds a gauge, where something does.")
    for gauge in reply["gauges"]:
        if gauge["limit"] is not None:
            yield f"{PREFIX}limit{_labels(name=gauge['name'])} {_number(gauge['limit'])}"
    for prefix, family, label, about in FAMILIES:
        yield from _head(family, "counter", about)
        for name, number in reply["counters"].items():
            if _family_of(name) == family:
                yield f"{PREFIX}{family}_total{_labels(**{label: name[len(prefix) :]})} {_number(number)}"
    yield from _latencies(reply)


def _family_of(name: str) -> str:
    return next(family for prefix, family, _, _ in FAMILIES if name.startswith(prefix))


def _gauge(name: str, value: float, about: str) -> Iterator[str]:
    yield from _head(name, "gauge", about)
    yield f"{PREFIX}{name} {_number(value)}"


def _latencies(reply: dict[str, Any]) -> Iterator[str]:
    bounds = [*map(_number, reply["bounds_s"]), "+Inf"]
    for family, about in _LATENCIES.items():
        yield from _head(f"{family}_duration_seconds", "histogram", about)
        for name, latency in reply["latencies"].items():
            kind, _, method = name.partition(".")
            if kind == family:
                labels = {"method": method} if method else {}
                yield from _histogram(f"{PREFIX}{family}_duration_seconds", labels, latency, bounds)


def _histogram(name: str, labels: dict[str, str], latency: dict[str, Any], bounds: Sequence[str]) -> Iterator[str]:
    below = 0
    for bound, count in zip(bounds, latency["buckets"], strict=True):
        below += count
        yield f"{name}_bucket{_labels(**labels, le=bound)} {below}"
    yield f"{name}_count{_labels(**labels)} {below}"
    yield f"{name}_sum{_labels(**labels)} {_number(latency['sum_s'])}"


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# TYPE {PREFIX}{name} {kind}"
    unit = name.rpartition("_")[2]
    if unit in ("seconds", "bytes"):
        yield f"# UNIT {PREFIX}{name} {unit}"
    if about:
        yield f"# HELP {PREFIX}{name} {about}"


def _labels(**labels: str) -> str:
    """Names in the order given; values with what ends them escaped."""
    shown = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels.items()
    )
    return f"{{{shown}}}" if shown else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def percentile_s(latency: dict[str, Any], bounds_s: Sequence[float], part: float) -> float:
    """What such a part of the times was not longer than, as far as the buckets tell: the bound of one, or the most."""
    left = part * latency["count"]
    for bound, count in zip(bounds_s, latency["buckets"], strict=False):
        left -= count
        if left <= 0:
            return float(min(bound, latency["max_s"]))
    return float(latency["max_s"])


def summaries(reply: dict[str, Any], parts: Iterable[tuple[str, float]]) -> dict[str, dict[str, Any]]:
    """The latencies by name, with these percentiles."""
    return {
        name: {
            **{of: latency[of] for of in ("count", "sum_s", "max_s")},
            **{label: percentile_s(latency, reply["bounds_s"], part) for label, part in parts},
        }
        for name, latency in reply["latencies"].items()
    }
