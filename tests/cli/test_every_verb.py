"""What holds for every verb: its examples are commands it takes, its output is plain where the terminal is.

A new verb belongs into COMMANDS here, with arguments that make it print a table or a value.
"""

from __future__ import annotations

import re
import shlex

import pytest

import cosession
from cosession.cli import main, options
from terminal import Terminal

ASCII = {"LANG": "C", "LC_ALL": ""}
#: What each verb is run with, in a project with the entries and sessions of `busy`.
COMMANDS = {
    "status": "",
    "sockname": "",
    "start": "",
    "get": "übung/größe",
    "put": "übung/größe '\"wörter\"'",
    "merge": 'übung/karte \'{"größe": "ü\\u009b"}\'',
    "add": "zähler",
    "append": "liste ü",
    "update": "übung/größe -- cat",
    "delete": "übung/nichts",
    "ls": "--long",
    "history": "übung/karte",
    "revert": "übung/ --to '0s ago' --dry-run",
    "purge": "übung/nichts",
    "diff": "übung/karte",
    "blame": "übung/karte",
    "txn": '\'{"then": [{"op": "put", "key": "ü", "value": "ä"}]}\'',
    "watch": "--count 3",
    "compact": "--keep 1",
    "backup now": "",
    "backup list": "",
    "backup verify": "",
    "sessions": "",
    "checkpoint": "--task übung --no-git",
    "checkpoint list": "",
    "checkpoint show": "ötter",
    "recover": "--all --plan",
    "audit": "--limit 1",
    "claim": "name:übung --for wörter",
    "claims": "--all",
    "why-not": "name:frei",
    "explain claim": "CLAIM",
    "release": "name:nichts",
    "send": "ötter grüße",
    "inbox": "--all",
    "explain session": "ötter",
    "hook": "claude Stop",
    "metrics": "",
    "config show": "--origin",
    "config check": "",
    "config path": "",
    "completion": "bash",
    "debug ping": "",
    "debug call": 'get \'{"key": "übung/größe"}\'',
    "debug clients": "",
    "debug watches": "",
    "debug tasks": "",
    "debug queues": "",
    "debug locks": "",
    "debug trace": "on",
    "debug loglevel": "",
    "debug statedir": "",
    "debug metrics": "",
}
#: They print a table, which fits the narrowest terminal that people have.
TABLES = {"ls", "history", "diff", "blame", "backup list", "sessions", "audit", "claims", "watch"}
TABLES |= {f"debug {name}" for name in ("clients", "watches", "queues", "locks", "trace", "statedir", "metrics")}
#: They have tests of their own, since the daemon or the whole environment is theirs, or a daemon in the background.
APART = {"demo", "stop", "restart", "logs", "backup restore", "backup export", "rescue", "doctor", "salvage"}
APART |= {f"service {verb}" for verb in ("install", "uninstall", "status", "restart", "logs")}
APART |= {"preflight", "checklist", "services", "services restart"}
APART |= {"debug raw", "debug tail", "debug record", "debug replay"}
#: It ends what it is run on.
APART |= {"simulate crash"}


@pytest.fixture
def busy(cli, daemon, monkeypatch):
    """A daemon with entries, a living session and a claim that ASCII cannot show."""
    cli.ok("put", "übung/größe", '"wörter \u202e\x1b[31m"')
    cli.ok("put", "übung/karte", '{"a": "漢字"}')
    with (
        cosession.connect(socket=str(daemon.socket)) as client,
        client.session(agent="tést", name="ötter") as session,
        session.claim("name:größe", purpose="\u6f22\u5b57") as claim,
    ):
        monkeypatch.setitem(COMMANDS, "explain claim", claim.id)
        session.send("ötter", "wörter \u202e\x1b[31m\nand more", importance="high")
        yield cli


def test_every_verb_is_listed():
    missing = set(main.VERBS) - set(COMMANDS) - APART
    assert not missing, f"say in COMMANDS how to run: {', '.join(sorted(missing))}"
    assert not set(COMMANDS) - set(main.VERBS), "no such verb"


def test_every_verb_is_plain_in_a_pipe(busy):
    for verb, arguments in COMMANDS.items():
        result = busy.ok(*verb.split(), *shlex.split(arguments))
        shown = result.out.replace("\x1b[31m", "") if verb in ("get", "update") else result.out
        if verb != "completion":
            assert "\x1b" not in shown, f"{verb}: a pipe gets no escape"
    for verb, arguments in COMMANDS.items():
        if verb != "completion":
            told = busy.ok(*verb.split(), "--json", *shlex.split(arguments)).out
            assert told.count("\n") == (3 if verb == "watch" else 1), verb
            assert "\x1b" not in told, verb


def test_every_verb_is_ascii_where_the_terminal_is(busy):
    for verb, arguments in COMMANDS.items():
        command = busy.popen_command(*verb.split(), *shlex.split(arguments))
        if verb == "hook":  # it takes no event from a terminal
            continue
        with Terminal(command, env={**busy.env, **ASCII, "NO_COLOR": "1"}, cwd=busy.cwd, columns=60) as terminal:
            assert terminal.finish() == 0, (verb, terminal.screen)
            assert terminal.raw.isascii(), verb
            if verb in TABLES:
                shown = [line for line in terminal.raw.decode().splitlines() if not line.startswith("cosession: ")]
                assert max(map(len, shown), default=0) <= 60, (verb, shown)
            if verb not in ("watch", "completion"):  # a status line is wiped; a script is what it is
                colour = terminal.raw.replace(b"\r\x1b[K", b"")  # a bar, where the machine is slow, is wiped so
                assert b"\x1b" not in colour, f"{verb}: NO_COLOR is set"


def test_help_is_ascii(nowhere):
    for verb in main.VERBS:
        assert nowhere.ok(*verb.split(), "--help", env=ASCII).out.isascii(), verb


def commands_of(example: str) -> list[list[str]]:
    """The words behind each `cosession` of an example, whatever the shell does around it."""
    flat = re.sub(r'"?\$\(([^)]*)\)"?', r"; \1 ;", example)
    words = list(shlex.shlex(flat, posix=True, punctuation_chars="|><;&"))
    found: list[list[str]] = []
    for word in words:
        if word == "cosession":
            found.append([])
        elif re.fullmatch(r"[|><;&]+", word):
            if found:
                found[-1].append("\0")  # the command ends here
        elif found and "\0" not in found[-1]:
            found[-1].append(word)
    return [[word for word in each if word != "\0"] for each in found]


@pytest.mark.parametrize("name", list(main.VERBS))
def test_every_example_is_a_command_that_the_verb_takes(name):
    verb = main.load(main.VERBS[name])
    assert verb.examples
    for example, about in verb.examples:
        assert about
        commands = commands_of(example)
        assert commands, example
        own = [words for words in commands if words[: len(name.split())] == name.split()]
        assert own, f"{example}: an example of {name} runs {name}"
        for words in own:
            given = options.parse(verb, words[len(name.split()) :])
            assert given is not None, example


def test_the_reading_of_examples_would_see_a_wrong_one():
    verb = main.load(main.VERBS["get"])
    assert commands_of("git diff | cosession put k --string - > x; cosession get") == [
        ["put", "k", "--string", "-"],
        ["get"],
    ]
    with pytest.raises(cosession.InvalidRequest):
        options.parse(verb, commands_of("cosession get k --on 3 | cat")[0][1:])


def test_a_key_that_is_not_there_is_answered_with_the_nearest(cli):
    for key in ("plan", "plan/next", "other/next"):
        cli.ok("put", key, "1")
    assert ", did you mean plan?; see: cosession ls" in cli.refused(1, "get", "plna").err
    assert ", did you mean plan/next?" in cli.refused(1, "get", "plan/nxet").err
    assert ", did you mean plan/next?" in cli.refused(1, "history", "plan/nxt").err
    assert "did you mean" not in cli.refused(1, "get", "xyzzy").err
    assert "did you mean" not in cli.refused(1, "get", "plan/xyzzy").err, "that they have a parent in common is nothing"
    assert "did you mean" not in cli.refused(1, "get", "plan/nxet", "--project", "empty").err
    assert cli.run("get", "plna", "--json").error["code"] == "not_found"
    assert "did you mean plan?" in cli.refused(1, "get", "plam", "--at", "1").err
