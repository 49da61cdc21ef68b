"""watch and update against a real daemon."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest

ADD_ONE = (sys.executable, "-c", "import json, sys; print((json.load(sys.stdin) or 0) + 1)")


class Watching:
    """`cosession watch` in the background, read line by line."""

    def __init__(self, cli, *arguments: str) -> None:
        self.process = cli.popen("watch", *arguments, start_new_session=True)
        self._text = b""

    def line(self) -> str:
        deadline = time.monotonic() + 20
        while b"\n" not in self._text:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert more, f"the watch said no more: {self._text!r}"
            self._text += more
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def json(self) -> dict:
        return json.loads(self.line())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        assert (self.process.returncode, out, err) == (0, b"", b"")


@pytest.fixture
def watching(cli):
    started: list[Watching] = []

    def start(*arguments: str) -> Watching:
        started.append(Watching(cli, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def test_watch_prints_what_is_there_then_every_change(cli, watching):
    cli.ok("put", "plan/a", '{"step": 1}')
    cli.ok("put", "other", "1")
    watch = watching("plan/", "--json")
    first = watch.json()
    assert (first["kind"], first["key"], first["value"], first["version"]) == ("put", "plan/a", {"step": 1}, 1)
    cli.ok("put", "plan/a", "2")
    cli.ok("put", "other", "2")
    cli.ok("delete", "plan/a")
    assert [(each["kind"], each["value"], each["version"]) for each in (watch.json(), watch.json())] == [
        ("put", 2, 2),
        ("delete", None, 0),
    ]
    assert set(first) == {"kind", "key", "value", "version", "create_revision", "mod_revision", "session", "time"}
    watch.interrupt()


def test_watch_for_people(cli, watching):
    cli.ok("put", "k", "shown \x1b[31m\u202e")
    watch = watching()
    line = watch.line()
    assert line.isprintable()
    when, kind, key, version, session, value = line.split(maxsplit=5)
    assert (kind, key, version, session, value) == ("put", "k", "v1", "-", "shown \\u001b[31m\\u202e")
    assert len(when) == len("12:34:56.789")
    cli.ok("put", "k", "1", "--ttl", "0.1")
    assert watch.line().split()[1] == "put"
    assert watch.line().split()[1] == "expire"
    watch.interrupt()


def test_watch_from_a_revision_and_with_a_count(cli):
    for value in range(5):
        cli.ok("put", "k", str(value))
    lines = cli.ok("watch", "--from", "2", "--count", "3", "--json").out.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [1, 2, 3]


def test_watch_without_the_snapshot(cli, watching):
    cli.ok("put", "k", "old")
    watch = watching("--no-snapshot", "--json")
    deadline = time.monotonic() + 20
    while cli.ok("status", "--json").json["watches"] == 0:
        assert time.monotonic() < deadline
    cli.ok("put", "k", "new")
    assert watch.json()["value"] == "new"


def test_watch_of_a_future_revision_is_refused(cli):
    cli.refused(65, "watch", "--from", "1000")


def test_watch_goes_on_through_a_restart(cli, daemon, watching):
    watch = watching("--json")
    cli.ok("put", "k", "1")
    assert watch.json()["value"] == 1
    daemon.kill()
    daemon.start()
    cli.ok("put", "k", "2")
    assert watch.json()["value"] == 2


def test_a_reader_that_hangs_up_ends_the_watch(cli):
    for value in range(3):
        cli.ok("put", "k", str(value))
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -n 1', "sh", *cli.popen_command("watch", "--from", "1")],
        env=cli.env,
        cwd=cli.cwd,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_update_counts_without_losing_any(cli):
    processes = [cli.popen("update", "count", "--", *ADD_ONE) for _ in range(4)]
    codes = []
    for process in processes:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert set(codes) <= {0, 3}, "a conflict that lasts is said"
    assert cli.ok("get", "count").out == f"{codes.count(0)}\n"


def test_update_as_json(cli):
    entry = cli.ok("update", "count", "--json", "--", *ADD_ONE).json
    assert (entry["key"], entry["value"], entry["version"], entry["runs"]) == ("count", 1, 1, 1)
    assert cli.ok("update", "count", "--", *ADD_ONE).out == "2\n"


def test_update_of_a_string(cli):
    cli.ok("update", "motto", "--string", "--", "printf", "%s", "quiet words")
    cli.ok("update", "motto", "--string", "--", "tr", "a-z", "A-Z")
    assert cli.ok("get", "motto").out == "QUIET WORDS\n"
    cli.ok("update", "motto", "--", "sh", "-c", 'echo "\\"$COSESSION_KEY\\""')
    assert cli.ok("get", "motto").out == "motto\n"
    cli.ok("put", "map", "{}")
    assert "holds no string" in cli.refused(64, "update", "map", "--string", "--", "cat").err


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("false",), "ended with 1"),
        (("sh", "-c", "kill -9 $$"), "ended by signal 9"),
        (("no-such-command-here",), "cannot be run"),
        (("echo", "oops"), "not JSON"),
        (("true",), "printed is empty"),
        (("printf", "\\377"), "UTF-8"),
        ((), "needs a command after --"),
    ],
)
def test_update_writes_nothing_when_the_command_fails(cli, command, why):
    err = cli.refused(64, "update", "k", "--", *command).err
    assert why in err
    assert "; do: " in err
    cli.refused(1, "get", "k")


def test_update_says_the_exit_code_of_the_command(cli):
    assert cli.run("update", "k", "--json", "--", "sh", "-c", "exit 7").error["data"] == {"exit_code": 7}
