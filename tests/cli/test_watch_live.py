"""The live view of `watch` on a real terminal: columns that stand still, what changed, how the watch stands."""

from __future__ import annotations

import json
import time

import pytest

from cosession.cli import changed
from harness import MEASURED
from terminal import Terminal


@pytest.fixture
def live(cli):
    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 100, **env: str) -> Terminal:
        command = cli.popen_command("watch", *arguments)
        env = {**cli.env, "LANG": "C.UTF-8", "NO_COLOR": "1", **env}
        opened.append(Terminal(command, env=env, cwd=cli.cwd, columns=columns))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def lines(terminal: Terminal) -> list[str]:
    return [line for line in terminal.screen.splitlines() if line]


def test_the_status_stands_below_the_lines_and_is_gone_at_the_end(cli, live):
    cli.ok("put", "k", "1")
    terminal = live()
    terminal.wait_for("caught up at revision 1")
    cli.ok("put", "k", "2")
    terminal.wait_for("caught up at revision 2")
    first, second, status = lines(terminal)
    assert (first.split()[1:4], second.split()[1:4]) == (["put", "k", "v1"], ["put", "k", "v2"])
    assert status == "caught up at revision 2"
    terminal.type("\x03")
    assert terminal.finish() == 0
    assert "caught up" not in terminal.screen
    assert len(lines(terminal)) in (2, 3), "the ^C is the terminal's own"


def test_what_changed_is_shown_and_not_the_head_of_what_did_not(cli, live):
    plan = {"about": "x" * 300, "step": 2, "done": ["parser"], "by": {"otter": 1, "heron": 1}}
    cli.ok("put", "plan", json.dumps(plan))
    terminal = live(columns=160)
    terminal.wait_for("caught up at revision 1")
    assert lines(terminal)[0].endswith("x\u2026")
    cli.ok("put", "plan", json.dumps({**plan, "step": 3, "done": ["parser", "tests"], "by": {"otter": 2}, "new": None}))
    terminal.wait_for("revision 2")
    assert lines(terminal)[1].endswith('step: 2 -> 3, done: +"tests", by.otter: 1 -> 2, -by.heron, +new: null')
    cli.ok("delete", "plan")
    cli.ok("put", "plan", "7")
    terminal.wait_for("revision 4")
    assert lines(terminal)[3].endswith(" 7"), "after the deletion there is nothing to compare with"


def test_the_columns_stand_still_and_no_line_wraps(cli, live):
    cli.ok("put", "k", '"value"')
    terminal = live(columns=80)
    terminal.wait_for("revision 1")
    cli.ok("put", "a/very/long/key/" + "deep/" * 10 + "end", json.dumps("y" * 200))
    cli.ok("put", "漢字/" * 20, '"value"')
    terminal.wait_for("revision 3")
    first, second, third, _ = lines(terminal)
    assert second.index("v1") == first.index("v1")
    assert "\u2026" in second.split()[2]
    assert second.split()[2].endswith("deep/end")
    assert max(len(first), len(second)) <= 80
    assert third.endswith("value")


def test_the_status_follows_the_size_of_the_terminal(cli, live):
    cli.ok("put", "k", json.dumps("z" * 300))
    terminal = live(columns=120)
    terminal.wait_for("revision 1")
    drawn = terminal.raw.count(b"caught up")
    terminal.resize(60)
    terminal.wait_until(lambda: terminal.raw.count(b"caught up") > drawn, "the status to be drawn again")
    cli.ok("put", "k", json.dumps("y" * 300))
    terminal.wait_for("revision 2")
    assert [len(line) for line in lines(terminal)] == [120, 60, len("caught up at revision 2")]


def test_a_daemon_that_is_away_is_said_and_nothing_is_missed(cli, daemon, live):
    cli.ok("put", "k", "1")
    terminal = live()
    terminal.wait_for("caught up at revision 1")
    for revision in (2, 3):
        daemon.kill()
        terminal.wait_for("daemon away for 1 s, waiting")
        daemon.start()
        cli.ok("put", "k", str(revision))
        terminal.wait_for(f"caught up at revision {revision}")
    assert [line.split()[3] for line in lines(terminal)[:3]] == ["v1", "v2", "v3"]
    assert "away" not in terminal.screen


def test_a_watch_through_many_restarts_has_no_gap_and_no_repeat(cli, daemon, tmp_path):
    with (tmp_path / "out").open("wb") as out:
        process = cli.popen("watch", "--json", stdout=out)
        for round_ in range(4):
            for value in range(5):
                cli.ok("put", f"k{value}", str(round_))
            daemon.kill()
            daemon.start()
        deadline = time.monotonic() + 20
        while (tmp_path / "out").read_bytes().count(b"\n") < 20:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        process.communicate()
    revisions = [json.loads(line)["mod_revision"] for line in (tmp_path / "out").read_text().splitlines()]
    assert revisions == list(range(1, 21))


@pytest.mark.skipif(MEASURED, reason="takes longer than it waits while coverage is measured")
def test_a_quiet_watch_says_so(cli, live):
    cli.ok("put", "k", "1")
    terminal = live()
    terminal.wait_for("caught up at revision 1, quiet for 2 s")


def test_ascii_and_no_status_where_the_terminal_can_do_no_more(cli, live):
    cli.ok("put", "übung", json.dumps("ü" * 300))
    ascii_only = live(LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    ascii_only.wait_for("caught up")
    assert ascii_only.raw.isascii()
    assert lines(ascii_only)[0].endswith("...")
    dumb = live(TERM="dumb")
    dumb.wait_for("put")
    dumb.settle()
    assert b"\x1b" not in dumb.raw
    assert "caught up" not in dumb.screen


def test_colour_on_a_terminal_only(cli, live):
    cli.ok("put", "k", "1")
    terminal = live("--count", "1", NO_COLOR="")
    terminal.finish()
    assert b"\x1b[32mput   \x1b[0m" in terminal.raw
    assert "\x1b" not in cli.ok("watch", "--count", "1").out


def test_sessions_live_and_die_on_a_terminal(cli, live):
    terminal = live("--sessions", columns=120)
    terminal.wait_for("caught up")
    cli.ok("debug", "call", "session.register", '{"agent": "test", "name": "otter", "heartbeat_s": 0}')
    terminal.wait_for("otter")
    assert "active" in lines(terminal)[0]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"a": 1}, {"a": 1}, "(the same value)"),
        ({"a": 1}, {"a": True}, "a: 1 -> true"),
        ({"a": 1.0}, {"a": 1}, "(the same value)"),
        ({"a": {"b": [1]}}, {"a": {"b": [2, 1]}}, "a.b: [1] -> [2, 1]"),
        ({}, {"a\x1b": "\u202e"}, '+a\\u001b: "\\u202e"'),
        ([1], [1, 2], "list: +2"),
        ([1], [2], "[1] -> [2]"),
        (1, 2, "1 -> 2"),
        ("a", "b", ""),
        ({"a": 1}, [], ""),
        (None, None, "(the same value)"),
        ({"k": "x" * 99}, {"k": "y"}, f'k: "{"x" * 22}\u2026 -> "y"'),
        (dict.fromkeys("abcdefghijklmnop", 0), {}, "-a, -b, -c, -d, -e, -f, -g, -h, -i, -j, -k, -l, ..."),
    ],
)
def test_what_changed_in_words(before, after, words, monkeypatch):
    monkeypatch.setattr("cosession.cli.render.is_utf8", lambda _=None: True)
    assert changed.changed(before, after) == words


def test_values_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(changed, "REMEMBERED_BYTES_MAX", 1000)
    remembered = changed.Remembered()
    for index in range(100):
        remembered.shown(f"k{index}", {"a": "x" * 90})
    assert remembered._bytes <= 1000
    assert len(remembered._values) == 10
    assert remembered.shown("k99", {"a": 1}).startswith("a: ")
    assert remembered.shown("k1", {"a": 1}) == '{"a": 1}', "forgotten"
