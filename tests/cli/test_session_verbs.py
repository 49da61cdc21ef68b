"""sessions, explain session, watch --sessions, debug ping and call, and whose entry it is."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading

import pytest

import cosession
from cosession.cli import sessions
from cosession.messages import REQUESTS
from cosession.model import LIVE_STATES

#: A session process: registers over the library, puts an entry, and lives until its standard input ends.
SESSION = """
import sys
import cosession
with cosession.connect(project="global") as client:
    with client.session(agent="test", name=sys.argv[1]) as session:
        client.put("whose", sys.argv[1])
        print(session.id, flush=True)
        sys.stdin.read()
"""


class Live:
    """One live session."""

    def __init__(self, cli, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SESSION, name],
            env=cli.env,
            cwd=cli.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.id = self.process.stdout.readline().strip()
        assert self.id

    def end(self) -> None:
        self.process.communicate(timeout=20)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def live(cli):
    started: list[Live] = []

    def start(name: str) -> Live:
        started.append(Live(cli, name))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def test_sessions_lists_the_living_and_with_all_the_ended(cli, live):
    assert cli.ok("sessions").out.startswith("no session is alive")
    assert cli.ok("sessions", "--json").json == {"sessions": [], "more": False, "revision": 0}
    otter = live("otter")
    lines = cli.ok("sessions").out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "AGENT", "PID", "SINCE", "PROJECT", "ID"]
    assert lines[1].split()[:4] == ["otter", "active", "test", str(otter.process.pid)]
    assert lines[1].split()[-2:] == ["global", otter.id]
    [session] = cli.ok("sessions", "--json").json["sessions"]
    assert (session["id"], session["name"], session["state"]) == (otter.id, "otter", "active")
    assert cli.ok("status", "--json").json["sessions"] == 1
    assert cli.ok("sessions", "--project", "another", "--json").json["sessions"] == []
    otter.end()
    assert cli.ok("sessions", "--json").json["sessions"] == []
    [session] = cli.ok("sessions", "--all", "--json").json["sessions"]
    assert session["state"] == "closed"
    assert "closed" in cli.ok("sessions", "--all").out


def test_a_list_that_was_cut_says_so(cli, live):
    live("otter")
    live("wren")
    assert not cli.ok("sessions").err
    cut = cli.ok("sessions", "--limit", "1")
    assert (len(cut.out.splitlines()), cut.err.count("--limit")) == (2, 1)
    assert cli.ok("sessions", "--limit", "1", "--json").json["more"] is True


@pytest.mark.parametrize(
    ("words", "most"), [(("sessions",), 1_000), (("sessions", "--all"), 1_000), (("history", "k"), 50)]
)
def test_a_limit_is_what_the_daemon_grants(cli, words, most):
    cli.ok("put", "k", "1")
    cli.ok(*words, "--limit", str(most))
    for limit in (0, most + 1):
        assert f"from 1 to {most}" in cli.refused(64, *words, "--limit", str(limit)).err


def test_explain_a_live_and_a_dead_session(cli, live):
    otter = live("otter")
    alive = cli.ok("explain", "session", "otter", "--json").json
    assert alive["session"]["id"] == otter.id
    assert [layer["layer"] for layer in alive["layers"]] == [
        "process",
        "heartbeat",
        "checkpoint",
        "disk",
        "graceful close",
    ]
    assert all(set(layer) == {"layer", "signal", "evidence", "cost_ms"} for layer in alive["layers"])
    otter.kill()
    watched = cli.ok("watch", "--sessions", "--json", "--from", "1", "--count", "2").out.splitlines()
    assert json.loads(watched[1])["value"]["state"] == "crashed"
    dead = cli.ok("explain", "session", otter.id).out
    assert "otter" in dead
    assert "crashed" in dead
    assert "rule     " in dead
    assert [line.split()[0] for line in dead.splitlines() if line.startswith(("process", "heartbeat", "disk"))] == [
        "process",
        "heartbeat",
        "disk",
    ]
    assert "crashed" in cli.ok("watch", "--sessions", "--from", "1", "--count", "2").out.splitlines()[1]
    assert "cosession sessions --all" in cli.refused(1, "explain", "session", "nobody").err


def test_explain_takes_the_living_one_of_a_name_or_the_one_that_ended_last(cli, live):
    ended = []
    for _ in range(3):
        otter = live("otter")
        otter.end()
        ended.append(otter.id)
    told = cli.ok("explain", "session", "otter")
    assert ended[2] in told.out
    assert "newest of 3 ended sessions of that name; the others: " + ", ".join(reversed(ended[:2])) in told.err
    asked = cli.ok("explain", "session", "otter", "--json")
    assert (asked.json["session"]["id"], asked.json["others"], asked.err) == (ended[2], [ended[1], ended[0]], "")
    alive = live("otter")
    told = cli.ok("explain", "session", "otter", "--json").json
    assert (told["session"]["id"], told["others"]) == (alive.id, [])
    another = live("otter")
    err = cli.refused(64, "explain", "session", "otter").err
    assert alive.id in err
    assert another.id in err
    assert sessions.LIVING == LIVE_STATES


def test_simulate_crash_says_what_came_of_it_and_what_allows_it(cli, daemon):
    with cosession.connect(socket=str(daemon.socket)) as client:
        client.session(name="plain", heartbeat_s=0)
        session = client.session(name="ö", heartbeat_s=0, drills=True)
        refused = cli.run("simulate", "crash", "plain")
        assert refused.code == 77
        assert "does not allow drills" in refused.err
        played = cli.ok("simulate", "crash", session.id)
        assert "counts as crashed, for a drill; its process was not touched" in played.out
        assert "its crash was a drill" in cli.ok("explain", "session", session.id).out
        assert cli.run("simulate", "crash", session.id, "--json").error["code"] == "session_ended"


def test_put_says_whose_value_it_replaced(cli, live):
    otter = live("otter")
    result = cli.ok("put", "whose", "mine")
    assert result.out.strip().isdigit()
    assert f"written by session otter ({otter.id})" in result.err
    assert "written by" not in cli.ok("put", "whose", "mine again").err


HOSTILE = "ot\u202eter\x1b[2J\n"
SHOWN = "ot\\u202eter\\u001b[2J\\n"


class HostileDaemon:
    """Answers as a daemon would whose store was filled by someone else: every text in it is hostile."""

    instance = {"boot_id": HOSTILE, "pid": 7, "start_time": 1, "judgeable": True}
    session = {
        **dict.fromkeys(("id", "name", "state", "agent", "project", "reason"), HOSTILE),
        "evidence": [HOSTILE],
        "instances": [instance],
        "registered_at": 0.0,
        "changed_at": 0.0,
        "detected_ms": 1.0,
    }
    entry = {"key": HOSTILE, "value": HOSTILE, "version": 1, "mod_revision": 2, "session": HOSTILE, "time": 0.0}
    layer = {"layer": HOSTILE, "signal": HOSTILE, "evidence": HOSTILE, "cost_ms": 0.1}
    answers = {
        "session.list": {"sessions": [session], "more": True},
        "session.explain": {
            "session": session,
            "layers": [layer],
            "silent_s": 2.0,
            **dict.fromkeys(("liveness", "ending", "recoverability", "rule"), HOSTILE),
        },
        "range": {"entries": [entry], "more": False, "read_revision": 2},
        "history": {"versions": [{**entry, "kind": HOSTILE, "operation": HOSTILE}], "more": False},
        "put": {"written": {**entry, "session": "", "replaced_session": "x", "replaced_revision": 1}},
        "txn": {"succeeded": True, "txn_revision": 2, "written": [{**entry, "kind": HOSTILE}]},
        "status": {
            **dict.fromkeys(("version", "socket", "state_directory", "engine", "epoch", "read_only"), HOSTILE),
            **dict.fromkeys(("pid", "compact_revision", "uptime_s", "entries", "live_bytes", "database_bytes"), 1),
            **dict.fromkeys(("sessions", "connections", "watches"), 1),
            "projects": 2,
            "usage": [{"project": HOSTILE, "entries": 1, "bytes": 1}],
        },
        "ping": {"pid": 1, "version": HOSTILE, "epoch": HOSTILE},
    }

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, peer.makefile("rw") as lines:
                for line in lines:
                    call = json.loads(line)
                    answer = {"jsonrpc": "2.0", "id": call["id"]}
                    if call["method"] in self.answers:
                        answer["result"] = {**self.answers[call["method"]], "revision": 2}
                    else:
                        answer["error"] = {"code": 1, "message": HOSTILE, "data": {"code": HOSTILE, "x": HOSTILE}}
                    lines.write(json.dumps(answer) + "\n")
                    lines.flush()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def hostile(nowhere, home):
    path = str(home / "hostile.sock")
    daemon = HostileDaemon(path)
    nowhere.env["COSESSION_SOCKET"] = path
    yield nowhere
    daemon.close()


@pytest.mark.parametrize(
    "words",
    [
        ("sessions",),
        ("explain", "session", "x"),
        ("ls",),
        ("ls", "--long"),
        ("history", "k"),
        ("put", "k", "1"),
        ("txn", "{}"),
        ("status",),
        ("debug", "ping"),
        ("debug", "call", "ping"),
        ("get", "k"),
        ("delete", "k"),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_text_of_the_store_can_drive_a_terminal(hostile, words, form):
    result = hostile.run(*words, *form)
    shown = result.out + result.err
    assert shown.replace("\n", "").isprintable()
    assert SHOWN in shown
    if form:
        assert HOSTILE in json.dumps(result.json, ensure_ascii=False).replace("\\u001b", "\x1b").replace("\\n", "\n")


def test_debug_ping(cli, daemon):
    assert f"pid {daemon.pid}: " in cli.ok("debug", "ping").out
    result = cli.ok("debug", "ping", "--count", "50", "--json").json
    assert result["count"] == 50
    assert 0 < result["min_ms"] <= result["median_ms"] <= result["max_ms"]
    assert result["pid"] == daemon.pid
    assert "50 pings: min " in cli.ok("debug", "ping", "--count", "50").out
    cli.refused(64, "debug", "ping", "--count", "0")


def test_debug_call(cli, daemon):
    assert cli.ok("debug", "call", "ping").json["pid"] == daemon.pid
    cli.ok("debug", "call", "put", '{"key": "k",\n "value": {"a": 1}}')
    assert cli.ok("debug", "call", "get", "-", stdin='{"key": "k"}').json["entry"]["value"] == {"a": 1}
    cli.refused(64, "debug", "call", "no.such.method")
    cli.refused(64, "debug", "call", "get", '{"kee": "k"}')
    cli.refused(64, "debug", "call", "get", "[]")
    cli.refused(64, "debug", "call", "get", "{")
    assert "same name twice" in cli.refused(64, "debug", "call", "get", '{"key": "a", "key": "b"}').err


def test_debug_call_explains_every_method_there_is(nowhere):
    listed = nowhere.ok("debug", "call", "--help").out.partition("\nmethods:\n")[2].partition("\n\n")[0].split()
    assert listed == list(REQUESTS)


def test_what_the_daemon_does_not_take_is_answered_with_what_it_takes(cli):
    assert "use one of: hello, ping" in cli.refused(64, "debug", "call", "pnig").err
    err = cli.refused(64, "debug", "call", "get", '{"kee": "k"}').err
    assert err.endswith("; get takes key and optionally project, space, at_revision\n")
