"""`cosession metrics`: judged by the parser of Prometheus, held against what the daemon did; the exporter of README."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed

from cli.conftest import Cli
from cosession.cli import metrics, openmetrics
from cosessiond.metrics import BOUNDS_S
from cosessiond.metrics import Metrics as Counted
from harness import Daemon
from rawclient import Pack
from server.daemons import serving
from source_tree import ROOT

EXPORTER = re.compile(r"^```python exporter\.py\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def busy() -> Iterator[Daemon]:
    """A daemon with four entries, which is all it may have, and one that it refused."""
    with serving(live_entries_max=4, connections_max=8) as daemon:
        with Pack(daemon.socket) as peer:
            for number in range(4):
                peer.reply("put", key=f"k{number}", value=1)
            assert peer.code("put", key="k4", value=1) == "store_full"
        yield daemon


@pytest.fixture
def cli(busy, tmp_path) -> Cli:
    return Cli(dict(busy.env), str(tmp_path))


def samples(text: str) -> dict[tuple[str, str], float]:
    """By name and labels; raises what the parser says against the text."""
    found = {}
    for family in parsed(text):
        for each in family.samples:
            found[each.name, ",".join(f"{name}={value}" for name, value in sorted(each.labels.items()))] = each.value
    return found


def test_it_is_open_metrics_and_says_what_the_daemon_did(cli):
    text = cli.ok("metrics").out
    found = samples(text)
    assert text.endswith("# EOF\n")
    assert found["cosession_entries", ""] == found["cosession_limit", "name=entries"] == 4
    assert found["cosession_errors_total", "code=store_full"] == 1
    assert found["cosession_limit_refusals_total", "limit=live_entries"] == 1
    assert found["cosession_request_duration_seconds_count", "method=put"] == 5
    assert found["cosession_request_duration_seconds_bucket", "le=+Inf,method=put"] == 5
    assert found["cosession_fsync_duration_seconds_count", ""] >= 1
    assert 0 < found["cosession_fsync_duration_seconds_sum", ""] < found["cosession_uptime_seconds", ""]
    units = {family.name: family.unit for family in parsed(text)}
    assert units["cosession_live_bytes"] == "bytes"
    assert units["cosession_request_duration_seconds"] == "seconds"


def test_as_json_and_as_a_table(cli):
    found = cli.ok("metrics", "--json").json
    assert list(found) == ["timestamp", "uptime_s", "version", "revision", "gauges", "counters", "latencies"]
    gauges = {each["name"]: each for each in found["gauges"]}
    assert gauges["entries"] == {"name": "entries", "value": 4, "limit": 4, "full": 1.0}
    assert gauges["connections"]["limit"] == 8
    assert gauges["watches"]["limit"] is None
    assert found["counters"]["limit.live_entries"] == 1
    put = found["latencies"]["request.put"]
    assert put["count"] == 5
    assert 0 < put["p50_s"] <= put["p99_s"] <= put["max_s"] <= put["sum_s"]
    rows = [each.split(None, 3) for each in cli.ok("debug", "metrics").out.splitlines()]
    assert ["entries", "4", "4", "100.0% near its limit"] in rows
    assert ["limit.live_entries", "1"] in rows
    assert any(row[:2] == ["request.put", "5"] for row in rows)


def test_every_gauge_is_explained(cli):
    assert {each["name"] for each in cli.ok("metrics", "--json").json["gauges"]} == set(openmetrics.GAUGES)


def reply(counters: dict[str, int], **more: Any) -> dict[str, Any]:
    """What a daemon might answer."""
    about = {
        "version": "1",
        "timestamp": 1.5,
        "uptime_s": 2.0,
        "gauges": [],
        "bounds_s": list(BOUNDS_S),
        "latencies": {},
    }
    return {**about, "counters": counters, **more}


@given(st.dictionaries(st.text(max_size=8), st.integers(0, 2**40), max_size=5))
def test_whatever_a_counter_is_called_is_read_back(counters):
    found = samples(openmetrics.text(reply(counters)))
    assert sum(value for (name, _), value in found.items() if name.endswith("_total")) == sum(counters.values())


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_a_histogram_is_read_back_and_its_percentiles_hold(took_s):
    counted = Counted()
    for each in took_s:
        counted.took("get", each)
    latency = counted.latencies["get"]
    told = {"count": sum(latency.buckets), "sum_s": latency.sum_s, "max_s": latency.max_s, "buckets": latency.buckets}
    said = reply({}, latencies={"request.get": told})
    found = samples(openmetrics.text(said))
    for bound in BOUNDS_S:
        le = next(
            key for key in found if key[0].endswith("_bucket") and float(key[1].split("le=")[1].split(",")[0]) == bound
        )
        assert found[le] == sum(each <= bound for each in took_s)
    for name, part in metrics.PARTS:
        bound = metrics.shown(said | {"revision": 0})["latencies"]["request.get"][name]
        assert sum(each <= bound for each in took_s) >= part * len(took_s) - 1e-6


def test_a_bucket_that_is_not_cumulative_would_be_noticed():
    text = openmetrics.text(
        reply({}, latencies={"commit": {"count": 2, "sum_s": 1.0, "max_s": 1.0, "buckets": [2] + [0] * 17}})
    )
    with pytest.raises(ValueError, match="ucket"):
        samples(text.replace('le="+Inf"} 2', 'le="+Inf"} 1'))


def test_it_gives_up_after_a_second_and_starts_nothing(spawning):
    assert metrics.WITHIN_S == 1.0
    spawning.refused(69, "metrics")
    spawning.refused(69, "status")


def fetched(url: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    with contextlib.closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.request("GET", urlsplit(url).path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_the_exporter_of_the_readme(cli, tmp_path):
    (text,) = EXPORTER.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.match(r"# /// script\n(#( .*)?\n)+# ///\n", text), "PEP 723"
    script = tmp_path / "exporter.py"
    script.write_text(text)
    program = tmp_path / "cosession"
    program.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in cli.popen_command()) + ' "$@"\n')
    program.chmod(0o755)
    env = {**cli.env, "PATH": f"{tmp_path}:{cli.env['PATH']}"}
    with subprocess.Popen([sys.executable, str(script), "0"], env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            status, content, body = fetched(url)
            assert (status, content.split(";")[0]) == (200, "application/openmetrics-text")
            assert samples(body)["cosession_entries", ""] == 4
            assert fetched(url.replace("metrics", "else"))[0] == 404
        finally:
            process.kill()


def test_where_the_exporter_finds_no_daemon(home, tmp_path):
    """`cosession` fails, and so does the scrape."""
    (text,) = EXPORTER.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    Path(tmp_path / "cosession").write_text("#!/bin/sh\necho none is running >&2\nexit 69\n")
    (tmp_path / "cosession").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "COSESSION_HOME": str(home)}
    with subprocess.Popen([sys.executable, "-c", text, "0"], env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            status, _, body = fetched(process.stdout.readline().strip())
            assert (status, body) == (503, "none is running\n")
        finally:
            process.kill()
