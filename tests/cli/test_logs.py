"""`logs`, also across a rotation, over foreign text, and from a journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from cosession.cli import journal, logs, options


@pytest.fixture
def log(home: Path) -> Path:
    path = home / "log" / "daemon.log"
    path.parent.mkdir(mode=0o700)
    return path


def line(number: int, **more: object) -> str:
    event = {"pid": 1, "event": f"event {number}", "level": "info", "timestamp": "2026-01-02T03:04:05.6Z", **more}
    return json.dumps(event) + "\n"


def lines(numbers: range) -> str:
    return "".join(map(line, numbers))


def shown(out: str) -> list[int]:
    return [int(each.rpartition("event ")[2]) for each in out.splitlines()]


def test_without_a_log_it_says_where_one_would_be_and_what_to_do(nowhere, home):
    err = nowhere.refused(1, "logs").err
    assert f"{home}/log/daemon.log" in err
    assert "journalctl" in err
    assert nowhere.run("logs", "--json").error["code"] == "not_found"
    nowhere.refused(1, "logs", "-f")
    assert list(home.iterdir()) == []


def test_the_log_of_a_daemon_in_the_background(spawning, home):
    spawning.ok("start")
    pid = spawning.ok("status", "--json").json["pid"]
    found = spawning.ok("logs", "--json").json
    assert found["path"] == f"{home}/log/daemon.log"
    assert [(each["event"], each["pid"]) for each in found["logs"]] == [("ready", pid)]
    out = spawning.ok("logs").out
    assert "info     ready  socket=" in out
    assert out.count("\n") == 1


def test_the_newest_lines_are_shown_over_the_rotation(nowhere, log):
    log.write_text(lines(range(100, 105)) + '{"cut')
    Path(f"{log}.1").write_text(lines(range(100)))
    assert shown(nowhere.ok("logs").out) == list(range(85, 105))
    assert shown(nowhere.ok("logs", "-n", "3").out) == [102, 103, 104]
    assert shown(nowhere.ok("logs", "--lines", "3").out) == [102, 103, 104]
    assert shown(nowhere.ok("logs", "-n", "1000").out) == list(range(105))
    assert nowhere.ok("logs", "-n", "0").out == ""
    nowhere.refused(64, "logs", "-n", "-3")
    nowhere.refused(64, "logs", "-n", "many")


@pytest.mark.parametrize("wanted", [1, 2, 700, 5_000])
def test_a_long_log_is_read_from_its_end(tmp_path, wanted):
    path = tmp_path / "daemon.log"
    path.write_text(lines(range(3_000)))
    file = os.open(path, os.O_RDONLY)
    try:
        found, end = logs._newest(file, wanted)
    finally:
        os.close(file)
    assert [json.loads(each)["event"] for each in found] == [f"event {n}" for n in range(3_000)][-wanted:]
    assert end == path.stat().st_size


def test_foreign_text_is_escaped_and_a_traceback_readable(nowhere, log):
    nasty = "\x1b[2J\u202e\u2028"
    log.write_text(
        line(1, reason=nasty, exception=f"Traceback\n  File x\nValueError: {nasty}")
        + f"no JSON {nasty}\n"
        + '{"event": {"a": 1}, "level": ["x"], "timestamp": 7}\n[1]\n\n'
        + json.dumps({nasty: 1, "event": nasty, "level": nasty}) + "\n"
    )  # fmt: skip
    for arguments in (("logs",), ("logs", "--json")):
        out = nowhere.ok(*arguments).out
        assert not set(out) & {"\x1b", "\u202e", "\u2028"}
        assert "\\u001b[2J" in out
    assert "\n    ValueError: \\u001b" in nowhere.ok("logs").out
    log.unlink()
    os.mkfifo(log)
    assert "no plain file" in nowhere.refused(70, "logs").err


class Following:
    """`cosession logs -f`, its lines as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for each in self.process.stdout:
            self._lines.put(each.decode())

    def take(self, count: int) -> list[int]:
        return [int(self._lines.get(timeout=10).rpartition("event ")[2]) for _ in range(count)]


@pytest.fixture
def following(nowhere, log) -> Iterator[Following]:
    log.write_text(lines(range(3)))
    process = nowhere.popen("logs", "-f", "-n", "2")
    try:
        yield Following(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def test_what_comes_is_followed_across_a_rotation_without_a_gap(following, log):
    assert following.take(2) == [1, 2]
    with log.open("a") as file:
        text = line(3)
        file.write(text[:10])
        file.flush()
        file.write(text[10:] + line(4))
    assert following.take(2) == [3, 4]
    with log.open("a") as file:  # the last before the rotation, which happens before anyone has looked
        log.rename(f"{log}.1")
        file.write(line(5))
    log.write_text(line(6))
    assert following.take(2) == [5, 6]
    log.write_text('{"event": "event 7"}\n')  # cut by hand, and shorter now
    assert following.take(1) == [7]


# -- the journal -------------------------------------------------------------------------------------------------------

#: As `journalctl --all --output=json` prints them (systemd 252): what is no event at all, an event of ours, one whose
#: field is no plain text and stands as bytes, what was written to standard error past the log, what stands twice.
JOURNAL = [
    [],
    {
        "COSESSION_JSON": json.dumps(
            {"event": "event 1", "level": "warning", "timestamp": "2026-01-02T03:04:05Z", "n": 7}
        )
    },
    {"COSESSION_JSON": list(json.dumps({"event": "event 2 \u202e", "timestamp": "2026-01-02T03:04:06Z"}).encode())},
    {"MESSAGE": "cosessiond: event 3", "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1767323047000000"},
    {"MESSAGE": ["event 4", "again"], "PRIORITY": "6", "__REALTIME_TIMESTAMP": "1767323048000000"},
]
#: Prints those, and with --follow one more; then it stays.
JOURNALCTL = """#!{python}
import json, sys, time
with open({asked!r}, "a") as file:
    file.write(repr(sys.argv[1:]))
count = int(sys.argv[sys.argv.index("--lines") + 1])
for each in {journal!r}[-count:]:
    print(json.dumps(each), flush=True)
if "--follow" in sys.argv:
    print(json.dumps({{"COSESSION_JSON": json.dumps({{"event": "event 5"}})}}), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def journalctl(nowhere, tmp_path):
    """A stand-in on PATH; what it was asked is in the file returned."""
    program, asked = tmp_path / "bin" / "journalctl", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(JOURNALCTL.format(python=sys.executable, asked=str(asked), journal=JOURNAL))
    program.chmod(0o755)
    nowhere.env["PATH"] = f"{program.parent}:{nowhere.env['PATH']}"
    return asked


def test_the_log_under_systemd_is_that_of_the_journal(nowhere, journalctl):
    out = nowhere.ok("logs").out
    assert [line.split(None, 3)[2:] for line in out.splitlines()] == [
        ["warning", "event 1  n=7"],
        ["-", "event 2 \\u202e"],
        ["error", "cosessiond: event 3"],
        ["info", "event 4"],
    ]
    found = nowhere.ok("logs", "--json").json
    assert found["path"] == "journal"
    assert found["logs"][0]["n"] == 7
    asked = journalctl.read_text()
    assert f"_UID={os.getuid()}" in asked, "what others write under that name is not ours"
    assert "SYSLOG_IDENTIFIER=cosessiond" in asked


@pytest.mark.usefixtures("journalctl")
def test_the_journal_is_followed_and_let_go_of(nowhere):
    process = nowhere.popen("logs", "-f", "--journal", "-n", "1")
    following = Following(process)
    try:
        assert following.take(2) == [4, 5]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_of_file_and_journal_the_one_that_was_written_last_is_shown(nowhere, journalctl, log, monkeypatch):
    log.write_text(line(9))
    assert shown(nowhere.ok("logs").out) == [9], "one home of several has a file of its own"
    assert not journalctl.exists()
    assert len(nowhere.ok("logs", "--journal").out.splitlines()) == 4
    given = options.Given(logs.LOGS)
    file = os.open(log, os.O_RDONLY)
    monkeypatch.delenv("COSESSION_HOME", raising=False)
    monkeypatch.setenv("PATH", nowhere.env["PATH"])
    monkeypatch.setattr(journal, "newest", lambda _: [{"timestamp": "2026-01-02T03:04:05Z"}])
    try:
        assert not logs._is_in_journal(given, file), "the file is newer"
        os.utime(log, (0, 0))
        assert logs._is_in_journal(given, file)
        monkeypatch.setattr(journal, "newest", lambda _: [])
        assert not logs._is_in_journal(given, file)
    finally:
        os.close(file)


def test_a_journal_that_says_nothing_costs_its_deadline_and_no_more(nowhere, journalctl, monkeypatch):
    program = journalctl.parent / "bin" / "journalctl"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setenv("PATH", nowhere.env["PATH"])
    monkeypatch.setattr(journal, "ANSWERS_S", 0.1)
    assert journal.newest(1) == []
