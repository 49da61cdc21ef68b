"""`cosession debug`: traffic on a terminal, in a file, again, and byte by byte; what it refuses, and that it ends."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import COMMAND, Cli
from cosession.cli.debug import raw, recording, replay, shape, statedir
from cosession.cli.ping import histogram
from cosession.errors import CosessionError, InvalidRequest
from cosession.messages import REQUESTS
from cosession.messages.limits import PROTOCOL_VERSION
from cosessiond.app import TABLE
from cosessiond.server.table import Access
from harness import Daemon, private_home

SECRET = "swordfish" * 2
QUOTED = [sys.executable, *COMMAND[1:]]


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """One daemon for the module: its verbs only look, or write keys of their own."""
    with private_home() as home, Daemon(home) as daemon:
        yield daemon


@pytest.fixture
def cli(served, tmp_path) -> Cli:
    return Cli({**served.env, "COSESSION_PROJECT": "p"}, str(tmp_path))


# -- tail --------------------------------------------------------------------------------------------------------------


class Tailing:
    """`cosession debug tail --json`, frame by frame."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def frames(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)


@pytest.fixture
def tailing(cli, request) -> Iterator[Tailing]:
    process = cli.popen("debug", "tail", "--json", *getattr(request, "param", ()))
    until = threading.Timer(60.0, process.kill)
    until.start()
    try:
        while not any(each["state"] == "tailing" for each in cli.ok("debug", "clients", "--json").json["clients"]):
            assert process.poll() is None
        yield Tailing(process)
    finally:
        until.cancel()
        process.kill()
        process.communicate()


def test_tail_shows_what_passes_until_ctrl_c(cli, tailing):
    cli.ok("put", "tailed", json.dumps({"word": SECRET}))
    found = []
    for frame in tailing.frames():
        assert SECRET not in str(frame)
        if frame["method"] == "put":
            found.append((frame["by"], frame["kind"], frame["body"].get("value")))
        if len(found) == 2:
            break
    assert found == [("client", "call", "<map, 1>"), ("daemon", "reply", None)]
    tailing.process.send_signal(signal.SIGINT)
    assert tailing.process.wait(20) == 0


def test_tail_ends_by_itself_and_reads_well(cli):
    process = cli.popen("debug", "tail", "--for", "60", "--count", "2", "--method", "get", "--values")
    while b"tailing" not in cli.ok("debug", "clients").out_bytes:
        assert process.poll() is None
    cli.run("get", "nothing\u202e")
    out, err = process.communicate(timeout=60)
    first, second = out.decode().splitlines()
    assert " > call " in first
    assert " get  key=nothing\\u202e project=p" in first
    assert " < reply " in second
    assert " ms  revision=" in second
    assert process.returncode == 0, err
    assert cli.run("debug", "tail", "--for", "0.1", "--json").code == 0
    cli.refused(64, "debug", "tail", "--client", "1", "--pid", "2")


# -- record and replay -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded_once(served, tmp_path_factory) -> Path:
    """What `cosession put` says."""
    path = tmp_path_factory.mktemp("recorded") / "put.rec"
    cli = Cli({**served.env, "COSESSION_PROJECT": "p"}, str(path.parent))
    said = cli.ok("debug", "record", str(path), "--json", "--", *QUOTED, "put", "recorded", json.dumps({"a": SECRET}))
    whole = json.loads(said.out.splitlines()[-1])
    assert (whole["frames"], whole["lost"], whole["ended"]) == (4, 0, "the command has ended")
    return path


@pytest.fixture
def recorded(recorded_once, tmp_path) -> Path:
    """One to write into."""
    return Path(shutil.copy2(recorded_once, tmp_path))


def test_a_recording_is_private_whole_and_can_be_held_again(cli, recorded):
    assert stat.S_IMODE(recorded.stat().st_mode) == 0o600
    found = recording.read(recorded)
    assert [(each.by, each.kind, each.method) for each in found.frames] == [
        ("client", "call", "ping"),
        ("daemon", "reply", "ping"),
        ("client", "call", "put"),
        ("daemon", "reply", "put"),
    ]
    assert found.frames[2].body["value"] == {"a": SECRET}
    assert found.is_whole
    before = cli.ok("get", "recorded", "--json").json["version"]
    err = cli.refused(77, "debug", "replay", str(recorded)).err
    assert "it does more than read (put)" in err
    assert cli.ok("get", "recorded", "--json").json["version"] == before, "nothing was sent"
    said = cli.ok("debug", "replay", str(recorded), "--writes", "--json").json
    assert (said["calls"], said["different"], said["whole"]) == (2, [], True)
    assert cli.ok("get", "recorded", "--json").json["version"] == before + 1, "with a request id of its own"
    cli.refused(70, "debug", "record", str(recorded))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewritten(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_what_is_answered_otherwise_is_shown(cli, recorded):
    lines = lines_of(recorded)
    put = lines[4]
    put["body"]["written"]["kind"] = "merge"
    put["body"]["written"]["gone"] = 1
    put["body"]["repeated"] = "no"
    lines[2]["kind"], lines[2]["body"] = "error", {"code": "overloaded", "message": "cannot"}
    rewritten(recorded, [*lines[:-1]])  # and without its end
    result = cli.run("debug", "replay", str(recorded), "--writes")
    assert result.code == 1
    for said in (
        "it was answered by the error overloaded, now by a reply",
        "written.kind: was 'merge', is 'put'",
        "written.gone: is gone",
        "repeated: was string, is boolean",
        "2 calls in ",
    ):
        assert said in result.out
    assert "not whole" in result.err


def test_a_watch_is_replayed_in_both_encodings(cli, recorded):
    """The same conversation, written by hand: a watch, a write by another connection, and an event that never comes."""
    head, *_, end = lines_of(recorded)

    def frame(client: int, kind: str, id: int, method: str, body: Any) -> dict[str, Any]:
        by = "client" if kind == "call" else "daemon"
        about = {"number": 1, "time": 0.0, "client": client, "pid": 0, "size": 1, "took_ms": 0.0, "by": by}
        encoding = "msgpack" if client == 1 else "json"
        more = {"kind": kind, "id": id, "method": method, "body": body, "left_out": False}
        return {**about, "encoding": encoding, **more}

    event = {"kind": "changes", "revision": 1, "entries": [], "changes": [], "code": "", "message": "", "data": {}}
    lines = [
        frame(1, "call", 7, "watch", {"prefix": "watched/", "project": "p"}),
        frame(1, "reply", 7, "watch", {"revision": 1, "watch": 1, "epoch": "E"}),
        frame(1, "event", 1, "", {**event, "kind": "snapshot_end"}),
        frame(2, "call", 1, "put", {"key": "watched/1", "value": 1, "project": "p"}),
        frame(1, "event", 1, "", event),
        frame(1, "event", 1, "", event),
    ]
    rewritten(recorded, [head, *lines, {**end, "frames": len(lines)}])
    said = cli.run("debug", "replay", str(recorded), "--writes", "--json").json
    (different,) = said["different"]
    assert different["method"] == "events of client 1"
    assert "there were 3 events, now 2" in different["differences"]
    assert not any("kind: was" in each for each in different["differences"])


NEWER = [
    ({"cosession_recording": 2, "protocol": 1, "version": "9.9"}, "format 2", "incompatible"),
    ({"cosession_recording": 1, "protocol": PROTOCOL_VERSION + 1, "version": "9.9"}, "protocol 2", "incompatible"),
    ({"something": "else"}, "it is no recording", "invalid_params"),
    ("not JSON", "it is no recording", "invalid_params"),
]


@pytest.mark.parametrize(("head", "why", "code"), NEWER)
def test_a_newer_recording_and_what_is_none_are_refused_with_the_cause(tmp_path, head, why, code):
    path = tmp_path / "r"
    path.write_text((head if isinstance(head, str) else json.dumps(head)) + "\n" + '{"of": "the future"}\n')
    with pytest.raises(CosessionError, match=why) as refused:
        recording.read(path)
    assert refused.value.code == code
    if code == "incompatible":
        assert "9.9" in refused.value.message, "it names the version that can"


@pytest.mark.parametrize("line", ['{"end": "yes"}', "[]", '{"number": "one"}', "{"])
def test_a_broken_line_of_a_recording_is_named(tmp_path, line):
    path = rewritten(tmp_path / "r", [{"cosession_recording": 1, "protocol": 1}])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InvalidRequest, match="line 2"):
        recording.read(path)


def test_what_is_repeated_without_a_word_changes_nothing():
    changing = {name for name, each in TABLE.items() if each.row.access in (Access.WRITE, Access.RELEASE)}
    changing |= {
        "turn",
        "session.heartbeat",
        "claim.renew",
        "mail.inbox",
        "hook",
    }  # they change what others see or may do
    changing |= {"admin.stop", "backup.now", "debug.loglevel"}
    assert not changing & replay.READS
    assert set(REQUESTS) >= replay.READS, "there is no such method"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_has_the_same_shape_as_itself(value):
    assert shape.differences(value, value) == []


def test_another_shape_is_told_by_its_path():
    assert shape.differences({"a": [{"b": 1}]}, {"a": [{"b": "x"}]}) == ["a[].b: was number, is string"]
    assert shape.differences({"a": 1}, {"a": 2.5}) == []
    assert shape.differences({"value": 1}, {"value": {"any": "thing"}}) == []
    assert shape.differences({"code": "a"}, {"code": "b"}) == ["code: was 'a', is 'b'"]
    assert len(shape.differences({str(n): 1 for n in range(99)}, {})) == shape.DIFFERENCES_MAX + 1


# -- raw ---------------------------------------------------------------------------------------------------------------


def test_raw_shows_bytes_and_meaning_in_both_encodings(cli):
    out = cli.ok("debug", "raw", stdin='{"jsonrpc":"2.0","id":1,"method":"ping"}\n{garbage\n').out
    assert "call 1 ping {}" in out
    assert "7b 67 61 72 62 61 67 65" in out
    assert "no call: cannot read JSON" in out
    assert 'error {"message": "cannot read JSON' in out
    assert out.endswith("the daemon hung up\n")
    said = cli.ok("debug", "raw", "--msgpack", "--json", stdin='[0, 7, "ping", {}]\n[0, 8]\n').json
    assert [each["kind"] for each in said["sent"]] == ["call 7 ping", "no call (id 8)"]
    assert [(each["kind"], each["id"]) for each in said["received"]] == [("reply", 7), ("error", 8)]
    said = cli.ok("debug", "raw", "--hex", "--json", stdin="00000009 94 00 01 a470696e67 80 # a ping\nffffffff").json
    assert [each["kind"] for each in said["received"]] == ["reply", "error"]
    assert said["received"][1]["said"]["code"] == "too_large"
    assert said["hung_up"]
    cli.refused(64, "debug", "raw", "--hex", stdin="xyz")
    cli.refused(64, "debug", "raw", "--msgpack", stdin="{")


@given(st.binary(max_size=60))
def test_every_byte_of_what_is_sent_has_a_meaning(data):
    found = raw.meanings(data)
    assert b"".join(frame for frame, _, _ in found).replace(b"\n", b"") in (
        data.replace(b"\n", b""),
        data.rstrip().replace(b"\n", b""),
    )


def test_a_daemon_that_says_nothing_holds_nobody_up(nowhere, home):
    """Every verb that asks ends by its own time: exit code 75."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / "silent"))
        silent.listen()
        asked = [
            "debug ping",
            "debug clients",
            "debug tail",
            "debug trace",
            "debug tasks",
            "debug call ping",
            "metrics",
        ]
        running = [nowhere.popen(*verb.split(), "--socket", str(home / "silent"), "--timeout", "0.3") for verb in asked]
        for verb, process in zip(asked, running, strict=True):
            _, err = process.communicate(timeout=60)
            assert process.returncode == 75, (verb, err)
        said = nowhere.ok(
            "debug", "raw", "--socket", str(home / "silent"), "--wait", "0.1", "--json", stdin="{}\n"
        ).json
        assert (said["received"], said["hung_up"]) == ([], False)


def test_without_a_daemon_nothing_is_started(spawning, tmp_path):
    spawning.refused(69, "debug", "raw", stdin="{}")
    spawning.refused(69, "debug", "record", str(tmp_path / "r"))
    spawning.refused(1, "debug", "statedir")


# -- the others --------------------------------------------------------------------------------------------------------


def test_call_explains_where_its_time_went(cli):
    said = cli.ok("debug", "call", "put", '{"key": "explained", "value": 1}', "--explain", "--json").json
    trace = said["trace"]
    assert (trace["method"], trace["group"], trace["code"]) == ("put", 1, "")
    stages = sum(trace[f"{name}_ms"] for name in ["wait", "decide", "queue", "commit", "fsync", "publish", "send"])
    assert stages == pytest.approx(trace["total_ms"], abs=0.1)
    assert trace["fsync_ms"] > 0
    assert said["result"]["written"]["key"] == "explained"
    out = cli.ok("debug", "call", "ping", "--explain").out
    assert "decide" in out
    assert "ping took " in out


def test_trace_and_loglevel_are_switched_for_a_while(cli, served):
    assert "tracing is off" in cli.ok("debug", "trace").err
    assert "tracing requests over 0.001 ms for " in cli.ok("debug", "trace", "on", "--slow", "0.001").out
    cli.run("get", "nothing")
    out = cli.ok("debug", "trace").out
    assert "\nget " in out
    assert "not tracing; " in cli.ok("debug", "trace", "off").out
    assert cli.ok("debug", "loglevel").out == "info, as configured\n"
    assert "debug for " in cli.ok("debug", "loglevel", "debug", "--for", "600").out
    cli.run("get", "nothing")
    assert cli.ok("debug", "loglevel", "configured").out == "info, as configured\n"
    logged = [json.loads(line) for line in served.stderr().splitlines()]
    assert any((each["event"], each.get("method"), each["level"]) == ("request", "get", "debug") for each in logged)
    cli.refused(64, "debug", "loglevel", "loud")
    cli.refused(64, "debug", "trace", "sideways")


def test_statedir_says_what_lies_there(cli, served):
    stray = served.home / "state" / "stray"
    stray.touch()
    stray.chmod(0o644)
    found = {each["name"]: each for each in cli.ok("debug", "statedir", "--json").json["files"]}
    assert found["store.db"]["purpose"] == "the store"
    assert (found["stray"]["purpose"], found["stray"]["private"]) == ("not of cosession", False)
    assert found["secret"]["private"]
    ours = [each for name, each in found.items() if name != "stray"]
    assert all(each["purpose"] != "not of cosession" for each in ours), found
    assert statedir._purpose("x.partial") != "not of cosession"


def test_a_ping_has_a_histogram(cli):
    out = cli.ok("debug", "ping", "--count", "50").out
    assert "50 pings: min " in out
    assert " ms " in out.splitlines()[1]
    assert "#" in out
    said = cli.ok("debug", "ping", "--count", "50", "--json").json
    assert sum(each["count"] for each in said["histogram"]) == 50


@given(st.lists(st.floats(0.0, 1e5), min_size=1))
def test_a_histogram_loses_nothing_and_its_bounds_hold(took_ms):
    found = histogram(took_ms)
    assert sum(count for _, count in found) == len(took_ms)
    assert found[0][1]
    assert found[-1][1]
    low = 0.0
    for bound, count in found:
        assert count == sum(low < each <= bound for each in took_ms) + (
            sum(each == 0 for each in took_ms) if not low else 0
        )
        low = bound
