"""The life of the daemon: signals, draining, the background, and what it writes in its log."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import MEASURED, Daemon
from process.starting import EXIT_CONFIG, EXIT_RUNNING, attempt, environment, filled, refusal, serves
from rawclient import ENCODINGS, Answer, Ended, Json, Pack, Peer
from server.daemons import configure, eventually

BOTH = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: each.encoding)

# -- an orderly end --------------------------------------------------------------------------------------------------


def in_background(peer: Peer, data: bytes) -> threading.Thread:
    def send() -> None:
        with contextlib.suppress(OSError):  # the daemon has gone
            peer.send(data)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@BOTH
def test_sigterm_answers_what_is_in_flight_says_goodbye_and_loses_nothing(daemon: Daemon, encoding: type[Peer]) -> None:
    count = 5_000
    frames = (encoding.encode(number, "put", {"key": f"k{number}", "value": number}) for number in range(1, count + 1))
    with encoding(daemon.socket) as peer, encoding(daemon.socket) as watcher, Peer(daemon.socket) as silent:
        watcher.reply("watch", prefix="k", start_revision=1)
        sender = in_background(peer, b"".join(frames))
        answers = peer.take(200)
        daemon.signal(signal.SIGTERM)
        answers += list(peer.until_ended())
        seen = list(watcher.until_ended())
        assert silent.rest() == b"", "who has said nothing is told nothing"
        assert daemon.wait() == 0
        sender.join(10)
        assert not sender.is_alive()
    assert not daemon.socket.exists()
    for ended in (answers, seen):
        assert ended[-1].kind == "goodbye"
        assert ended[-1].body["code"] == "shutting_down"
        assert [answer.kind for answer in ended].count("goodbye") == 1
    kinds = {answer.code or answer.kind for answer in answers[:-1]}
    assert kinds <= {"reply", "shutting_down"}, kinds
    acknowledged = {answer.id for answer in answers if answer.kind == "reply"}
    refused = {answer.id for answer in answers if answer.code == "shutting_down"}
    assert len(acknowledged) >= 200
    daemon.start()
    with Pack(daemon.socket) as peer:
        present = set()
        after = ""
        while True:
            page = peer.reply("range", after=after)
            present |= {entry["value"] for entry in page["entries"]}
            if not page["more"]:
                break
            after = page["entries"][-1]["key"]
    assert acknowledged <= present, "every acknowledged write is there"
    assert not refused & present, "what was refused had no effect"
    heard = {change["value"] for event in seen[:-1] for change in event.body["changes"]}
    assert heard <= present


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_daemon_with_0_and_no_traceback(home: Path, number: signal.Signals) -> None:
    daemon = Daemon(home).start()
    daemon.signal(number)
    assert daemon.wait() == 0
    assert not daemon.socket.exists()
    assert "Traceback" not in daemon.stderr()
    assert not list(home.glob("state/*-wal")), "the store is one whole file"
    serves(home)


def test_a_second_signal_while_draining_changes_nothing(home: Path) -> None:
    with Daemon(home) as daemon:
        never_reads = Pack(daemon.socket)
        with Pack(daemon.socket) as peer:
            for number in range(8):
                peer.reply("put", key=f"k{number}", value="x" * 120_000)
        never_reads.send(Pack.encode(1, "range", {}) * 3)
        time.sleep(0.1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            daemon.signal(number)
            time.sleep(0.05)
        never_reads.close()
        assert daemon.wait() == 0
        daemon.start()


def test_a_client_that_never_reads_holds_up_the_end_only_for_the_time_that_draining_has(home: Path) -> None:
    with Daemon(home) as daemon:
        with Pack(daemon.socket) as peer:
            for number in range(8):
                peer.reply("put", key=f"k{number}", value="x" * 120_000)
        with Pack(daemon.socket) as never_reads:
            never_reads.send(Pack.encode(1, "range", {}) * 2 + Pack.encode(1, "put", {"key": "a", "value": 1}))
            time.sleep(0.1)
            daemon.signal(signal.SIGTERM)
            assert daemon.wait(20) == 0
        daemon.start()


def test_admin_stop_is_answered_before_the_daemon_goes(home: Path) -> None:
    daemon = Daemon(home).start()
    with Json(daemon.socket) as peer:
        assert peer.reply("admin.stop")["pid"] == daemon.pid
        assert [answer.kind for answer in peer.until_ended()] == ["goodbye"]
    assert daemon.wait() == 0


def test_sighup_changes_nothing(daemon: Daemon) -> None:
    with Pack(daemon.socket) as peer:
        daemon.signal(signal.SIGHUP)
        assert peer.reply("ping")["pid"] == daemon.pid


@pytest.mark.skipif(MEASURED, reason="coverage runs before our first line")
@pytest.mark.timeout(60)
def test_ctrl_c_at_any_moment_of_the_start_leaves_a_state_that_the_next_start_takes(home: Path) -> None:
    filled(home)
    for step in range(20):
        process = subprocess.Popen(
            [sys.executable, "-m", "cosessiond"], env=environment(home), cwd="/", stderr=subprocess.PIPE, text=True
        )
        time.sleep(step * 0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        if process.returncode == 1:
            continue  # before the interpreter itself was up
        assert process.returncode in (0, 130, -signal.SIGINT), (step, said)
        assert not [line for line in said.splitlines() if "File " in line and "/cosession" in line], (step, said)
    serves(home, keys=3)


# -- a sudden end ----------------------------------------------------------------------------------------------------


@BOTH
def test_what_was_acknowledged_before_sigkill_is_there_after_it(daemon: Daemon, encoding: type[Peer]) -> None:
    """Three times over the same store, in the middle of a burst."""
    acknowledged: dict[str, int] = {}
    for round_ in range(3):
        with encoding(daemon.socket) as peer:
            calls = [(number, {"key": f"{round_}/{number}", "value": number}) for number in range(1, 3001)]
            sender = in_background(peer, b"".join(encoding.encode(number, "put", params) for number, params in calls))
            answers = peer.take(100 + 200 * round_)
            daemon.kill()
            answers += _what_had_come(peer)
            sender.join(10)
        for answer in answers:
            assert answer.kind == "reply"
            acknowledged[f"{round_}/{answer.id}"] = answer.body["written"]["mod_revision"]
        daemon.start()
        with Pack(daemon.socket) as peer:
            for key, revision in acknowledged.items():
                entry = peer.reply("get", key=key)["entry"]
                assert entry, key
                assert entry["mod_revision"] == revision


def _what_had_come(peer: Peer) -> list[Answer]:
    found = []
    try:
        while True:
            found.append(peer.next())
    except Ended:
        return found


# -- the background --------------------------------------------------------------------------------------------------


@pytest.fixture
def detached(home: Path) -> Iterator[Daemon]:
    """What knows of a detached daemon of `home`; ends it if it runs."""
    daemon = Daemon(home)
    yield daemon
    for process in daemon.processes():
        process.terminate()
        process.wait(10)


def pid_of(daemon: Daemon) -> int:
    with Pack(daemon.socket) as peer:
        return int(peer.reply("ping")["pid"])


def test_detach_returns_when_the_socket_answers(detached: Daemon) -> None:
    ended = attempt(detached.home, "--detach")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert detached.accepts(), "at once, without waiting"
    pid = pid_of(detached)
    process = psutil.Process(pid)
    assert process.cwd() == "/"
    assert os.getsid(pid) not in (os.getsid(0), pid), "a session of its own, that it cannot get a terminal in"
    assert process.terminal() is None
    assert process.ppid() != os.getpid()
    assert (detached.home / "log" / "daemon.log").exists()
    assert refusal(detached.home, "--detach", code=EXIT_RUNNING)
    assert pid_of(detached) == pid
    process.terminate()
    eventually(lambda: not detached.socket.exists(), "the detached daemon ends in order")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors of another process are seen in /proc only")
def test_a_detached_daemon_has_no_descriptor_of_whoever_started_it(detached: Daemon) -> None:
    reading, writing = os.pipe()
    high = os.dup2(writing, 5000)
    try:
        ended = attempt(detached.home, "--detach", pass_fds=(writing, high))
        assert ended.returncode == 0
        os.close(writing)
        os.close(high)
        writing = high = -1
        ready, _, _ = select.select([reading], [], [], 5)
        assert ready, "the daemon holds the other end of a pipe of its starter"
        assert os.read(reading, 1) == b""
        held = Path(f"/proc/{pid_of(detached)}/fd")
        links = {str(each.readlink()) for each in held.iterdir() if each.is_symlink()}
        standard = [str((held / str(number)).readlink()) for number in range(3)]
        assert standard == ["/dev/null"] * 3
        inside = (str(detached.home), "/dev/null", "socket:", "pipe:", "anon_inode:", "/dev/urandom")
        assert all(link.startswith(inside) for link in links), links
    finally:
        for descriptor in (reading, writing, high):
            if descriptor >= 0:
                os.close(descriptor)


def test_detach_returns_the_reason_when_the_daemon_cannot_start(detached: Daemon) -> None:
    (detached.home / "state").mkdir(mode=0o755)
    (detached.home / "state").chmod(0o755)
    assert "chmod 700" in refusal(detached.home, "--detach", code=EXIT_CONFIG)
    (detached.home / "state").chmod(0o700)
    configure(detached.home, connections_max=0)
    assert "connections_max" in refusal(detached.home, "--detach", code=EXIT_CONFIG)
    (detached.home / "config" / "config.toml").unlink()
    (detached.home / "log").mkdir(mode=0o700, exist_ok=True)
    (detached.home / "log").chmod(0o755)
    assert str(detached.home / "log") in refusal(detached.home, "--detach", code=EXIT_CONFIG)
    assert not detached.processes()


def test_a_detached_daemon_survives_the_end_of_its_starter_s_session(detached: Daemon) -> None:
    ended = attempt(detached.home, "--detach", start_new_session=True)
    assert ended.returncode == 0
    assert psutil.pid_exists(pid_of(detached))


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--detach", "--more"], ["start"]])
def test_arguments_that_are_none_are_refused(home: Path, arguments: list[str]) -> None:
    ended = attempt(home, *arguments)
    assert ended.returncode == 64
    assert "see cosessiond --help" in ended.stderr
    assert not list(home.iterdir())


def test_help_and_version_touch_nothing(home: Path) -> None:
    assert "examples:" in attempt(home, "--help").stdout
    assert attempt(home, "--version").stdout.startswith("cosessiond ")
    assert not list(home.iterdir())


# -- the log ---------------------------------------------------------------------------------------------------------


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_without_a_terminal_the_log_is_one_json_object_a_line(home: Path) -> None:
    with Daemon(home) as daemon:
        with Pack(daemon.socket) as peer:
            peer.reply("put", key="a", value=1)
        assert daemon.stop() == 0
        logged = events(daemon.stderr())
        assert [event["event"] for event in logged] == ["ready", "stopping", "backed up", "stopped"]
        assert {event["level"] for event in logged} == {"info"}
        assert {event["pid"] for event in logged} == {logged[0]["pid"]}
        assert all(event["timestamp"].endswith("Z") for event in logged)
        daemon.start()


def test_a_detached_daemon_logs_to_its_file_for_its_user_alone(detached: Daemon) -> None:
    attempt(detached.home, "--detach")
    log = detached.home / "log" / "daemon.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert events(log.read_text())[0]["event"] == "ready"


def test_on_a_terminal_the_log_is_for_people(home: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "cosessiond"], env={**environment(home), "NO_COLOR": "1"}, cwd="/", stderr=theirs
        )
        daemon = Daemon(home)
        eventually(daemon.accepts, "the daemon serves")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "ready" in shown
    assert "stopped" in shown
    assert "\x1b" not in shown, "NO_COLOR is heard"
    assert not shown.startswith("{")


def test_what_clients_send_never_breaks_a_line_of_the_log(home: Path) -> None:
    nasty = '\n{"event": "forged"}\x1b[2J\u2028'
    configure(home, connections_max=5)
    (home / "config" / "config.toml").write_text('[limits]\nconnections_max = 5\n[log]\nlevel = "debug"\n')
    with Daemon(home) as daemon:
        with Pack(daemon.socket) as peer:
            peer.reply("hello", client=nasty, version=nasty)
            peer.reply("put", key="a", value=nasty)
            for method, params in (
                (nasty, {}),
                ("get", {"key": nasty}),
                ("session.register", {"name": nasty, "cwd": nasty}),
            ):
                peer.call(method, **params)
            crowd = [Pack(daemon.socket) for _ in range(8)]
            for each in crowd:
                each.close()
        assert daemon.stop() == 0
        logged = events(daemon.stderr())
        assert not [event for event in logged if event["event"] == "forged"]
        assert "\x1b" not in daemon.stderr()
        daemon.start()


@pytest.mark.parametrize("broken", ["full", "gone"])
def test_a_log_that_cannot_be_written_harms_nobody(home: Path, broken: str) -> None:
    """A full disk, or whoever read it has gone: the daemon serves and ends all the same."""
    if broken == "full":
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full here")
        sink = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, sink = os.pipe()
        os.close(reading)
    configure(home, connections_max=5)
    try:
        process = subprocess.Popen([sys.executable, "-m", "cosessiond"], env=environment(home), cwd="/", stderr=sink)
    finally:
        os.close(sink)
    daemon = Daemon(home)
    try:
        eventually(lambda: daemon.accepts() or process.poll() is not None, "the daemon serves")
        assert process.poll() is None, "it has ended"
        with Pack(daemon.socket) as peer:
            crowd = [Pack(daemon.socket) for _ in range(8)]  # near a limit, which is logged
            for each in crowd:
                each.close()
            assert peer.reply("put", key="a", value=1)
    finally:
        process.terminate()
        code = process.wait(10)
    assert code == 0
    assert not daemon.socket.exists()
    serves(home, keys=1)
