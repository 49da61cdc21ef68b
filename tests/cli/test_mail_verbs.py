"""send and inbox: as users run them, with the mistakes of a stranger."""

from __future__ import annotations

import json
import signal

import pytest

from cli.conftest import FINISH_S
from cosession import sync


@pytest.fixture
def otter(daemon, tmp_path, monkeypatch):
    """A session of this process, for which its commands act."""
    monkeypatch.chdir(tmp_path)
    with sync.connect(daemon.socket) as client, client.session(name="otter", heartbeat_s=0) as session:
        yield session


@pytest.fixture
def heron(daemon, otter):  # noqa: ARG001 - it comes second
    with sync.connect(daemon.socket) as client, client.session(name="heron", heartbeat_s=0) as session:
        yield session


def test_sent_listed_and_read(cli, otter, heron):
    as_otter, as_heron = ({"COSESSION_SESSION": each.id} for each in (otter, heron))
    id = cli.ok("send", "heron", "-", "--importance", "high", stdin="two\nlines", env=as_otter).out.strip()
    assert cli.ok("inbox", "heron", "--json").json["letters"][0]["state"] == "queued", "a look is no reading"
    kept = cli.ok("inbox", "--keep", env=as_heron).out
    assert kept.startswith("otter, just now, high, thread ")
    assert kept.endswith("\n  two\n  lines\n")
    (letter,) = cli.ok("inbox", "--json", env=as_heron).json["letters"]
    assert (letter["id"], letter["text"], letter["sender"]) == (id, "two\nlines", otter.id)
    assert "no unread letters" in cli.ok("inbox", env=as_heron).out, "what was printed is read"
    assert cli.ok("inbox", "--all", "--json", env=as_heron).json["letters"][0]["state"] == "read"
    reply = cli.ok("send", "otter", "done", "--thread", id, "--json", env=as_heron).json
    assert reply["to"] == [otter.id]
    assert f"thread {id}" in cli.ok("inbox", env=as_otter).out
    all_of_us = cli.run("send", "--all", "tests are red", env=as_otter)
    assert (all_of_us.code, all_of_us.err) == (0, "cosession: sent to 1 session\n")
    assert "to all" in cli.ok("inbox", env=as_heron).out


def test_following_prints_each_as_it_comes_and_reads_it(cli, otter):
    otter.send("otter", "before")
    process = cli.popen("inbox", "--follow", "--json")
    try:
        assert json.loads(process.stdout.readline())["text"] == "before"
        otter.send("otter", "after \x1b[2J")
        line = process.stdout.readline()
        assert b"\x1b" not in line
        assert json.loads(line)["text"] == "after \x1b[2J"
        process.send_signal(signal.SIGINT)
        assert process.wait(FINISH_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert len(otter.inbox()) <= 1, "at most the last one, which Ctrl-C may have overtaken"
    otter.send("otter", "counted")
    assert "counted" in cli.ok("inbox", "--follow", "--count", "2" if len(otter.inbox()) > 1 else "1").out
    assert otter.inbox() == []


def test_mistakes_of_a_stranger(cli, otter):
    assert "did you mean 'otter'?" in cli.refused(1, "send", "oter", "x").err
    assert "it takes a session and TEXT" in cli.refused(64, "send", "x").err
    assert "it takes TEXT with --all" in cli.refused(64, "send", "--all", "a", "b").err
    assert "no other session lives" in cli.refused(1, "send", "--all", "x").err
    assert "--importance takes low, normal, high" in cli.refused(64, "send", "otter", "x", "--importance", "huge").err
    assert "--all excludes it" in cli.refused(64, "inbox", "--all", "--follow").err
    assert "into the context" in cli.refused(65, "send", "otter", "-", stdin="x" * 9_000).err
    otter.close()
    assert "register a session first" in cli.refused(77, "send", "otter", "x").err
    assert "register a session first" in cli.refused(77, "inbox").err


def test_what_others_wrote_cannot_move_the_cursor(cli, otter):
    otter.send("otter", "red \x1b[31m\r\x9b2J\u202e\nfake: line\n\x1b]0;title\x07")
    shown = cli.ok("inbox", "--keep").out
    assert "\x1b" not in shown
    assert "\\u001b[31m" in shown
    assert "\n  fake: line\n" in shown, "a line of the text never looks like one of ours"
    assert not {"\x9b", "\u202e", "\x07", "\r"} & set(shown)
