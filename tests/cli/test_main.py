"""The front door: help, unknown words, errors in both forms, Ctrl-C, a reader that hangs up."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

import cosession
from cosession.cli.main import VERBS
from harness import MEASURED


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_verb(nowhere, arguments):
    out = nowhere.ok(*arguments).out
    for verb in VERBS:
        assert f"\n  {verb} " in out


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_with_examples(nowhere, verb):
    for arguments in ((*verb.split(), "--help"), ("help", *verb.split())):
        out = nowhere.ok(*arguments).out
        assert out.startswith(f"usage: cosession {verb}")
        assert "\nexamples:\n" in out
        assert "--json" in out


def test_version(nowhere):
    assert nowhere.ok("--version").out == f"cosession {cosession.__version__}\n"


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (("gte",), "did you mean get?"),
        (("session",), "did you mean sessions?"),
        (("debug", "pong"), "did you mean debug ping?"),
        (("explain", "sesion", "x"), "did you mean explain session?"),
        (("xyzzy",), "there is no such verb; do: cosession --help"),
        (("--no-such",), "no such option"),
        (("bad\x1b[31m\u202e",), "\\u001b[31m\\u202e"),
    ],
)
def test_an_unknown_word_is_exit_64_with_a_guess(nowhere, words, guess):
    err = nowhere.refused(64, *words).err
    assert guess.replace("\\u001b", "\\x1b") in err or guess in err
    assert err.rstrip("\n").isprintable()


def test_an_unknown_word_as_json(nowhere):
    error = nowhere.run("--json", "gte").error
    assert error["code"] == "unknown_method"
    assert error["retryable"] is False


def test_a_group_lists_its_verbs(nowhere):
    out = nowhere.ok("debug").out
    assert "cosession debug ping" in out
    assert "cosession debug call" in out
    assert "one of: cosession explain session" in nowhere.refused(64, "explain", "x").err


def test_options_may_stand_before_the_verb(cli):
    cli.ok("--project", "p1", "put", "k", "1")
    assert cli.ok("--json", "--project=p1", "get", "k").json["value"] == 1


@pytest.mark.parametrize(
    "arguments", [("get", "k"), ("status",), ("watch",), ("stop", "--timeout", "x"), ("debug", "ping")]
)
def test_without_a_daemon_the_message_says_what_to_do(nowhere, arguments):
    code = 64 if "x" in arguments else 69
    err = nowhere.refused(code, *arguments).err
    assert "cosession start" in err or "--help" in err
    error = nowhere.run(*arguments, "--json").error
    assert error["code"] == ("invalid_params" if "x" in arguments else "unreachable")


def test_a_socket_path_that_is_too_long(nowhere):
    nowhere.env["COSESSION_SOCKET"] = "/tmp/" + "x" * 200
    assert "limit" in nowhere.refused(78, "get", "k").err


def test_what_is_at_the_socket_is_no_socket(nowhere, home):
    (home / "file").write_text("")
    err = nowhere.refused(69, "get", "k", "--socket", str(home / "file")).err
    assert err.endswith("; name the socket of a running daemon, or none\n"), "a start would not listen there"


def test_a_daemon_that_does_not_answer_is_given_up(nowhere, home):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / "silent"))
        silent.listen()
        began = time.monotonic()
        err = nowhere.refused(75, "get", "k", "--socket", str(home / "silent"), "--timeout", "0.3").err
        assert f"pid {os.getpid()} gave no answer within 0.3 s" in err
        assert "kill" not in err, "nothing says that this process is a daemon"
        put = nowhere.run("put", "k", "1", "--socket", str(home / "silent"), "--timeout", "0.3", "--json")
        assert (put.code, put.error["code"]) == (75, "timed_out"), "the write itself was never sent"
        assert time.monotonic() - began < 10


class Scripted:
    """A daemon that plays one script per connection: an epoch, and what it does with the put it is sent."""

    def __init__(self, path: Path, *scripts: tuple[str, str]) -> None:
        self.puts: list[dict] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._play, args=(scripts,), daemon=True).start()

    def _play(self, scripts: tuple[tuple[str, str], ...]) -> None:
        for epoch, action in scripts:
            peer, _ = self._socket.accept()
            with peer, peer.makefile("rw") as lines:
                for line in lines:
                    call = json.loads(line)
                    answer = {"jsonrpc": "2.0", "id": call["id"]}
                    if call["method"] == "ping":
                        answer["result"] = {"pid": 1, "version": "0", "epoch": epoch, "revision": 1}
                    else:
                        self.puts.append(call["params"])
                        if action == "hang up":
                            break
                        if action == "say nothing":
                            continue
                        if action == "leave":
                            error = {"code": "shutting_down", "retryable": True}
                            answer["error"] = {"code": -32031, "message": "cannot write: leaving", "data": error}
                        else:
                            written = {"mod_revision": 7, "replaced_session": "", "session": ""}
                            answer["result"] = {"written": written, "revision": 7}
                    lines.write(json.dumps(answer) + "\n")
                    lines.flush()
        self._socket.close()


def put_to(cli, home, *scripts: tuple[str, str]):
    daemon = Scripted(home / "scripted", *scripts)
    return cli.run("put", "k", "1", "--socket", str(home / "scripted"), "--timeout", "2", "--json"), daemon.puts


def test_a_write_whose_answer_was_lost_is_repeated_under_its_request_id(nowhere, home):
    result, puts = put_to(nowhere, home, ("e1", "hang up"), ("e1", "leave"), ("e1", "answer"))
    assert result.json["mod_revision"] == 7
    assert len(puts) == 3
    assert len({put["request_id"] for put in puts}) == 1
    assert len(puts[0]["request_id"]) == 32


@pytest.mark.parametrize(
    "scripts",
    [
        [("e1", "say nothing")],
        [("e1", "hang up")],
        [("e1", "hang up"), ("e2", "answer")],
        [("e1", "hang up"), ("e1", "leave")],
    ],
)
def test_a_write_whose_answer_never_comes_is_unknown(nowhere, home, scripts):
    result, puts = put_to(nowhere, home, *scripts)
    assert (result.code, result.error["code"]) == (75, "unknown_outcome")
    assert result.error["data"] == {"request_id": puts[0]["request_id"]}
    assert all(put["request_id"] == puts[0]["request_id"] for put in puts)
    assert len(puts) == sum(epoch == "e1" for epoch, _ in scripts), "never repeated in another epoch"


def test_a_write_that_was_refused_for_sure_is_not_unknown(nowhere, home):
    result, puts = put_to(nowhere, home, ("e1", "leave"))
    assert result.error["code"] in ("unreachable", "timed_out")
    assert len(puts) == 1


def test_an_answer_that_is_garbage_is_no_traceback(nowhere, home):
    answers = [b"garbage\n", b"[]\n", b'{"jsonrpc":"2.0"', b"\xff\xfe\n", b'{"id": 7, "result": {}}\n']
    with socket.socket(socket.AF_UNIX) as liar:
        liar.bind(str(home / "liar"))
        liar.listen()

        def lie() -> None:
            for answer in answers:
                peer, _ = liar.accept()
                peer.recv(4096)
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(4096)
                peer.close()

        thread = threading.Thread(target=lie, daemon=True)
        thread.start()
        for _ in range(2):
            assert nowhere.run("get", "k", "--socket", str(home / "liar"), "--timeout", "2").code == 65
        while thread.is_alive():
            assert nowhere.run("get", "k", "--socket", str(home / "liar"), "--timeout", "0.5").code in (65, 69, 75)
            thread.join(0.1)


def test_a_reader_that_hangs_up_ends_it_quietly(cli):
    cli.ok("put", "k", "x" * 100_000)
    process = cli.popen("get", "k")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_cannot_be_written_is_an_error(cli):
    cli.ok("put", "k", "x")
    with Path("/dev/full").open("wb") as full:
        process = cli.popen("get", "k", stdout=full)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 70
    assert b"No space left" in err
    assert b"Traceback" not in err
    assert b"Exception" not in err


def test_closed_standard_streams_are_no_traceback(cli):
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *cli.popen_command("status")],
            env=cli.env,
            cwd=cli.cwd,
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert b"Traceback" not in done.stderr, closed
        assert done.returncode == 0, (closed, done.stderr)


@pytest.mark.skipif(MEASURED, reason="coverage runs before our first line")
def test_ctrl_c_is_exit_130_without_a_traceback(cli):
    process = cli.popen("put", "k", "-", stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    time.sleep(0.5)  # it waits for standard input
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert cli.run("get", "k").code == 1


def on_a_terminal(cli, *arguments: str, **env: str) -> str:
    """What a command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = cli.popen_command(*arguments)
    with subprocess.Popen(command, env={**cli.env, "TERM": "xterm", **env}, cwd=cli.cwd, stdout=theirs) as process:
        os.close(theirs)
        told = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not more:
                break
            told += more
    os.close(ours)
    assert process.returncode == 0
    return told.decode().replace("\r\n", "\n")


def test_on_a_terminal_there_is_colour_and_nothing_foreign_gets_through(cli):
    cli.ok("put", "k", "two\nlines \x1b[2J\u202e")
    assert on_a_terminal(cli, "get", "k") == "two\nlines \\u001b[2J\\u202e\n"
    listed = on_a_terminal(cli, "ls", "--long")
    assert listed.startswith("\x1b[2mKEY ")
    assert "\x1b[2J" not in listed
    plain = on_a_terminal(cli, "ls", "--long", NO_COLOR="1")
    assert "\x1b" not in plain
    assert "\x1b" not in on_a_terminal(cli, "ls", "--long", TERM="dumb")


def test_on_a_terminal_long_lines_are_cut(cli):
    cli.ok("put", "k", "x" * 500)
    for arguments in (("ls", "--long"), ("history", "k"), ("watch", "--count", "1")):
        out = on_a_terminal(cli, *arguments, NO_COLOR="1")
        assert max(map(len, out.splitlines())) <= 80, arguments
        assert "\u2026" in out
    assert "x" * 500 in cli.ok("ls", "--long").out, "a pipe gets all of it"
