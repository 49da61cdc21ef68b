"""Completion in the shells themselves: somebody types, presses Tab and Enter, and the right command runs."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cosession
from cosession.cli import complete, main, options, quoting
from cosession.messages.store import TxnPut
from terminal import Terminal

#: Each key has a value of its own, which only `get` of exactly that key prints.
KEYS = {
    "plan/next": "value-next",
    "plan/with blank": "value-blank",
    "quo\"t'e$HOME`x`!\\z": "value-quotes",
    "col:on:s": "value-colons",
    "übung/größe 1": "value-umlauts",
    "glob*[a]?{b,c};&|<>(#)~=^%": "value-signs",
    "漢字": "value-wide",
    "c1\x9b2J\u202eend": "value-unprintable",
}
#: What is typed before Tab, and the value of the key that it must become.
TYPED = {
    "plan/w": "value-blank",
    '"plan/w': "value-blank",
    "'plan/w": "value-blank",
    "quo": "value-quotes",
    '"quo': "value-quotes",
    "'quo": "value-quotes",
    "col:o": "value-colons",
    '"col:': "value-colons",
    "üb": "value-umlauts",
    "glo": "value-signs",
    "'glo": "value-signs",
    "漢": "value-wide",
    "c1": "value-unprintable",
}
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
PROMPT = {
    "bash": "PS1='READY> '; bind 'set enable-bracketed-paste off'; set -o histexpand; ",
    "zsh": "PS1='READY> '; autoload -Uz compinit && compinit -D; setopt extendedglob; ",
    "fish": "function fish_prompt; echo 'READY> '; end; set -g fish_autosuggestion_enabled 0; ",
}


@pytest.fixture(params=list(START))
def shell(request):
    """Each shell that there is."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed: its completion was not driven; do: apt install {request.param}")
    return request.param


class Typing:
    """A person at a shell in a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    def line(self, text: str) -> str:
        """Type on a fresh line, with Tab where the text has it; what stands behind the prompt then, to the end."""
        self.terminal.type("\x15")
        since = self.terminal.screen.rindex("READY>")
        for index, part in enumerate(text.split("\t")):
            if index:
                self.terminal.type("\t")
            self.terminal.type(part)
            if part or index:
                self.terminal.read(3.0)
                self.terminal.settle(0.15)
        return self.terminal.screen[since + len("READY> ") :].rstrip()

    def run(self) -> str:
        """Press Enter; what was printed."""
        since = self.terminal.screen.rindex("READY>")
        self.terminal.type("\r")
        self.terminal.wait_until(lambda: "READY>" in self.terminal.screen[since + 6 :], "the next prompt")
        self.terminal.settle(0.1)
        return self.terminal.screen[since:]


@pytest.fixture
def at(shell, cli, tmp_path):
    """A shell with the completion script loaded, and `cosession` on its path."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "cosession"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(cli.popen_command())} "$@"\n')
    program.chmod(0o755)
    env = {
        **cli.env,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
    }
    with Terminal(START[shell], env=env, cwd=str(tmp_path), columns=160, rows=50) as terminal:
        load = "cosession completion fish | source" if shell == "fish" else f'eval "$(cosession completion {shell})"'
        terminal.settle()
        terminal.type(f"{PROMPT[shell]}{load}; echo loaded\r")
        terminal.wait_until(lambda: "READY>" in terminal.screen.partition("\nloaded")[2], "the prompt")
        yield Typing(terminal)


def test_a_completed_key_is_that_key_however_it_is_quoted(at, shell, cli):
    for key, value in KEYS.items():
        cli.ok("put", key, value)
    for typed, value in TYPED.items():
        if (shell, value) == ("fish", "value-unprintable"):
            continue  # it prints what it offers as it is, so such keys are not offered to it
        shown = at.line(f"cosession get {typed}\t")
        assert value in at.run(), f"{typed} became {shown}"


def test_verbs_options_and_what_they_take(at, cli):
    cli.ok("put", "k", "1")
    for typed, wanted in {
        "cosession sta\t": "cosession sta",
        "cosession sockn\t": "cosession sockname",
        "cosession deb\tpi\t": "cosession debug ping",
        "cosession get k --a\t": "cosession get k --at",
        "cosession --glob\tge\tk": "cosession --global get k",
        "cosession completion z\t": "cosession completion zsh",
        "cosession help expl\tse\t": "cosession help explain session",
        "cosession get --project glo\t": "cosession get --project global",
        "cosession get --project=glo\t": "cosession get --project=global",
    }.items():
        assert at.line(typed).startswith(wanted), typed
    assert "start" in at.line("cosession sta\t\t")
    assert "restart" not in at.line("cosession sta\t\t")


def test_a_session_is_completed_by_its_name(at, daemon):
    with cosession.connect(socket=str(daemon.socket)) as client, client.session(agent="test", name="otter the first"):
        at.line("cosession explain session ott\t")
        assert "verdict  alive" in at.run()
        at.line("cosession get --session ott\tnothing-there")
        assert "there is no such entry" in at.run()


def test_files_where_a_file_is_meant(at, tmp_path):
    (tmp_path / "a socket").touch()
    at.line("cosession get --socket a\\ so\tk")
    assert "a socket" in at.run()


def test_without_a_daemon_nothing_happens(at, daemon):
    daemon.stop()
    assert at.line("cosession get pl\t") == "cosession get pl"
    assert at.line("cosession nonsense pl\t") == "cosession nonsense pl"
    assert not daemon.socket.exists()


def offered(cli, *words: str) -> list[str]:
    """What `cosession complete` offers for the last word, without what it is."""
    first, *lines = cli.ok("complete", "fish", "--", "cosession", *words).out.splitlines()
    assert first == "words"
    return [line.partition("\t")[0] for line in lines]


def test_every_verb_and_option_is_offered(nowhere):
    assert set(offered(nowhere, "")) == {verb.split()[0] for verb in main.VERBS}
    for name, target in main.VERBS.items():
        *before, last = name.split()
        assert last in dict(complete.candidates(before, last[:2]))
        assert last in dict(complete.candidates(["help", *before], ""))
        wanted = {option.name for option in (*main.load(target).options, *options.COMMON)} | {"--help"}
        assert set(dict(complete.candidates(name.split(), "-"))) == wanted
    assert "--limit" not in dict(complete.candidates(["ls", "--limit", "3"], "-")), "it is given already"
    assert complete.candidates(["update", "k", "--"], "") == [("", "files")], "a command follows"


def fill(client, keys: list[str]) -> None:
    for start in range(0, len(keys), 100):
        client.txn(then=[TxnPut(key=key, value=0) for key in keys[start : start + 100]])


def test_many_keys_are_offered_up_to_the_next_slash(cli, daemon):
    with cosession.connect(socket=str(daemon.socket), project="many") as client:
        fill(client, [f"many/{index % 3}/{index:03}" for index in range(300)] + ["many/-x", "many"])
        assert offered(cli, "get", "--project", "many", "many/1/") == [f"many/1/{i:03}" for i in range(1, 300, 3)]
        assert offered(cli, "get", "--project", "many", "") == ["many", "many/"]
        assert offered(cli, "get", "--project", "many", "many/") == ["many/-x", "many/0/", "many/1/", "many/2/"]
        fill(client, [f"flat{index:03}" for index in range(250)] + ["-dash"])
        found = offered(cli, "get", "--project", "many", "")
        assert (found[0], len(found)) == ("flat000", 200)
        assert found[-1] == "many", "what is cut off does not look as if all began with flat"
        assert "-dash" not in found
        assert "-dash" in offered(cli, "get", "--project", "many", "--", "-")


def test_a_daemon_that_does_not_answer_costs_no_time(nowhere, home):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / "silent"))
        silent.listen()
        began = time.monotonic()
        assert offered(nowhere, "get", "--socket", str(home / "silent"), "p") == []
        assert 0.3 <= time.monotonic() - began < 10


@pytest.mark.parametrize("quote", ["", "'", '"', "$'"])
@settings(max_examples=30)
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), data=st.data())
def test_what_was_typed_and_the_rest_are_the_word(quote, value, data):
    cut = data.draw(st.integers(0, len(value)))
    start = quoting.rest_of(value[:cut], quoting.Typed([], "", quote))
    before = quoting.typed(f"cosession get {quote}{start}")
    assert (before.words, before.last, before.quote) == (["cosession", "get"], value[:cut], quote) or (
        not quote and not cut
    )
    rest = quoting.rest_of(value, before)
    assert (start + rest).isprintable()
    closing = quote[-1:]
    whole = quoting.typed(f"cosession get {quote}{start}{rest}{closing} ")
    assert (whole.words, whole.last) == (["cosession", "get", value], "")
    told = subprocess.run(
        ["bash", "-c", f"printf %s {quote}{start}{rest}{closing}"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert told.stdout.decode() == value
